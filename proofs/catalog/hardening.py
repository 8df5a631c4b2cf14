"""hardening: what the sandbox is there to forbid is tried from inside it, and again by root outside as the control."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proofs.catalog import _sandbox
from proofs.catalog._checks import at_most
from proofs.catalog._steady import steady
from proofs.catalog.mutations import emptied, with_directives
from proofs.catalog.shadow import probe_output
from proofs.evidence.redaction import MARK
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case, NotSteady, Proof
from proofs.experiment.measurements import BadFigure, Count, Pid, Seconds
from proofs.experiment.subject import CONFIG_DIR, RELEASE, Subject
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.kind import kind_of_host
from proofs.host.shell import cgroup2_mount, read_text
from proofs.verdict import Check, Json, Result

EXPOSURE = 1.1  # the deployment's own threshold for a unit that may reach exchanges; with loopback alone it is lower
DROP_IN = "40-hardening.conf"
# Why not even root loads modules somewhere: for these reasons, and for no other that somebody may write down.
NO_MODULES = (
    "a container's root may not",
    "the kernel knows no modules",
    "kernel.modules_disabled is 1",
    "the kernel is locked down: integrity",
    "the kernel is locked down: confidentiality",
)
MODULE = "load a module"
# What is tried, and what the probe calls it.
TRIED = {
    "write its code": f"write={RELEASE}/bin/hybrid-engine",
    "write its config": f"write={CONFIG_DIR}/config.toml",
    "write to /etc": "write=/etc/passwd",
    "see another process": "see=1",
    "open a raw socket": "raw-socket",
    "open a packet socket": "packet-socket",
    "open a netlink socket": "netlink-socket",
    "gain a capability": "gain-capability",
    MODULE: "load-module",
    "make writable memory executable": "writable-code",
    "write to another's state": "write=/var/lib/dpkg/status",
    "list root's home": "list=/root",
    "list the homes": "list=/home",
    "mount a file system": "mount",
    "trace a process": "trace",
    "signal another process": "signal=1",
    "bind a privileged port": "privileged-port",
    "set a file's user on execution": "set-user-id",
    "set the host's name": "host-name",
    "connect to systemd": "connect=/run/systemd/private",
}
# The deployed configuration: what it says of the peers, without what an address may hold beside a loopback host.
_PEERS = r'^ingest_mode *= *"[A-Z_]+"|^(ws_)?url *= *"wss?://((localhost|127\.[0-9.]+|\[::1\])[:/"])?'
_CONFIGURATION = (f"{CONFIG_DIR}/config.toml", f"{CONFIG_DIR}/ws_sources.toml")
_PROCESS = ("status", "limits", "mountinfo")


@dataclass(frozen=True)
class InsideSandbox:
    """confined: the lines of /proc/PID/status by which the engine and the probe are confined, equal for both."""

    pid: Pid
    confined: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """refused_inside, refused_outside: what stood in the way of each of TRIED, "" for nothing. no_modules: why not even
    root loads modules here. exposure: by systemd-analyze security.

    properties: of the unit, as _sandbox names them. calls_beyond, unprinted: what it has beyond the promised ones.
    loopback: the deployed configuration has no peer on another host. status, limits: of the main process. mounts: those
    that it may write to; writable: mounts where the engine's user can write. cgroup: limits in force, where there are
    such files.
    """

    n: Count
    refused_inside: dict[str, str]
    refused_outside: dict[str, str]
    no_modules: str
    exposure: Seconds | None
    properties: dict[str, str]
    calls_beyond: list[str]
    unprinted: list[str]
    loopback: bool
    status: dict[str, str]
    limits: dict[str, str]
    mounts: list[str]
    writable: list[str]
    cgroup: dict[str, str]


class Sandbox(Case):
    name = "sandbox"
    fault = f"{len(TRIED)} things that a subverted engine would try, from inside its own sandbox"
    n_min = len(TRIED)

    def steady(self, subject: Subject) -> None:
        steady(subject)
        if DROP_IN not in {path.name for path in subject.unit.files()}:
            raise NotSteady(f"{DROP_IN} is not in force")

    def inject(self, subject: Subject) -> None:
        subject.probe(*TRIED.values())
        subject.install()
        self.cursor = subject.unit.cursor()
        subject.restart()

    def witness(self, subject: Subject) -> InsideSandbox | None:
        """The probe stood where the engine stands: the same user, capabilities and filters as its main process."""
        unit = subject.unit
        pid = subject.host.wait_for("the engine running", 8, lambda: unit.state().running and unit.state().pid)
        self.inside, engine = probe_output(unit.journal(self.cursor)), sandbox_probe.status(pid)
        # Its own privileges apart, each filter loads once a process: how many there are is equal too.
        self.pid = pid
        if not engine or self.inside.get("status") != engine:
            subject.host.note("stood elsewhere", {"probe": self.inside.get("status"), "engine": engine})
            return None
        return InsideSandbox(pid, engine)

    def traced_witness(self, witness: InsideSandbox, trace: Trace) -> Mapping[str, Json | Between]:
        (event,) = [one for one in trace.events("command", "grep", "") if one["argv"][-1].endswith("/status")]
        pid = int(event["argv"][-1].split("/")[2])
        engine = sandbox_probe.status_of(trace.whole(event))
        inside = _said(_probe_lines(trace)[-1])["status"]
        return {"pid": pid, "confined": dict(engine) if inside == engine else f"another than the probe's: {inside}"}

    def witnessed(self, witness: InsideSandbox) -> bool:
        return set(witness.confined) == set(sandbox_probe.STATUS)

    def measure(self, subject: Subject) -> Attempts:
        host = subject.host
        control = host.do("/usr/bin/python3", "-ISB", sandbox_probe.__file__, *TRIED.values(), check=False)
        output = control.stdout.partition(sandbox_probe.MARK)[2]
        outside, inside = json.loads(output or '{"refused": {}}')["refused"], self.inside["refused"]
        security = host.look("systemd-analyze", "security", "--no-pager", subject.unit.name).stdout
        show = host.look("systemctl", "show", _sandbox.PROPERTIES, subject.unit.name).stdout
        groups = host.look("systemd-analyze", "syscall-filter", "--no-pager").stdout
        process = {name: host.look("grep", "", f"/proc/{self.pid}/{name}").stdout for name in _PROCESS}
        return Attempts(
            n=len(inside),
            refused_inside={name: inside[word] for name, word in TRIED.items()},
            refused_outside={name: outside.get(word, "not asked") for name, word in TRIED.items()},
            no_modules=_no_modules(kind_of_host(host)),
            exposure=_exposure(security),
            properties=_sandbox.shown(show),
            calls_beyond=_sandbox.calls_beyond(show, groups),
            unprinted=_sandbox.unprinted(subject.unit.cat()),
            loopback=_loopback(host.look("grep", "-rohE", _PEERS, *_CONFIGURATION).stdout),
            status=_sandbox.status(process["status"], *_sandbox.SHOWN_STATUS),
            limits=_sandbox.limits(process["limits"]),
            mounts=_sandbox.writable_mounts(process["mountinfo"]),
            writable=self.inside["writable"],
            cgroup=_cgroup(host.look("grep", "-s", "", *_cgroup_files(subject)).stdout),
        )

    def traced(self, measured: Attempts, trace: Trace) -> Mapping[str, Json | Between]:
        lines = _probe_lines(trace)
        show = trace.text("systemctl", "show", _sandbox.PROPERTIES)
        process = dict(zip(_PROCESS, trace.texts("grep", "")[-len(_PROCESS) :], strict=True))
        again: dict[str, Json | Between] = {
            "n": len(_recorded(lines[-1])),
            "exposure": _exposure(trace.text("systemd-analyze", "security")),
            "properties": dict(_sandbox.shown(show)),
            "calls_beyond": list(_sandbox.calls_beyond(show, trace.text("systemd-analyze", "syscall-filter"))),
            "unprinted": list(_sandbox.unprinted(trace.text("systemctl", "cat"))),
            "loopback": _loopback(trace.text("grep", "-rohE", worked=False)),
            "status": dict(_sandbox.status(process["status"], *_sandbox.SHOWN_STATUS)),
            "limits": dict(_sandbox.limits(process["limits"])),
            "mounts": list(_sandbox.writable_mounts(process["mountinfo"])),
            "writable": _said(lines[-1])["writable"],
            "cgroup": dict(_cgroup(trace.text("grep", "-s", worked=False))),
        }
        for figure, text in (
            ("refused_inside", lines[-1]),
            ("refused_outside", trace.text("/usr/bin/python3", "-ISB", worked=False)),
        ):
            refused = _recorded(text)
            # What is named /etc/passwd is left out of a recording: of that the host's word stays.
            each = {name: refused.get(word, "not asked") for name, word in TRIED.items()}
            again[figure] = {name: reason for name, reason in each.items() if reason != MARK}
        return again

    def judge(self, measured: Attempts) -> Sequence[Check]:
        exposure = at_most("exposure", measured.exposure, EXPOSURE, guard=True)
        checks = [exposure if measured.exposure is not None else replace(exposure, ok=None)]
        if not measured.refused_inside.keys() == measured.refused_outside.keys() == TRIED.keys():
            raise BadFigure("other things were tried than these")
        checks += _as_promised(measured)
        for name in TRIED:
            inside, outside = measured.refused_inside[name], measured.refused_outside[name]
            if not outside:
                checks.append(Check(name, inside or "done", "refused; root outside can", bool(inside), guard=True))
            elif not inside:  # whatever root could not do there, from inside it could be done
                checks.append(Check(name, "done", "refused", False, guard=True))
            elif name != MODULE or measured.no_modules not in NO_MODULES:  # where root may not load one, it is left out
                checks.append(Check(name, f"root outside cannot either: {outside}", "root outside can", None))
        return checks


def _as_promised(measured: Attempts) -> list[Check]:
    """The unit's properties, and what of them is in force at its process, against the table of what is promised."""
    groups = {name: _sandbox.differences(measured.properties, group) for name, group in _sandbox.GROUPS.items()}
    groups["system calls"] += [f"{name} permitted" for name in measured.calls_beyond]
    groups["network"] += _sandbox.peers_beyond(measured.properties, measured.loopback)
    groups["commands"] += [f"{name}=" for name in measured.unprinted]
    in_force = _sandbox.differences(measured.status, _sandbox.STATUS)
    if measured.status.get("Groups") not in ("", measured.status.get("Gid", "").split(" ")[0]):
        in_force.append(f"Groups {measured.status.get('Groups')}, promised none but the own")
    groups["process in force"] = in_force + _sandbox.differences(measured.limits, _sandbox.LIMITS)
    files = {name: promise for name, promise in _sandbox.CGROUP.items() if name in measured.cgroup}
    groups["cgroup in force"] = _sandbox.differences(measured.cgroup, files)
    mounts = {*measured.mounts, *measured.writable}
    groups["writable mounts"] = sorted(mounts - _sandbox.WRITABLE)
    return [
        Check(name, "; ".join(found) or "as promised", "as promised", not found, True) for name, found in groups.items()
    ]


def _loopback(peers: str) -> bool:
    """The configuration's peers are on this host, by the lines of it that name them."""
    modes = re.findall(r'^ingest_mode *= *"(\w+)"', peers, re.M)
    urls = {key: re.findall(rf"^{key} *= *(.+)$", peers, re.M) for key in ("ws_url", "url")}
    named = {"MOCK_WS": urls["ws_url"], "REAL_WS": urls["url"]}.get(modes[-1] if modes else "", [])
    return all(not url.endswith("://") for url in named)


def _cgroup_files(subject: Subject) -> list[str]:
    group = f"{cgroup2_mount()}{subject.unit.state().control_group}"
    return [f"{group}/{name}" for name in _sandbox.CGROUP]


def _cgroup(text: str) -> dict[str, str]:
    """What `grep` printed of a cgroup's files, by their names; nothing where the host does not have them."""
    return dict(re.findall(r"^\S*/([a-z]+\.max):(.*)$", text, re.M))


def _probe_lines(trace: Trace) -> list[str]:
    """What the probe said in the sandbox, as it was recorded. Raises Untraced: nothing."""
    lines = [entry.message for entry in trace.journal() if entry.message.startswith(sandbox_probe.MARK)]
    if not lines:
        raise Untraced("the probe said nothing")
    return lines


def _said(text: str) -> dict[str, Json]:
    """The probe's line as it was recorded."""
    try:
        return dict(json.loads(text.partition(sandbox_probe.MARK)[2].replace(f": {MARK}", f': "{MARK}"')))
    except ValueError:
        raise Untraced("the probe said nothing that can be read") from None


def _recorded(text: str) -> dict[str, Json]:
    """What stood in the way of each attempt, by the probe's line as it was recorded."""
    try:
        return dict(_said(text)["refused"])
    except (LookupError, ValueError):
        raise Untraced("the probe said nothing that can be read") from None


def _exposure(output: str) -> float | None:
    match = re.search(r"Overall exposure level[^:]*: ([0-9.]+)", output)
    return float(match[1]) if match else None


def _no_modules(kind: str) -> str:
    """Why not even root loads modules on this host; empty where it does."""
    if kind == "lab":
        return NO_MODULES[0]
    if not Path("/proc/modules").exists():
        return NO_MODULES[1]
    if read_text("/proc/sys/kernel/modules_disabled").strip() == "1":
        return NO_MODULES[2]
    locked = re.search(r"\[(integrity|confidentiality)\]", read_text("/sys/kernel/security/lockdown"))
    return f"the kernel is locked down: {locked[1]}" if locked else ""


def headline(results: Sequence[Result]) -> str:
    checks = {check.name: check for result in results for check in result.checks}
    refused = [name for name in TRIED if name in checks and checks[name].ok]
    skipped = [name for name in TRIED if checks and name not in checks]
    exposure = checks["exposure"].measured if "exposure" in checks else "?"
    more = f"; not applicable here: {', '.join(skipped)}" if skipped else ""
    return f"exposure {exposure}; {len(refused)} of {len(TRIED) - len(skipped)} attempts refused{more}"


PROOF = Proof(
    name="hardening",
    claim="from inside its sandbox the engine cannot change its code or config, see others, or gain a privilege",
    bound=f"exposure <= {EXPOSURE:g}; no property of the unit wider than promised, declared or in force; every attempt "
    "refused inside that root outside can make",
    fault=", ".join(TRIED),
    seconds=11,
    notes="the attempts run in the unit's sandbox before its start (ExecStartPre=); the config they try to write is "
    "the scratch one, which the proof itself binds read-only",
    cases=Sandbox.alone,
    mutants=[
        emptied("not-hardened", f"{DROP_IN} emptied", Sandbox.alone, DROP_IN),
        with_directives("sees-all", "ProtectProc=default", Sandbox.alone),
        with_directives("one-capability", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", Sandbox.alone),
        with_directives("one-writable-path", "ReadWritePaths=/opt/hybrid-engine", Sandbox.alone),
        with_directives("tasks-unlimited", "TasksMax=infinity", Sandbox.alone),
    ],
    headline=headline,
    host_word={
        "no_modules": "what /proc and /sys showed of the kernel",
        "refused_*.write to /etc": "what is named /etc/passwd is left out of a recording",
    },
)
