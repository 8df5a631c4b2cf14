"""Pressure: where it is read, unknown pressure, and the steps of the throttle ladder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.pressure import (
    LADDER,
    PressureMonitor,
    ThrottleLadder,
    find_own_cgroup,
    missing_controls,
    parse_some_avg10,
)
from tests.support.pressure import CALM, PRESSED, put

SETTINGS = EngineSettings(psi_trip_s=3.0, psi_calm_s=6.0, psi_cooldown_s=5.0, psi_give_up_s=20.0)
Reading = dict[str, float | None]
QUIET: Reading = {"cpu": 0.0, "memory": 0.0, "io": 0.0}
BUSY: Reading = {**QUIET, "cpu": 20.01}


def climb(
    ladder: ThrottleLadder, readings: Iterable[Reading], start: int = 0, settings: EngineSettings = SETTINGS
) -> list[tuple[int, str, str]]:
    """Read once a second: (second, action, step) of each decision."""
    result = []
    for second, avg10 in enumerate(readings, start):
        decision = ladder.decide(second, avg10, settings)
        if decision:
            result.append((second, decision.action, ladder.step.name))
    return result


def test_ladder_matches_documentation() -> None:
    assert [tuple(rung) for rung in LADDER] == [("NORMAL", 1), ("THROTTLE1", 5), ("THROTTLE2", 10), ("THROTTLE3", 20)]
    defaults = EngineSettings()
    assert (defaults.psi_cpu_limit, defaults.psi_memory_limit, defaults.psi_io_limit) == (20, 10, 15)
    assert defaults.psi_actions == "on"


@pytest.mark.holds("G2")
def test_ladder_climbs_aborts_once_and_descends() -> None:
    ladder = ThrottleLadder()
    assert climb(ladder, [BUSY] * 60) == [
        (3, "THROTTLE_UP", "THROTTLE1"),
        (8, "THROTTLE_UP", "THROTTLE2"),  # the cooldown of 5 s is longer than psi_trip_s of 3 s
        (13, "THROTTLE_UP", "THROTTLE3"),
        (18, "THROTTLE_MAX", "THROTTLE3"),
        (34, "ABORT", "THROTTLE3"),  # on the top step and over a limit since second 14
    ]
    assert climb(ladder, [QUIET] * 40, 60) == [
        (66, "THROTTLE_DOWN", "THROTTLE2"),
        (73, "THROTTLE_DOWN", "THROTTLE1"),
        (80, "THROTTLE_DOWN", "NORMAL"),
    ]


@pytest.mark.parametrize(("kind", "limit"), [("cpu", 20.0), ("memory", 10.0), ("io", 15.0)])
def test_limit_and_hysteresis_of_each_kind(kind: str, limit: float) -> None:
    at_limit, under_half, half, over = (
        {**QUIET, kind: value} for value in (limit, limit / 2 - 0.01, limit / 2, limit + 0.01)
    )
    ladder = ThrottleLadder()
    assert climb(ladder, [at_limit] * 30) == []
    assert [action for _, action, _ in climb(ladder, [over] * 5, 30)] == ["THROTTLE_UP"]
    assert climb(ladder, [half] * 30 + [at_limit] * 30, 35) == []
    assert [action for _, action, _ in climb(ladder, [under_half] * 8, 95)] == ["THROTTLE_DOWN"]


def test_interruption_restarts_the_count() -> None:
    ladder = ThrottleLadder()
    assert climb(ladder, [BUSY, BUSY, BUSY, QUIET] * 10) == []
    assert climb(ladder, [BUSY] * 4, 40) == [(43, "THROTTLE_UP", "THROTTLE1")]
    assert climb(ladder, [QUIET] * 6 + [BUSY] + [QUIET] * 6, 50) == []


@pytest.mark.parametrize("kind", ["cpu", "memory", "io"])
def test_unknown_is_neither_pressure_nor_calm(kind: str) -> None:
    ladder = ThrottleLadder()
    assert climb(ladder, [{**QUIET, kind: None}] * 60) == []
    climb(ladder, [BUSY] * 4, 60)
    assert ladder.step.name == "THROTTLE1"
    assert climb(ladder, [{**QUIET, kind: None}] * 60, 70) == []
    # A kind over its limit is pressure, even when others are unknown.
    other = next(name for name in ("memory", "cpu") if name != kind)
    assert climb(ladder, [{**QUIET, kind: None, other: 90.0}] * 4, 140) == [(143, "THROTTLE_UP", "THROTTLE2")]


def test_unobserved_time_does_not_count() -> None:
    ladder = ThrottleLadder()
    for now in (0.0, 10.0, 20.0):  # the process was stopped in between
        assert ladder.decide(now, BUSY, SETTINGS) is None
    assert climb(ladder, [BUSY] * 4, 21) == [(23, "THROTTLE_UP", "THROTTLE1")]
    for now in (100.0, 110.0, 120.0, 130.0):
        assert ladder.decide(now, QUIET, SETTINGS) is None


def test_abort_repeated_when_pressure_returns() -> None:
    settings = replace(SETTINGS, psi_give_up_s=4.0, psi_trip_s=0.0, psi_cooldown_s=0.0)
    ladder = ThrottleLadder()
    climb(ladder, [BUSY] * 30, settings=settings)
    assert climb(ladder, [BUSY] * 30, 30, settings) == []
    assert [action for _, action, _ in climb(ladder, [QUIET] + [BUSY] * 9, 60, settings)] == ["THROTTLE_MAX", "ABORT"]


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (PRESSED["cpu"], 58.8),
        ("some avg10=100.00 avg60=0.00 avg300=0.00 total=1\n", 100.0),
        ("some avg10=0.00 avg60=99.00 avg300=0.00 total=1\n", 0.0),
        ("full avg10=33.00 avg60=0.00 avg300=0.00 total=1\n", None),
        ("some avg10=180.00 avg60=0.00 avg300=0.00 total=1\n", None),
        ("some avg10=-1.00 avg60=0.00 avg300=0.00 total=1\n", None),
        ("some avg10=nan avg60=0.00 avg300=0.00 total=1\n", None),
        ("some avg60=1.00\n", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_some_avg10(text: str | None, value: float | None) -> None:
    assert parse_some_avg10(text) == value


def fake_proc(tmp_path: Path, group: str, *mounts: str) -> Path:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(f"9:name=systemd:/other\n1:cpu:/\n0::{group}\n")
    (proc / "self" / "mountinfo").write_text("".join(f"32 31 0:29 {mount}\n" for mount in mounts))
    (proc / "pressure").mkdir()
    for kind, text in PRESSED.items():
        (proc / "pressure" / kind).write_text(text)
    return proc


def group_at(folder: Path) -> Path:
    """A cgroup that is not the root, which has no cgroup.events."""
    folder.mkdir(parents=True)
    (folder / "cgroup.events").write_text("populated 1\n")
    return folder


@pytest.mark.parametrize(
    ("root", "group"),
    [("/", "/system.slice/hybrid-engine.service"), ("/machine", "/machine/system.slice/hybrid-engine.service")],
)
def test_find_own_cgroup(tmp_path: Path, root: str, group: str) -> None:
    folder = group_at(tmp_path / "cg/unified/system.slice/hybrid-engine.service")
    proc = fake_proc(
        tmp_path,
        group,
        f"/ {tmp_path}/cg/cpu ro,nosuid shared:1 - cgroup cgroup rw,cpu",
        f"{root} {tmp_path}/cg/unified ro,nosuid shared:7 master:5 - cgroup2 cgroup rw",
    )
    assert find_own_cgroup(proc) == folder


def test_root_cgroup_is_ignored(tmp_path: Path) -> None:
    root = tmp_path / "cg"
    put(root, PRESSED)
    assert find_own_cgroup(fake_proc(tmp_path, "/", f"/ {root} rw - cgroup2 cgroup2 rw")) is None


@pytest.mark.parametrize("mount", ["/elsewhere AT rw - cgroup2 cgroup2 rw", "/ AT rw - cgroup cgroup rw,cpu"])
def test_no_cgroup_without_mount(tmp_path: Path, mount: str) -> None:
    group_at(tmp_path / "cg/a.service")
    assert find_own_cgroup(fake_proc(tmp_path, "/a.service", mount.replace("AT", str(tmp_path / "cg")))) is None
    assert find_own_cgroup(tmp_path / "no proc at all") is None


@pytest.mark.holds("G2")
def test_host_pressure_is_logged_only(tmp_path: Path) -> None:
    folder = group_at(tmp_path / "cg/a.service")
    proc = fake_proc(tmp_path, "/a.service", f"/ {tmp_path}/cg rw - cgroup2 cgroup2 rw")
    pressure = PressureMonitor(replace(SETTINGS, psi_trip_s=0.0), proc)
    assert [pressure.check(now) for now in range(20)] == [None] * 20  # the host has pressure, the unit's is unknown
    assert pressure.heartbeat_fields()["psi_cpu_worst"] is None
    put(folder, CALM)
    assert [pressure.check(now) for now in range(20, 40)] == [None] * 20
    assert pressure.heartbeat_fields()["psi_cpu_worst"] == 7.01
    put(folder, PRESSED)
    decided = pressure.check(40)
    assert decided
    assert (decided["action"], decided["state"], pressure.sample_every) == ("THROTTLE_UP", "THROTTLE1", 5)
    assert decided["psi"] == decided["host_psi"] == {kind: text.splitlines() for kind, text in PRESSED.items()}
    assert decided["reason"] == "cpu 58.8 > 20 for 0.0 s"
    (proc / "pressure" / "io").unlink()
    (folder / "memory.pressure").unlink()
    decided = next(result for result in (pressure.check(now) for now in range(41, 60)) if result)
    assert decided["psi"]["memory"] is None  # type: ignore[index]
    assert decided["host_psi"]["io"] is None  # type: ignore[index]


def test_logonly_leaves_sampling(tmp_path: Path) -> None:
    folder = put(tmp_path / "psi", PRESSED)
    pressure = PressureMonitor(replace(SETTINGS, psi_actions="logonly", psi_path=str(folder), psi_trip_s=0.0))
    message = [result for result in (pressure.check(now) for now in range(40)) if result]
    assert [(s["action"], s["would"], s["state"]) for s in message] == [
        ("PSI_LOGONLY", "THROTTLE_UP", "THROTTLE1"),
        ("PSI_LOGONLY", "THROTTLE_UP", "THROTTLE2"),
        ("PSI_LOGONLY", "THROTTLE_UP", "THROTTLE3"),
        ("PSI_LOGONLY", "THROTTLE_MAX", "THROTTLE3"),
        ("PSI_LOGONLY", "ABORT", "THROTTLE3"),
    ]
    assert pressure.sample_every == 1
    assert pressure.heartbeat_fields()["sample_every"] == 1


@pytest.mark.parametrize("how", [{"psi_actions": "off"}, {"ingest_mode": "REPLAY"}])
def test_off_and_replay_read_no_pressure(tmp_path: Path, how: dict[str, str]) -> None:
    folder = put(tmp_path / "psi", PRESSED)
    pressure = PressureMonitor(replace(SETTINGS, psi_path=str(folder), psi_trip_s=0.0, **how))  # type: ignore[arg-type]
    assert [pressure.check(now) for now in range(20)] == [None] * 20
    assert pressure.heartbeat_fields()["pressure_state"] == "OFF"
    assert pressure.heartbeat_fields()["psi_cpu_worst"] is None


def test_sampling_in_force_is_the_stronger(tmp_path: Path) -> None:
    settings = replace(SETTINGS, psi_path=str(put(tmp_path / "psi", PRESSED)), psi_trip_s=0.0, sample_every=7)
    pressure = PressureMonitor(settings)
    pressure.check(0)
    assert (pressure.heartbeat_fields()["pressure_state"], pressure.sample_every) == ("THROTTLE1", 7)
    for now in range(1, 6):
        pressure.check(now)
    assert (pressure.heartbeat_fields()["pressure_state"], pressure.sample_every) == ("THROTTLE2", 10)
    pressure.reload(replace(settings, sample_every=50))
    assert pressure.sample_every == 50
    pressure.reload(settings)
    assert (pressure.heartbeat_fields()["pressure_state"], pressure.sample_every) == ("THROTTLE2", 10)


def test_changed_psi_actions_reset_ladder(tmp_path: Path) -> None:
    settings = replace(SETTINGS, psi_actions="logonly", psi_path=str(put(tmp_path / "psi", PRESSED)), psi_trip_s=0.0)
    pressure = PressureMonitor(settings)
    for now in range(20):
        pressure.check(now)
    pressure.reload(replace(settings, psi_actions="on"))
    assert (pressure.heartbeat_fields()["pressure_state"], pressure.sample_every) == ("NORMAL", 1)
    pressure.check(20)
    assert pressure.sample_every == 5  # one step, not the three that were only logged
    pressure.reload(replace(settings, psi_actions="off"))
    assert (pressure.heartbeat_fields()["pressure_state"], pressure.sample_every) == ("OFF", 1)


def test_worst_avg10_since_last_heartbeat(tmp_path: Path) -> None:
    folder = put(tmp_path / "psi", CALM)
    pressure = PressureMonitor(replace(SETTINGS, psi_path=str(folder)))
    assert pressure.heartbeat_fields()["psi_cpu_worst"] is None  # not read yet
    for now, texts in enumerate((CALM, PRESSED, CALM)):
        put(folder, texts)
        pressure.check(now)
    assert [pressure.heartbeat_fields()[f"psi_{kind}_worst"] for kind in ("cpu", "cpu", "io")] == [58.8, 7.01, 0.08]
    (folder / "cpu.pressure").unlink()
    pressure.check(3)
    assert [pressure.heartbeat_fields()["psi_cpu_worst"] for _ in range(2)] == [7.01, None]


def test_pressure_read_once_a_second(tmp_path: Path) -> None:
    folder = put(tmp_path / "psi", CALM)
    pressure = PressureMonitor(replace(SETTINGS, psi_path=str(folder)))
    pressure.check(0.0)
    put(folder, PRESSED)
    pressure.check(0.9)
    assert pressure.heartbeat_fields()["psi_cpu_worst"] == 7.01
    pressure.check(1.0)
    assert pressure.heartbeat_fields()["psi_cpu_worst"] == 58.8


def test_unknown_pressure_logged_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "psi"
    pressure = PressureMonitor(replace(SETTINGS, psi_path=str(folder)))
    for now in range(5):
        pressure.check(now)
    put(folder, CALM)
    for now in range(5, 10):
        pressure.check(now)
    message = capsys.readouterr().out.splitlines()
    assert len(message) == 2
    assert '"pressure is unknown","kinds":["cpu","memory","io"]' in message[0]
    assert str(folder) in message[0]
    assert '"pressure is known"' in message[1]


@pytest.mark.parametrize(
    ("psi", "cgroups", "told"),
    [
        (True, "#subsys_name hierarchy num_cgroups enabled\nmemory 0 1 1\n", []),
        (True, "", []),
        (False, "cpu 0 1 1\n", ["psi=1"]),
        (True, "cpu 0 1 1\nmemory 0 1 0\n", ["cgroup_enable=memory"]),
        (False, "memory 0 1 0\n", ["psi=1", "cgroup_enable=memory"]),
    ],
)
def test_kernel_without_controls_is_told(tmp_path: Path, psi: bool, cgroups: str, told: list[str]) -> None:
    (tmp_path / "cgroups").write_text(cgroups)
    if psi:
        (tmp_path / "pressure").mkdir()
        (tmp_path / "pressure/cpu").touch()
    assert [sentence.rpartition(" ")[2] for sentence in missing_controls(tmp_path)] == told
