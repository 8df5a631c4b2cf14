"""An undo leaves nothing of a run behind, at whichever moment its lease was being saved."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proofs.evidence.recorder import EVENTS, Recorder, read
from proofs.evidence.statement import STATEMENT
from proofs.host import lock
from proofs.host.shell import Output
from proofs.restore import lease
from proofs.restore.lease import Lease
from proofs.runner import progress
from proofs.runner import run as runner
from tests.support import programs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What systemctl was asked beside the recording."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(lease, "_systemctl", lambda *words: found.append(words))
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[tuple[str, ...]]) -> Path:
    monkeypatch.setattr(lease, "RUN_ROOT", tmp_path / "run")
    monkeypatch.setattr(lease, "_restore", lambda *_: {"restored": True})
    monkeypatch.setattr("proofs.host.shell._run", lambda *_: Output(0, "", ""))
    return tmp_path / "run"


def armed(root: Path, tmp_path: Path) -> Lease:
    return Lease("r1", "stall", "hybrid-engine.service", str(tmp_path / "events.jsonl"), 60.0, {"active": "active"})


def test_kill_during_first_save_leaves_nothing(root: Path, tmp_path: Path) -> None:
    (root / "r1").mkdir(parents=True)
    (root / "r1" / ".lease.json.new").write_text("{")
    assert lease.undo("r1", "ExecStopPost", tmp_path) is None
    assert not (root / "r1").exists()


def test_kill_during_later_save_leaves_nothing(root: Path, tmp_path: Path) -> None:
    armed(root, tmp_path).save()
    (root / "r1" / ".lease.json.new").write_text("{")
    assert lease.undo("r1", "ExecStopPost", tmp_path) == {"restored": True}
    assert not (root / "r1").exists()


@pytest.mark.holds("RESTORED")
def test_kill_between_lease_and_timer_is_undone(
    root: Path, tmp_path: Path, asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Output:
        raise KeyboardInterrupt

    armed(root, tmp_path).save()
    with monkeypatch.context() as patch:
        patch.setattr("proofs.host.shell._run", killed)  # the first command behind the lease's end stops its timer
        with pytest.raises(KeyboardInterrupt):
            lease.undo("r1", "the proof itself", tmp_path)
    assert not (root / "r1").exists()
    assert asked == []
    assert lease.undo("r1", "ExecStopPost", tmp_path) is None
    assert asked == [("stop", "hybrid-proof-lease-r1.timer")]


def test_undo_removes_only_runs(root: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    assert lease.undo("../else", "hand", tmp_path) is None
    assert (tmp_path / "else").is_dir()


@pytest.mark.parametrize("torn", [b"", b'{"seq": 1, "prev": "'])
def test_boot_writes_missing_statement(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    monkeypatch.setattr(progress, "EVIDENCE_ROOT", tmp_path / "evidence")
    folder = tmp_path / "evidence" / "r1"
    recorder = Recorder(folder / EVENTS)
    recorder.write("proof", scope="stall", data={"name": "stall", "claim": "", "bound": "", "fault": ""})
    recorder.close()
    with (folder / EVENTS).open("ab") as file:
        file.write(torn)
    with lock.locked(root / "lock", "a run that goes on"):
        assert runner.after_boot() == 0
        assert not (folder / STATEMENT).exists()
    assert runner.after_boot() == 0
    last = read(folder / EVENTS)[-1]
    assert last["stdout"] == "cut short; ended by boot"
    assert json.loads((folder / STATEMENT).read_text())["predicate"]["proofs"][0]["verdict"] == "ERROR"
    made = (folder / STATEMENT).read_bytes()
    assert runner.after_boot() == 0
    assert (folder / STATEMENT).read_bytes() == made


FROZEN = """
import fcntl, os, signal, sys
held = [open(path, "a") for path in sys.argv[1:]]
for file in held:
    fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.holds("RESTORED")
def test_undo_goes_on_without_a_lock_that_stays_held(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_LOCKED_S", 0.2)
    armed(root, tmp_path).save()
    with lock.locked(root / "undo.lock", "somebody"):
        report = lease.undo("r1", "ExecStopPost", tmp_path)
    assert report is not None
    assert not (root / "r1").exists()
    texts = [event["stdout"] for event in read(tmp_path / EVENTS) if event["kind"] == "intent"]
    assert any(
        text.startswith("undo, by ExecStopPost, without the lock: not free within 0.2 s (somebody, for ")
        for text in texts
    )


def test_lock_is_for_root_only(tmp_path: Path) -> None:
    """Whoever can open it can lock it, and so hold up the undo."""
    path = tmp_path / "undo.lock"
    path.touch(mode=0o644)
    with lock.locked_within(path, "me", 0.0) as held:
        assert held
        assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), lock.locked(path, "me"):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.holds("RESTORED")
@pytest.mark.parametrize("held", ["events.jsonl", "run/undo.lock"])
def test_frozen_lock_holder_does_not_block_undo(
    root: Path, tmp_path: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder(tmp_path / "events.jsonl").write("progress")
    armed(root, tmp_path).save()
    command = [sys.executable, "-c", FROZEN, str(tmp_path / held)]
    with programs.start(command, stdout=subprocess.PIPE) as proof:
        assert proof.stdout
        assert proof.stdout.readline() == "held\n"
        monkeypatch.setattr(lease, "_kill", lambda run: proof.kill())
        undo = threading.Thread(target=lambda: lease.undo("r1", "timer", tmp_path), daemon=True)
        undo.start()
        undo.join(20)
        hung = undo.is_alive()
        proof.kill()
    undo.join(20)
    assert not hung
    assert [event["data"] for event in read(tmp_path / "events.jsonl") if event["kind"] == "undone"] == [
        {"restored": True}
    ]
