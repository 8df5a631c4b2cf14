"""hardening's rules, and the attempts themselves: each is tried here, where nothing confines it but the user."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest

from proofs.catalog import _sandbox, hardening, shadow
from proofs.catalog.hardening import EXPOSURE, NO_MODULES, PROOF, TRIED, Sandbox
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Deployed, judge
from proofs.verdict import Result
from tests.support.promised_sandbox import LIMITS, PROMISED, PROPERTIES, STATUS
from tests.support.witnesses import genuine

CASE = Sandbox(Deployed(10.0, 2.0, (0, 0)))
REFUSED = dict.fromkeys(TRIED, "EPERM")
DONE = dict.fromkeys(TRIED, "")
WITH_ARGUMENT = ("write", "see", "list", "signal", "connect", "datagram", "stream")
ROOT = Path(__file__).parents[4]


def of(
    inside: dict[str, str], outside: dict[str, str], no_modules: str = "", exposure: float | None = 0.9, **other: Any
) -> Result:
    measured: dict[str, Any] = {
        "refused_inside": REFUSED | inside,
        "refused_outside": DONE | outside,
        "no_modules": no_modules,
        "exposure": exposure,
        "n": len(TRIED),
        **PROMISED,
        **other,
    }
    return judge(CASE, genuine(CASE), measured)


def test_attempts_refused_only_inside_pass() -> None:
    result = of({}, {})
    assert result.verdict == "PASS"
    assert PROOF.headline([result]) == f"exposure 0.9; {len(TRIED)} of {len(TRIED)} attempts refused"


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("outside", ["", "EPERM"])
def test_permitted_attempt_fails_at_the_guard(name: str, outside: str) -> None:
    assert of({name: ""}, {name: outside}, no_modules=NO_MODULES[0]).failed_at_guard


@pytest.mark.parametrize("name", TRIED)
def test_attempt_that_root_cannot_make_is_inconclusive(name: str) -> None:
    assert of({}, {name: "EPERM"}).verdict == "INCONCLUSIVE"


def test_module_loading_is_not_applicable_where_root_cannot() -> None:
    result = of({}, {"load a module": "EPERM"}, no_modules=NO_MODULES[0])
    assert result.verdict == "PASS"
    n = len(TRIED) - 1
    assert PROOF.headline([result]).endswith(f"{n} of {n} attempts refused; not applicable here: load a module")


def test_only_module_loading_may_be_left_out() -> None:
    assert of({}, {"see another process": "ENOENT"}, no_modules=NO_MODULES[0]).verdict == "INCONCLUSIVE"


def test_exposure_threshold() -> None:
    assert of({}, {}, exposure=EXPOSURE).verdict == "PASS"
    assert of({}, {}, exposure=EXPOSURE + 0.1).failed_at_guard
    assert of({}, {}, exposure=None).verdict == "INCONCLUSIVE"


def test_write_attempt_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    before = path.stat()
    assert sandbox_probe.attempt(f"write={path}") == ""
    assert path.read_text() == "text"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert sandbox_probe.attempt(f"write={tmp_path}/none") == "ENOENT"
    assert list(tmp_path.iterdir()) == [path]


def test_every_attempt_reports_success_or_errno() -> None:
    words = ["see=1", "see=0", *(name for name in sandbox_probe.ATTEMPTS if name not in WITH_ARGUMENT)]
    done = subprocess.run([sys.executable, sandbox_probe.__file__, *words], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.removeprefix(sandbox_probe.MARK))
    assert found["refused"].keys() == set(words)
    assert found["refused"]["see=0"] == "ENOENT"
    assert all(said == "" or said in errno.errorcode.values() for said in found["refused"].values())
    assert found["status"]["Uid"]
    assert "lo" in found["interfaces"]


def test_probe_knows_every_attempt() -> None:
    # those of shadow and of storage as well
    words = {*TRIED.values(), *shadow.ATTEMPTS, shadow.INET_SOCKET, "sync"}
    assert {word.partition("=")[0] for word in words} == sandbox_probe.ATTEMPTS.keys()


WIDENED = {
    "User": "root",
    "Group": "docker",
    "SupplementaryGroups": "adm",
    "CapabilityBoundingSet": "cap_net_raw",
    "AmbientCapabilities": "cap_chown",
    "NoNewPrivileges": "no",
    "RestrictNamespaces": "user",
    "ProtectSystem": "full",
    "ProtectProc": "default",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "ReadWritePaths": "/opt",
    "InaccessiblePaths": "-/dev/shm -/dev/mqueue",
    "BindPaths": "/home:/mnt:rbind",
    "DeviceAllow": "char-rtc rw",
    "UMask": "0022",
    "StateDirectory": "hybrid-engine other",
    "StateDirectoryMode": "0755",
    "RuntimeDirectory": "other",
    "MemoryMax": "infinity",
    "TasksMax": "65",
    "LimitNOFILE": "524288",
    "Nice": "9",
    "OOMScoreAdjust": "-1",
    "CPUWeight": "1000",
    "IPAddressAllow": "127.0.0.0/8 ::1/128 10.0.0.0/8",
    "IPAddressDeny": "",
    "ExecStartEx": "{ path=/opt/hybrid-engine/current/bin/hybrid-engine ; flags=privileged ; }",
    "ExecStartPost": "{ path=/bin/true ; }",
    "SystemCallArchitectures": "native x86",
}


def failed(result: Result) -> list[str]:
    return [check.name for check in result.checks if check.ok is False]


@pytest.mark.holds("SANDBOX")
@pytest.mark.parametrize("name", WIDENED)
def test_property_wider_than_promised_fails_alone(name: str) -> None:
    result = of({}, {}, properties=PROPERTIES | {name: WIDENED[name]})
    group = next((group for group, names in _sandbox.GROUPS.items() if name in names), "network")
    assert failed(result) == [group]
    assert result.failed_at_guard


@pytest.mark.parametrize("name", [name for names in _sandbox.SET.values() for name in names])
def test_property_that_the_templates_set_has_to_be_there(name: str) -> None:
    assert failed(of({}, {}, properties={key: value for key, value in PROPERTIES.items() if key != name}))


@pytest.mark.holds("SANDBOX")
@pytest.mark.parametrize(
    ("measured", "check"),
    [
        ({"calls_beyond": ["ptrace"]}, "system calls"),
        ({"unprinted": ["LoadCredential"]}, "commands"),
        ({"status": STATUS | {"CapBnd": "0000000000000400"}}, "process in force"),
        ({"status": STATUS | {"Groups": "4 997"}}, "process in force"),
        ({"status": STATUS | {"Uid": "0 0 0 0"}}, "process in force"),
        ({"limits": LIMITS | {"Max open files": "unlimited"}}, "process in force"),
        ({"cgroup": {"pids.max": "max"}}, "cgroup in force"),
        ({"mounts": ["/opt"]}, "writable mounts"),
        ({"writable": ["/srv"]}, "writable mounts"),
        ({"writable": ["/run/lock"]}, "writable mounts"),
    ],
)
def test_what_is_in_force_beyond_the_promise_fails_alone(measured: dict[str, Any], check: str) -> None:
    assert failed(of({}, {}, **measured)) == [check]


def test_exchanges_may_be_reached_where_the_configuration_names_one() -> None:
    assert of({}, {}, properties=PROPERTIES | {"IPAddressDeny": ""}, loopback=False).verdict == "PASS"


@pytest.mark.parametrize(
    ("peers", "loopback"),
    [
        ('ingest_mode = "SYNTHETIC"\nurl = "wss://\n', True),
        ('ingest_mode = "REAL_WS"\nws_url = "wss://localhost/\nurl = "wss://\n', False),
        ('ingest_mode = "REAL_WS"\nurl = "ws://127.0.0.1:\n', True),
        ('ingest_mode = "MOCK_WS"\nws_url = "ws://[::1]:\n', True),
        ('ingest_mode = "MOCK_WS"\nws_url = "ws://\n', False),
    ],
)
def test_peers_on_this_host(peers: str, loopback: bool) -> None:
    assert hardening._loopback(peers) is loopback


GROUPS_OF_CALLS = """@io
    # Input and output
    read
    write
@privileged
    # Of root
    @io-raw
@io-raw
    iopl
@resources
    nice
@system-service
    @io
    iopl
    nice

# Unlisted System Calls (supported by the local kernel):
#   other
"""


@pytest.mark.parametrize(
    ("shown", "beyond"),
    [
        ("SystemCallFilter=read write", []),
        ("SystemCallFilter=read", []),
        ("SystemCallFilter=iopl nice read write", ["iopl", "nice"]),
        ("SystemCallFilter=ptrace:EPERM read", ["ptrace"]),
        ("SystemCallFilter=~ptrace", ["every call"]),
        ("SystemCallFilter=", ["every call"]),
        ("", ["every call"]),
    ],
)
def test_calls_beyond_the_promised_groups(shown: str, beyond: list[str]) -> None:
    assert _sandbox.calls_beyond(shown, GROUPS_OF_CALLS) == beyond


def test_covered_mounts_do_not_count() -> None:
    mounts = "\n".join(
        [
            "330 283 0:41 / / ro,nosuid,relatime shared:64 - overlay overlay rw",
            "331 330 0:43 / /tmp rw,nosuid,nodev shared:80 - tmpfs tmpfs rw",
            "333 330 0:43 / /opt rw,nosuid,nodev shared:80 - tmpfs tmpfs rw",
            "334 333 0:43 / /opt ro,nosuid,nodev shared:80 - tmpfs tmpfs rw",
            "335 330 0:47 / /run rw,nosuid,nodev shared:103 - tmpfs tmpfs rw",
        ]
    )
    assert _sandbox.writable_mounts(mounts) == ["/tmp"]


# Of the templates, what is no part of the sandbox: when the engine runs, restarts and is watched.
NO_SANDBOX = {"Type", "ExecStart", "ExecReload", "SyslogIdentifier", "TimeoutStartSec"}
OF_PEERS = {"IPAddressDeny", "IPAddressAllow", "SystemCallFilter"}


@pytest.mark.holds("SANDBOX")
def test_table_is_what_the_templates_set() -> None:
    values = {
        "engine_user": "hybrid-engine",
        "engine_group": "hybrid-engine",
        "engine_state_dir": "/var/lib/hybrid-engine",
        "engine_root": "/opt/hybrid-engine",
        "engine_network": "loopback",
        "engine_storage_deadline_s": 30,
    }
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT / "templates/systemd"))
    loader.filters["basename"] = os.path.basename
    templates = ("hybrid-engine.service.j2", "20-resources.conf.j2", "40-hardening.conf.j2")
    texts = [loader.get_template(name).render(values) for name in templates]
    service = "\n".join(text.partition("[Service]")[2].partition("\n[")[0] for text in texts)
    lines = re.findall(r"^(\w+)=(.*)$", service, re.M)
    declared = {name: value.replace("256M", str(256 << 20)).replace("EPERM", "1") for name, value in lines}
    promised = {name: promise for names in _sandbox.SET.values() for name, promise in names.items()}
    assert declared.keys() - NO_SANDBOX - OF_PEERS == promised.keys()
    assert _sandbox.differences(declared, promised) == []
    filters = [value for name, value in lines if name == "SystemCallFilter"]
    assert filters == [" ".join(_sandbox.SERVICE), f"~{' '.join(_sandbox.NOT_SERVICE)}"]
