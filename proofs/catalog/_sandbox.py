"""What the deployed unit promises of its sandbox, property by property, and what differs from that.

A property is compared as `systemctl show` prints it. A bound is on the wide side alone: a unit that is confined more
keeps the promise. Not compared is what a property cannot loosen, as it is at its loosest by default (MemoryHigh=).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proofs.experiment.subject import CONFIG_DIR, STATE_DIR


@dataclass(frozen=True)
class Promise:
    """A bound as reports show it, and whether a property's value keeps it."""

    bound: str
    keeps: Callable[[str], bool]


def is_(*values: str) -> Promise:
    return Promise(" or ".join(value or "nothing" for value in values), lambda value: value in values)


def none_but(words: str = "") -> Promise:
    """A list of these words, or of fewer. One with ~ in front is of what is forbidden, so it permits the rest."""
    allowed = set(words.split())
    bound = f"none but {words}" if words else "nothing"
    return Promise(bound, lambda value: set(value.split()) <= allowed)


def all_of(words: str) -> Promise:
    """A list of these paths, or of more. A - in front is of one that may be missing."""
    least = set(words.split())
    return Promise(f"all of {words}", lambda value: {word.lstrip("-") for word in value.split()} >= least)


def at_most(most: int) -> Promise:
    return Promise(f"<= {most}", lambda value: value.isdigit() and int(value) <= most)


def at_least(least: int) -> Promise:
    return Promise(f">= {least}", lambda value: re.fullmatch(r"-?\d+", value) is not None and int(value) >= least)


def mode(most: int) -> Promise:
    return Promise(f"no bit beyond {most:04o}", lambda value: _octal(value) is not None and not _octal(value, most))


def _octal(value: str, without: int = 0) -> int | None:
    return int(value, 8) & ~without if re.fullmatch("[0-7]+", value) else None


def _masks(value: str) -> bool:
    return re.fullmatch("[0-7]+", value) is not None and int(value, 8) & 0o077 == 0o077


def _account(value: str) -> bool:
    return bool(value) and not value.isdigit() and not value.startswith("systemd-") and value not in _POWERFUL


def _binds(value: str) -> bool:
    """Nothing but what proofs bind: scratch directories of theirs over the unit's own."""
    inside = (str(STATE_DIR), str(CONFIG_DIR), "/opt/hybrid-engine/")
    pairs = [([*word.split(":"), ""])[:2] for word in value.split()]
    return all(source.startswith("/run/hybrid-proofs/") and place.startswith(inside) for source, place in pairs)


def _commands(value: str) -> bool:
    """Every command runs as the engine does: without a prefix that gives it more (flags of +, !, !!)."""
    return all(not flags.replace("ignore-failure", "").split() for flags in re.findall(r"; flags=([^;]*);", value))


_POWERFUL = {"root", "adm", "disk", "kmem", "mem", "shadow", "sudo", "wheel", "tty", "staff", "docker", "lxd", "kvm"}
_SYSTEMD_DEFAULT_MEMLOCK = 8 << 20
_YES, _NO, _NOTHING = is_("yes"), is_("no"), is_("")
_AS_THE_ENGINE = Promise("without a prefix that gives more", _commands)
_ACCOUNT = Promise("an account of its own", _account)

# By the check that holds them. What the templates set, and a quick test says that it is what they set.
SET: dict[str, dict[str, Promise]] = {
    "account": {
        "User": _ACCOUNT,
        "Group": _ACCOUNT,
        "UMask": Promise("0077 masked", _masks),
        "KeyringMode": is_("private"),
        "RemoveIPC": _YES,
    },
    "privileges": {
        "CapabilityBoundingSet": _NOTHING,
        "AmbientCapabilities": _NOTHING,
        "NoNewPrivileges": _YES,
        "PrivateUsers": _YES,
        "RestrictNamespaces": _YES,
        "RestrictRealtime": _YES,
        "RestrictSUIDSGID": _YES,
        "LockPersonality": _YES,
        "MemoryDenyWriteExecute": _YES,
    },
    "files": {
        "ProtectSystem": is_("strict"),
        "ProtectHome": _YES,
        "PrivateTmp": _YES,
        "InaccessiblePaths": all_of("/run/lock /dev/shm /dev/mqueue"),
        "PrivateMounts": _YES,
        "StateDirectory": none_but(STATE_DIR.name),
        "StateDirectoryMode": mode(0o750),
        "WorkingDirectory": is_(str(STATE_DIR)),
    },
    "kernel and devices": {
        "PrivateDevices": _YES,
        "DevicePolicy": is_("closed", "strict"),
        "ProtectProc": is_("invisible"),
        "ProtectClock": _YES,
        "ProtectHostname": _YES,
        "ProtectKernelLogs": _YES,
        "ProtectKernelModules": _YES,
        "ProtectKernelTunables": _YES,
        "ProtectControlGroups": _YES,
    },
    "system calls": {
        "SystemCallArchitectures": is_("native"),
        "SystemCallErrorNumber": is_("1", "EPERM", ""),
    },
    "network": {"RestrictAddressFamilies": none_but("AF_UNIX AF_INET AF_INET6")},
    "limits": {
        "Nice": at_least(10),
        "LimitNOFILE": at_most(4096),
        "MemoryMax": at_most(256 << 20),
        "TasksMax": at_most(64),
    },
}
# What they leave as systemd has it, and what of that would widen the sandbox.
LEFT: dict[str, dict[str, Promise]] = {
    "account": {"SupplementaryGroups": _NOTHING, "PAMName": _NOTHING, "DynamicUser": _NO},
    "privileges": {"SecureBits": is_("0"), "Personality": _NOTHING, "Delegate": _NO},
    "files": {
        "ReadWritePaths": _NOTHING,
        "BindPaths": Promise("a proof's scratch directories", _binds),
        "BindReadOnlyPaths": Promise("a proof's scratch directories", _binds),
        "TemporaryFileSystem": _NOTHING,
        "RuntimeDirectory": _NOTHING,
        "CacheDirectory": _NOTHING,
        "LogsDirectory": _NOTHING,
        "ConfigurationDirectory": _NOTHING,
        "RootDirectory": _NOTHING,
        "RootImage": _NOTHING,
        "MountImages": _NOTHING,
        "ExtensionImages": _NOTHING,
        "ExtensionDirectories": _NOTHING,
        "MountFlags": _NOTHING,
        "ExecPaths": _NOTHING,
    },
    "kernel and devices": {"DeviceAllow": Promise("none but char-rtc r", lambda value: value in ("", "char-rtc r"))},
    "network": {"NetworkNamespacePath": _NOTHING, "JoinsNamespaceOf": _NOTHING},
    "commands": {
        "ExecStartEx": _AS_THE_ENGINE,
        "ExecStartPreEx": Promise(
            "a proof's probe alone", lambda value: _commands(value) and value.count("path=") <= 1
        ),
        "ExecReloadEx": Promise("kill alone", lambda value: _commands(value) and value.count("path=/bin/kill ") <= 1),
        "ExecCondition": _NOTHING,
        "ExecStartPost": _NOTHING,
        "ExecStop": _NOTHING,
        "ExecStopPost": _NOTHING,
        "RootDirectoryStartOnly": _NO,
        "NotifyAccess": is_("main", "none"),
        "FileDescriptorStoreMax": is_("0"),
    },
    "limits": {
        "LimitNOFILESoft": at_most(4096),
        "LimitNICE": at_most(0),
        "LimitRTPRIO": at_most(0),
        "LimitMEMLOCK": at_most(_SYSTEMD_DEFAULT_MEMLOCK),
        "OOMScoreAdjust": at_least(0),
        "CPUSchedulingPolicy": is_("0", "3", "5"),  # other, batch, idle: none is of real time
        "CPUSchedulingPriority": is_("0"),
        "CPUWeight": Promise("<= 100", lambda value: value == "[not set]" or at_most(100).keeps(value)),
        "IOWeight": Promise("<= 100", lambda value: value == "[not set]" or at_most(100).keeps(value)),
        "MemoryMin": is_("0"),
        "MemoryLow": is_("0"),
    },
}
GROUPS = {name: SET.get(name, {}) | LEFT.get(name, {}) for name in (*SET, "commands")}
# Left out where a systemd prints nothing of an empty one (exec commands), or does not know it: 252 knows all others.
MAY_BE_MISSING = {"ExecStartPreEx", "ExecReloadEx", "ExecCondition", "ExecStartPost", "ExecStop", "ExecStopPost"}
FILTER, ALLOWED, DENIED = "SystemCallFilter", "IPAddressAllow", "IPAddressDeny"
SHOWN = (*(name for group in GROUPS.values() for name in group), FILTER, ALLOWED, DENIED)
PROPERTIES = f"--property={','.join(SHOWN)}"
# What `systemctl show` does not print is looked for in the unit's text.
_UNPRINTED = r"^((?:Load|Set|Import)Credential\w*|PermissionsStartOnly|OpenFile|PAMName)\s*=\s*\S.*$"
SERVICE, NOT_SERVICE = ("@system-service",), ("@privileged", "@resources")
_ANY, _LOCAL = {"0.0.0.0/0", "::/0"}, {"127.0.0.0/8", "::1/128"}
# Mounts of these are the kernel's and the host's; who may write there is told by what the engine's user can.
_OF_HOST = ("/dev", "/proc", "/sys", "/run")
WRITABLE = {str(STATE_DIR), "/tmp", "/var/tmp"}
# Of /proc/PID/status and /proc/PID/limits, as they are in force.
STATUS = {
    **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), is_("0" * 16)),
    "NoNewPrivs": is_("1"),
    "Seccomp": is_("2"),
    "Umask": SET["account"]["UMask"],
    "Uid": Promise("one, not root's", lambda value: len(set(value.split())) == 1 and value.split()[0] != "0"),
    "Gid": Promise("one, not root's", lambda value: len(set(value.split())) == 1 and value.split()[0] != "0"),
}
SHOWN_STATUS = (*STATUS, "Groups")
LIMITS = {
    "Max open files": at_most(4096),
    "Max locked memory": at_most(_SYSTEMD_DEFAULT_MEMLOCK),
    "Max nice priority": at_most(0),
    "Max realtime priority": at_most(0),
}
CGROUP = {"memory.max": SET["limits"]["MemoryMax"], "pids.max": SET["limits"]["TasksMax"]}


def shown(output: str) -> dict[str, str]:
    """Each property that was printed but the filter, of which the calls count; lines of one name together."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        name, equals, value = line.partition("=")
        if equals and name != FILTER:
            found[name] = f"{found[name]} {value}" if name in found else value
    # When a command of the unit ran, and as which process, is no part of it.
    return {name: re.sub(r" ; start_time=.*? }", "; }", value) for name, value in found.items()}


def calls_beyond(output: str, groups: str) -> list[str]:
    """Calls that the unit's filter permits beyond the promised groups, as they expand on this host.

    output: of `systemctl show`; groups: of `systemd-analyze syscall-filter`.
    """
    match = re.search(rf"^{FILTER}=(.+)$", output, re.M)
    if match is None or match[1].startswith("~"):
        return ["every call"]
    sets: dict[str, list[str]] = {}
    for line in groups.splitlines():
        if line.startswith("@"):
            words = sets.setdefault(line.strip(), [])
        elif sets and (word := line.strip()) and not line.startswith("#") and not word.startswith("#"):
            words.append(word)
    promised = _expanded(SERVICE, sets) - _expanded(NOT_SERVICE, sets)
    return sorted({word.partition(":")[0] for word in match[1].split()} - promised)


def _expanded(names: Iterable[str], sets: Mapping[str, list[str]]) -> set[str]:
    calls: set[str] = set()
    for name in names:
        calls |= _expanded(sets.get(name, ()), sets) if name.startswith("@") else {name}
    return calls


def unprinted(cat: str) -> list[str]:
    """Directives of the unit's text that give it more and that `systemctl show` does not print."""
    return sorted({match[1] for match in re.finditer(_UNPRINTED, cat, re.M)})


def status(text: str, *names: str) -> dict[str, str]:
    """These lines of /proc/PID/status, by their names."""
    lines = re.findall(r"^(\w+):[ \t]*(.*)$", text, re.M)
    return {name: " ".join(value.split()) for name, value in lines if name in names}


def limits(text: str) -> dict[str, str]:
    """Hard limits of /proc/PID/limits, by their names."""
    return dict(re.findall(r"^(Max [a-z ]+?) {2,}\S+ +(\S+)", text, re.M))


def writable_mounts(text: str) -> list[str]:
    """Of /proc/PID/mountinfo: mounts that are not read-only and not the kernel's, of several on one place the last."""
    lines = [line.split() for line in text.splitlines()]
    options = {words[4]: words[5].split(",") for words in lines if len(words) > 6}
    return sorted(place for place, words in options.items() if "rw" in words and not _of_host(place))


def _of_host(place: str) -> bool:
    return place in _OF_HOST or place.startswith(tuple(f"{folder}/" for folder in _OF_HOST))


def differences(values: Mapping[str, str], promises: Mapping[str, Promise]) -> list[str]:
    """Which values do not keep their promise; one that is not there keeps none."""
    found = []
    for name, promise in promises.items():
        value = values.get(name, "" if name in MAY_BE_MISSING else None)
        if value is None or not promise.keeps(value):
            found.append(f"{name}={'not known' if value is None else value}, promised {promise.bound}")
    return found


def peers_beyond(values: Mapping[str, str], loopback: bool) -> list[str]:
    """What the unit may reach beyond its peers. loopback: its configuration has none on another host."""
    denied, allowed = (set(values.get(name, "").split()) for name in (DENIED, ALLOWED))
    if not denied >= _ANY:
        return [f"{DENIED}={' '.join(sorted(denied))}, promised all"] if loopback else []
    return [f"{ALLOWED}={peer}" for peer in sorted(allowed - _LOCAL)] if loopback else []
