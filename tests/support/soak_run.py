"""A whole soak in this process, of a real engine that a small systemd keeps: decisions, figures and the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proofs.evidence import unit_parts
from proofs.host import deployed
from proofs.host.deployed import Live
from proofs.host.shell import Stop
from proofs.restore import lease
from proofs.runner import progress, run, run_proof
from proofs.soak import log, observer, override
from proofs.soak.criteria import PROOF
from proofs.soak.options import Options
from proofs.soak.run import Soak
from tests.support.process import Launcher, wait_until
from tests.support.small_systemd import SmallSystemd

UNIT = "hybrid-engine.service"
# A run holds after so long, and is looked at more than twice a second. The beat of the engine is quicker.
STALL_S = 4.0
LATER_S = 60.0  # on a busy machine
FACTS = {"hostname": "nuc", "machine_id": "c" * 32, "boot_id": "d", "kernel": "6.1", "os": "Debian"}
PARTS = [unit_parts.of_file("/etc/systemd/system/hybrid-engine.service", b"[Service]")]  # as SmallSystemd shows it
LIVE = Live("a" * 64, "b" * 64, FACTS["machine_id"], unit_parts.digest(PARTS))


class SoakRun:
    """An engine with this configuration, and one soak of it."""

    def __init__(self, launcher: Launcher, patch: pytest.MonkeyPatch, **sections: Any) -> None:
        sections["engine"] = {"run_seconds": 0, "tick_interval_ms": 20, **sections.get("engine", {})}
        self.launcher = launcher
        self.systemd = SmallSystemd(launcher, launcher.write_config(sections))
        self.root = launcher.folder / "evidence"
        self.stop = Stop()
        self.code = -1
        patch.setattr("proofs.host.shell._run", self.systemd.run)
        patch.setattr(progress, "EVIDENCE_ROOT", self.root)
        patch.setattr(run, "facts", lambda: FACTS)
        patch.setattr(deployed, "parts_of_unit", lambda shown, checked: PARTS)
        patch.setattr(run_proof, "facts", lambda: FACTS)
        patch.setattr(run_proof, "STATE_DIR", launcher.folder)
        patch.setattr(lease, "RUN_ROOT", launcher.folder / "run")
        patch.setattr(lease, "tree_digest", lambda paths: "e" * 64)
        patch.setattr(override, "SYSTEMD_RUN", self.systemd.conf.parents[1])
        patch.setattr(observer, "ABORT_FILE", launcher.folder / "ABORT")
        self._pool = ThreadPoolExecutor(1)
        self._future: Future[int] | None = None

    def begin(self, seconds: float, before: Callable[[], object] = lambda: None, **options: Any) -> None:
        """Start the engine, and soak it once it is healthy. before: done to it between the two."""
        soak = Soak(Options(seconds=seconds, stall_s=STALL_S, **options))
        self.systemd.start()
        wait_until(lambda: self.systemd.active == "active", "the engine up")
        wait_until(lambda: self.systemd.run(("env", "x", "health", "--json")).rc == 0, "the engine healthy")
        before()
        self._future = self._pool.submit(
            run.record_run, [PROOF], UNIT, "r1", run.Origin("abc"), 60, self.stop, soak.run
        )

    def watching(self) -> None:
        """Wait until the gate is behind it, and what is done to the engine from now on is seen by the watch."""
        self._wait(lambda: self._recorded("witness"), "the watch")

    def until(self, *actions: str) -> None:
        """Wait until these were decided, in this order."""
        self._wait(lambda: self.actions[: len(actions)] == [*actions], f"{actions}")

    def _wait(self, came: Callable[[], object], what: str) -> None:
        future = self._future
        assert future
        wait_until(lambda: came() or future.done(), what, LATER_S)
        assert came(), (what, self.decisions)

    def end(self) -> dict[str, Any]:
        """Wait for the end; the proof's entry of the statement."""
        assert self._future
        self.code = self._future.result(LATER_S)
        (entry,) = json.loads((self.folder / "statement.json").read_text())["predicate"]["proofs"]
        measured: dict[str, Any] = entry
        return measured

    @property
    def folder(self) -> Path:
        return self.root / "r1"

    @property
    def decisions(self) -> list[dict[str, Any]]:
        path = self.folder / log.DECISIONS
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def actions(self) -> list[str]:
        return [decision["action"] for decision in self.decisions]

    @property
    def looks(self) -> int:
        return self.systemd.commands.count(("journalctl", "--sync"))

    def measured(self) -> dict[str, Any]:
        (measured,) = self._recorded("measured")
        return dict(measured)

    def _recorded(self, kind: str) -> list[Any]:
        path = self.folder / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event["data"] for event in events if event["kind"] == kind]

    def close(self) -> None:
        self.stop.ask()
        self.systemd.close()
        self._pool.shutdown(wait=True)


Make = Callable[..., SoakRun]
