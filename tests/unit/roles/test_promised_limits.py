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
    ("Unit", "Description=Hybrid engine: market data in, shadow trades out"),
    ("Unit", "After=network.target"),
    ("Service", "Type=notify"),
    ("Service", "User={{ engine_user }}"),
    ("Service", "Group={{ engine_group }}"),
    ("Service", "WorkingDirectory={{ engine_state_dir }}"),
    ("Service", "StateDirectory={{ engine_state_dir | basename }}"),
    ("Service", "StateDirectoryMode=0750"),
    ("Service", "ExecStart={{ engine_root }}/current/bin/hybrid-engine run"),
    ("Service", "ExecReload=/bin/kill -HUP $MAINPID"),
    ("Service", "SyslogIdentifier=hybrid-engine"),
    ("Service", "TimeoutStartSec={{ (engine_storage_deadline_s | float + 30) | round | int }}"),
    ("Install", "WantedBy=multi-user.target"),
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
def test_unit_has_the_promised_directives_alone() -> None:
    assert directives("hybrid-engine.service.j2") == UNIT
