"""Commands and waits on a host: what they return, raise and record."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from proofs.evidence.recorder import Recorder, read
from proofs.host import shell
from proofs.host.shell import Host, HostError, Interrupted, Output, Stop, WaitTimeout


def test_wait_ends_by_condition_deadline_or_stop(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"))
    answers = iter([0, 0, 7])
    assert host.wait_for("seven", 5, lambda: next(answers), every=0.001) == 7
    with pytest.raises(WaitTimeout, match="never did not happen in 0"):
        host.wait_for("never", 0.01, lambda: 0, every=0.001)
    stop = Stop()
    stop.ask()
    for wait in (Host.wait_for, Host.poll, Host.assert_never):
        with pytest.raises(Interrupted):
            wait(Host(host.recorder, "", stop), "nothing", 5, lambda: 0)


@pytest.mark.parametrize(("look_s", "pause_s"), [(0.01, 0.25), (2.0, 2.0)])
def test_long_look_is_repeated_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_s: float, pause_s: float
) -> None:
    now = 0.0
    pauses: list[float] = []

    def look() -> bool:
        nonlocal now
        now += look_s
        return len(pauses) == 3

    monkeypatch.setattr(shell, "time", SimpleNamespace(monotonic=lambda: now, sleep=pauses.append))
    Host(Recorder(tmp_path / "events.jsonl")).poll("a tick", 60, look)
    assert pauses == pytest.approx([pause_s] * 3)


def test_poll_and_assert_never_record_their_verb(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"))
    assert host.poll("a tick", 5, lambda: 7) == 7
    assert host.poll("a tick", 0, lambda: 0) is None
    assert host.assert_never("a restart", 0, lambda: 0) is True
    assert host.assert_never("a restart", 5, lambda: 7) is False
    data = [event["data"] for event in read(tmp_path / "events.jsonl")]
    assert [(one["verb"], one["for"], one["came"]) for one in data] == [
        ("poll", "a tick", True),
        ("poll", "a tick", False),
        ("assert_never", "a restart", False),
        ("assert_never", "a restart", True),
    ]


def test_command_is_announced_before_it_runs(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    assert host.do("sh", "-c", "echo out; echo err >&2; exit 3", check=False) == Output(3, "out\n", "err\n")
    intent, command = read(tmp_path / "events.jsonl")
    assert (intent["kind"], command["kind"]) == ("intent", "command")
    assert intent["argv"] == command["argv"]
    assert (command["rc"], command["stdout"], command["stderr"]) == (3, "out\n", "err\n")
    assert host.look("no-such-program-anywhere").rc == 127


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_signal_to_no_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    """systemd says MainPID=0 of a unit that is down, and kill(2) takes that for the caller's own group."""
    sent: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append(pid))
    with pytest.raises(HostError, match=f"kill -STOP {pid}: the unit has no main process"):
        Host(Recorder(tmp_path / "events.jsonl")).send_signal(pid, signal.SIGSTOP)
    assert sent == []


def test_output_is_whole_however_late_it_is_read() -> None:
    """A command writes into memory, not into a pipe that is read for so long after its end."""
    for number in (1, 2):
        assert "/memfd:" in shell._run(("sh", "-c", f"readlink /proc/self/fd/{number}")).stdout
    output = shell._run(("sh", "-c", "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2; exit 3"))
    assert (output.rc, len(output.stdout), len(output.stderr)) == (3, 3_000_000, 2_000_000)
