"""Every drop-in is in force, as the running process shows it, or it is rolled back and noted in the summary."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.verify.conftest import assert_none

FOLDER = "/etc/systemd/system/hybrid-engine.service.d"


def settings(text: str) -> dict[str, str]:
    """A drop-in's assignments; of a repeated one the last."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] not in "#;")


def seconds(span: str) -> float:
    """What systemctl show prints for a time, as 1min 30s."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(us|ms|min|s|h|d)", span))


def limit(state: dict[str, Any], name: str) -> str:
    return str(next(line for line in state["limits"] if line.startswith(name))[len(name) :].split()[1])


def resources(state: dict[str, Any], wanted: dict[str, str]) -> None:
    unit = state["unit"]
    assert state["stat"][16] == wanted["Nice"], "the process's own nice level"
    assert limit(state, "Max open files") == wanted["LimitNOFILE"], "the process's own limit of open files"
    megabytes = int(wanted["MemoryMax"].removesuffix("M"))
    assert int(unit["MemoryMax"]) == megabytes * 1024 * 1024
    assert unit["TasksMax"] == wanted["TasksMax"]


def cpus(state: dict[str, Any], wanted: dict[str, str]) -> None:
    assert state["status"]["Cpus_allowed_list"].strip() == wanted["CPUAffinity"], "the CPUs that the process may use"
    policies = {"other": "0", "fifo": "1", "rr": "2", "batch": "3", "idle": "5"}
    assert state["stat"][38] == policies[wanted["CPUSchedulingPolicy"]], "the process's own scheduling policy"


def restart(state: dict[str, Any], wanted: dict[str, str]) -> None:
    unit = state["unit"]
    assert unit["Restart"] == wanted["Restart"]
    assert seconds(unit["RestartUSec"]) == float(wanted["RestartSec"])
    assert unit["RestartPreventExitStatus"] == wanted["RestartPreventExitStatus"]
    assert unit["StartLimitIntervalUSec"] == wanted["StartLimitIntervalSec"]
    assert seconds(unit["TimeoutStopUSec"]) == float(wanted["TimeoutStopSec"])


def hardening(state: dict[str, Any], wanted: dict[str, str]) -> None:
    status = {key: value.strip() for key, value in state["status"].items()}
    assert status["NoNewPrivs"] == "1", "the process could gain privileges"
    # A container's processes all have filters of the container's making: the service's own come on top.
    filters = [int(entry.get("Seccomp_filters", 0)) for entry in (state["status"], state["init_status"])]
    assert status["Seccomp"] == "2", "no system call filter on the process"
    assert filters[0] > filters[1], "no system call filter of its own on the process"
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, f"the process has capabilities ({kind})"
    assert int(status["Umask"], 8) == int(wanted["UMask"], 8)
    assert state["namespaces"] == {"mnt": True, "user": True}, "it shares a namespace with the system"
    mounts = {line.split()[4]: line.split()[5].split(",") for line in state["mounts"]}
    assert "ro" in mounts["/"], "the process could write to the system"
    assert "rw" in mounts["/var/lib/hybrid-engine"], "the process could not write its state"
    for place in ("/home", "/root", "/tmp", "/dev"):
        assert place in mounts, f"{place} is the system's own in the process's view"
    families = set(state["unit"]["RestrictAddressFamilies"].split())
    assert families == set(wanted["RestrictAddressFamilies"].split())
    assert state["unit"]["MemoryDenyWriteExecute"] == "yes"
    allowed = set(state["unit"].get("IPAddressAllow", "").split())
    if wanted.get("IPAddressDeny") == "any":
        assert allowed <= {"127.0.0.0/8", "::1/128"}, "more than loopback is let through"
        assert set(state["unit"]["IPAddressDeny"].split()) == {"0.0.0.0/0", "::/0"}


def watchdog(state: dict[str, Any], wanted: dict[str, str]) -> None:
    environ = dict(entry.split("=", 1) for entry in state["environ"] if "=" in entry)
    limit_us = float(wanted["WatchdogSec"]) * 1e6
    assert float(environ.get("WATCHDOG_USEC", 0)) == limit_us, "the process has no watchdog"
    assert environ.get("WATCHDOG_PID") == state["unit"]["MainPID"]
    assert seconds(state["unit"]["WatchdogUSec"]) * 1e6 == limit_us
    assert seconds(state["unit"]["TimeoutAbortUSec"]) == float(wanted["TimeoutAbortSec"])


CHECKS: dict[str, Callable[[dict[str, Any], dict[str, str]], None]] = {
    "20-resources": resources,
    "25-cpus": cpus,
    "30-restart": restart,
    "40-hardening": hardening,
    "50-watchdog": watchdog,
}


@pytest.mark.parametrize("name", CHECKS)
def test_in_force_or_rolled_back(state: dict[str, Any], notes: list[str], make_words: str, name: str) -> None:
    path, marker = f"{FOLDER}/{name}.conf", state["rolled_back"].get(f"{name}.conf", "none")
    if marker != "none":
        marker = marker or {}
        notes.append(
            f"ROLLED BACK: {name} since {marker.get('since', 'an unknown time')} by {marker.get('by') or 'somebody'}; "
            f"it stays out until: make restore DROPIN={name} {make_words}"
        )
        assert_none(state, "rolled-back drop-ins")
        assert path not in state["dropins"], f"{name} is remembered as rolled back, and in force all the same"
        return
    assert state["deployed"], "nothing was deployed here: /var/lib/hybrid-deploy/deployed has no record of it"
    if path not in state["deployed"]["files"]:
        notes.append(f"NOT DEPLOYED: {name} (the inventory takes it out)")
        return
    assert path in state["dropins"], f"{name} is not in force: deploy it, or roll it back by name"
    CHECKS[name](state, settings(state["dropins"][path]))


def test_nobody_else_changes_the_unit(state: dict[str, Any]) -> None:
    assert_none(state, "unmanaged drop-ins")
