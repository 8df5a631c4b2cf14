"""The limits, restart rules and watchdog of the engine's unit, as the operator was promised them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[3] / "templates" / "systemd"
PROMISED = {
    "20-resources": {
        ("Service", "Nice=10"),
        ("Service", "LimitNOFILE=4096"),
        ("Service", "MemoryMax=256M"),
        ("Service", "TasksMax=64"),
    },
    "30-restart": {
        ("Unit", "StartLimitIntervalSec=0"),
        ("Service", "Restart=on-failure"),
        ("Service", "RestartSec=2"),
        ("Service", "RestartPreventExitStatus=12"),
        ("Service", "TimeoutStopSec=10"),
    },
    "50-watchdog": {("Service", "WatchdogSec=10"), ("Service", "TimeoutAbortSec=10")},
}
UNIT = {
    "Type=notify",
    "User={{ engine_user }}",
    "Group={{ engine_group }}",
    "WorkingDirectory={{ engine_state_dir }}",
    "StateDirectory={{ engine_state_dir | basename }}",
    "StateDirectoryMode=0750",
    "ExecStart={{ engine_root }}/current/bin/hybrid-engine run",
    "ExecReload=/bin/kill -HUP $MAINPID",
    "SyslogIdentifier=hybrid-engine",
    "TimeoutStartSec={{ (engine_storage_deadline_s | float + 30) | round | int }}",
}


def directives(name: str) -> set[tuple[str, str]]:
    """The section and text of each directive."""
    found, section = set(), ""
    for line in (TEMPLATES / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            found.add((section, line))
    return found


@pytest.mark.holds("SANDBOX", "WATCHDOG", "G5")
@pytest.mark.parametrize("name", PROMISED)
def test_drop_in_has_the_promised_directives_alone(name: str) -> None:
    assert directives(f"{name}.conf.j2") == PROMISED[name]


@pytest.mark.holds("G0", "RELOAD")
def test_unit_sets_no_mode_and_no_limit() -> None:
    service = {text for section, text in directives("hybrid-engine.service.j2") if section == "Service"}
    assert service == UNIT
