"""The flight recorder: the contents of a record, what is missing, and the limits of what is kept."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from roles.flight_recorder.files import health_snapshot as snapshot
from tests.support.process import ROOT

NOW = datetime(2026, 11, 21, 5, 40, 3, tzinfo=UTC)
PSI = "some avg10=1.50 avg60=2.25 avg300=3.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=4\n"
PARSED = {"some": [1.5, 2.25, 3.0, 123], "full": [0.0, 0.0, 0.0, 4]}
UNIT = """\
ActiveState=active
SubState=running
Result=success
MainPID=310
NRestarts=2
ExecMainStatus=0
ExecMainStartTimestamp=Sat 2026-11-21 05:39:59 UTC
InvocationID=30098aa348f54fbebe6bae053ed72c2a
ControlGroup=/system.slice/hybrid-engine.service
MemoryCurrent=20971520
CPUUsageNSec=18446744073709551615
"""
RUN = {"id": 3, "received": 11, "admitted": 11, "release_digest": "ab" * 32, "ended_ms": None, "last_frame_ms": 5}


def program(path: Path, says: str, code: int = 0) -> Path:
    path.with_suffix(".says").write_text(says)
    path.write_text(f"#!/bin/sh\ncat {path.with_suffix('.says')}\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host: its /proc, its cgroups, a systemctl and an engine."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    group = cgroups / "system.slice/hybrid-engine.service"
    for folder in (proc / "pressure", proc / "self", group):
        folder.mkdir(parents=True)
    for kind in snapshot.KINDS:
        (proc / "pressure" / kind).write_text(PSI)
        (group / f"{kind}.pressure").write_text(PSI)
    (proc / "uptime").write_text("4000.25 7000.00\n")
    (proc / "loadavg").write_text("0.50 1.25 2.00 1/300 4711\n")
    (proc / "meminfo").write_text("MemTotal: 4096000 kB\nMemAvailable: 2048000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    (proc / "self" / "mountinfo").write_text(
        f"30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n31 30 0:27 / {cgroups} rw - cgroup2 cgroup2 rw\n"
    )
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "hybrid.db").write_bytes(b"x" * 2**20)
    (tmp_path / "releases").mkdir()
    (tmp_path / "current").symlink_to("releases/0.1.0-abc")
    program(tmp_path / "systemctl", UNIT)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(snapshot, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(snapshot, "LIVE", str(tmp_path / "current"))
    return proc


def look(proc: Path, answer: object, code: int = 0) -> dict[str, Any]:
    """A record, made while the engine's `health --json` says that."""
    output = answer if isinstance(answer, str) else json.dumps(answer)
    engine = program(proc.parent / "engine", output, code)
    return snapshot.Snapshot(proc, [str(engine)]).record(NOW)


def test_record_has_the_state_of_host_and_engine(proc: Path) -> None:
    checks = [{"name": "database", "ok": True, "detail": "/x"}]
    record = look(proc, {"healthy": True, "checks": checks, "run": RUN})
    assert record["missing"] == []
    assert (record["time"], record["uptime_s"], record["load"]) == ("2026-11-21T05:40:03Z", 4000.25, [0.5, 1.25, 2])
    assert record["psi"] == dict.fromkeys(("unit", "host"), dict.fromkeys(snapshot.KINDS, PARSED))
    assert record["memory"] == {"total": 4000, "available": 2000, "swap_total": 0, "swap_free": 0, "unit": 20.0}
    assert set(record["disk"]) == {"/", str(proc.parent / "state"), "database"}
    assert record["disk"]["database"] == 1.0
    assert record["disk"]["/"]["free"] <= record["disk"]["/"]["total"]
    assert record["engine"]["ActiveState"] == "active"
    assert (record["engine"]["MainPID"], record["engine"]["NRestarts"]) == (310, 2)
    assert record["engine"]["CPUUsageNSec"] is None, "systemd prints unknown as the largest number"
    assert record["engine"]["release"] == "0.1.0-abc"
    assert record["health"] == {"healthy": True, "failed": {}}
    assert record["run"] == {**RUN, "release_digest": "ab" * 6}


def test_failed_checks_are_recorded_and_the_record_stays_short(proc: Path) -> None:
    checks = [{"name": f"check {n}", "ok": n % 2 == 0, "detail": "d" * 9000} for n in range(90)]
    record = look(proc, {"healthy": False, "checks": checks, "run": None}, code=1)
    assert record["health"]["healthy"] is False
    assert set(record["health"]["failed"]) == {f"check {n}" for n in range(1, 40, 2)}
    assert len(json.dumps(record)) < 8000


@pytest.mark.parametrize("answer", ["", "no JSON", "[1]", '{"healthy": true}', '{"healthy": true, "checks": [1]}'])
def test_health_is_null_without_an_answer(proc: Path, answer: str) -> None:
    record = look(proc, answer, code=1)
    assert record["health"]["healthy"] is None
    assert [entry.partition(":")[0] for entry in record["missing"]] == ["health"]
    assert record["load"], "everything else is there"


def test_unreadable_values_are_missing_and_no_failure(
    proc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host without pressure, memory, a database, systemd or an engine: every value is unknown, none is 0."""
    for path in (proc / "pressure").iterdir():
        path.unlink()
    for name in ("uptime", "loadavg", "meminfo"):
        (proc / name).unlink()
    (tmp_path / "current").unlink()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(snapshot, "STATE", "/nonexistent")
    record = snapshot.Snapshot(proc, ["/nonexistent/engine"]).record(NOW)
    missing = {entry.partition(":")[0] for entry in record["missing"]}
    assert missing == {
        "uptime",
        "loadavg",
        "memory",
        "memory of unit",
        "psi of unit",
        "psi of host, cpu",
        "psi of host, memory",
        "psi of host, io",
        "disk at /nonexistent",
        "database",
        "engine",
        "release",
        "health",
    }
    assert record["psi"] == {"unit": None, "host": None}
    assert (record["uptime_s"], record["load"], record["run"]) == (None, [None] * 3, None)
    assert set(record["memory"].values()) == {None}
    json.dumps(record)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


@pytest.mark.holds("RECORDER")
def test_only_whole_old_days_are_deleted(tmp_path: Path) -> None:
    for back in range(6):
        snapshot.append_record(tmp_path, {"back": back}, NOW - timedelta(days=back), keep_days=1000, keep_mb=1)
    others = ("notes.txt", "1999-01-01.jsonl.gz", "x1999-01-01.jsonl")
    for name in others:
        (tmp_path / name).touch()
    snapshot.append_record(tmp_path, {"back": 0}, NOW, keep_days=3, keep_mb=1)
    days = [f"2026-11-{day}.jsonl" for day in (18, 19, 20, 21)]
    assert sorted(sizes(tmp_path)) == sorted([*days, *others])


@pytest.mark.holds("RECORDER")
def test_records_stay_within_their_limit_of_size(tmp_path: Path) -> None:
    """The oldest day goes first; also where one day alone is too much."""
    record = {"text": "x" * 1000}
    for n in range(400):
        snapshot.append_record(tmp_path, {**record, "n": n}, NOW + timedelta(hours=n), keep_days=1000, keep_mb=0.05)
        assert sum(sizes(tmp_path).values()) <= 0.05 * 2**20
    numbers = [entry["n"] for entry in snapshot.read_records(tmp_path) if entry]
    assert numbers == list(range(numbers[0], 400))
    assert len(numbers) > 20
    for n in range(200):
        snapshot.append_record(tmp_path, {**record, "n": n}, NOW + timedelta(days=90), keep_days=1000, keep_mb=0.05)
        assert 0 < sum(sizes(tmp_path).values()) <= 0.05 * 2**20


@pytest.mark.holds("RECORDER")
def test_half_written_line_loses_only_itself(tmp_path: Path) -> None:
    """As a power cut leaves it, in the middle of a word or right before the line's end."""
    for n in range(3):
        snapshot.append_record(tmp_path, {"n": n}, NOW, 14, 16)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for rest in (whole[:-1], whole[:-4], whole[: len(whole) // 2]):
        path.write_bytes(rest)
        before = [entry for entry in snapshot.read_records(tmp_path) if entry]
        snapshot.append_record(tmp_path, {"n": "after"}, NOW, 14, 16)
        assert [entry for entry in snapshot.read_records(tmp_path) if entry] == [*before, {"n": "after"}]
        assert path.read_bytes().endswith(b'{"n":"after"}\n')


@pytest.mark.holds("RECORDER")
def test_full_disk_deletes_the_oldest_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for back in (3, 2, 1, 0):
        snapshot.append_record(tmp_path, {"back": back}, NOW - timedelta(days=back), 14, 16)
    real, room = os.write, 1

    def write(fd: int, data: bytes) -> int:
        """Half a line still fits; then nothing, until two files have gone."""
        nonlocal room
        if len(list(tmp_path.iterdir())) > 2:
            if room:
                room = 0
                return real(fd, bytes(data)[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    snapshot.append_record(tmp_path, {"new": 1}, NOW, 14, 16)
    assert [*snapshot.read_records(tmp_path)] == [{"back": 1}, {"back": 0}, {"new": 1}]
    today = sorted(tmp_path.iterdir())[-1]
    before = today.read_bytes()
    sorted(tmp_path.iterdir())[0].unlink()

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        snapshot.append_record(tmp_path, {"new": 2}, NOW, 14, 16)
    assert today.read_bytes() == before


@pytest.mark.holds("RECORDER")
@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_planted_day_is_neither_read_nor_written(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Root shows the records; nothing under a day's name but a file is opened, and no record is deleted for it."""
    folder, secret = tmp_path / "records", tmp_path / "secret"
    folder.mkdir()
    secret.write_text('{"of": "somebody else"}\n')
    snapshot.append_record(folder, {"back": 1}, NOW - timedelta(days=1), 14, 16)
    today = folder / "2026-11-21.jsonl"
    if kind == "link":
        today.symlink_to(secret)
    elif kind == "fifo":
        os.mkfifo(today)
    else:
        today.mkdir()
    with pytest.raises(OSError, match="where a file belongs, and was not opened"):
        snapshot.append_record(folder, {"back": 0}, NOW, 14, 16)
    assert secret.read_text() == '{"of": "somebody else"}\n'
    assert snapshot.show(folder, 12) == 0
    output = capsys.readouterr()
    assert output.out == '{"back":1}\n'
    assert len(output.err.splitlines()) == 1
    assert f"{today} is a " in output.err


def test_installed_file_runs_alone(tmp_path: Path) -> None:
    """As the host runs it: alone, isolated, without anything of this project beside it."""
    alone = tmp_path / "hybrid-health-snapshot"
    alone.write_bytes((ROOT / "roles/flight_recorder/files/health_snapshot.py").read_bytes())
    folder = tmp_path / "records"
    folder.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", str(alone), "--folder", str(folder), *words]
        return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False, timeout=60)

    for _ in range(3):
        done = run("--keep")
        assert (done.returncode, done.stderr) == (0, "")
    with next(folder.iterdir()).open("a") as stream:
        stream.write('{"torn')
    shown = run("--show", "2")
    assert [json.loads(line)["time"][:2] for line in shown.stdout.splitlines()] == ["20", "20"]
    assert "1 torn" in shown.stderr
    assert json.loads(run().stdout)["load"]
    assert len(list(snapshot.read_records(folder))) == 4, "a record that is only printed is not stored"
    lost = run("--folder", str(tmp_path / "nowhere"), "--keep")
    assert (lost.returncode, "No such file" in lost.stderr) == (1, True)
