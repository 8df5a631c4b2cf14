"""storage: on a full disk the engine ends with 14, what was committed stays readable, and space brings it back; it
refuses databases that it must not write to, and deletes exactly what is too old."""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from proofs.catalog import _recovery
from proofs.catalog._recovery import DEADLINE_S, Lasting, Recovery
from proofs.catalog._refused import Corrupt, Foreign, Held, NoSync
from proofs.catalog._retention import Retention
from proofs.catalog._steady import STEADY_TICKS, await_ticks
from proofs.catalog.mutations import patched
from proofs.experiment.case import Proof
from proofs.experiment.measurements import Count, Positive
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Row
from proofs.host.regular_file import open_regular
from proofs.verdict import Check, Json, Result

SIZE_KB = 4096
SCRATCH = config(
    ingest_mode="SYNTHETIC",
    tick_interval_ms=10,
    flush_interval_ms=100,
    heartbeat_interval_secs=0.5,
    storage_deadline_s=DEADLINE_S,
)


@dataclass(frozen=True)
class NoSpace:
    """errno: of our own write. last: the highest tick id that was committed by then."""

    errno: Literal["ENOSPC"]
    free_kb: Literal[0]
    size_kb: Count
    last: Positive


@dataclass(frozen=True, kw_only=True)
class AfterFullDisk(Lasting):
    """ticks_before: rows committed when the disk was full; ticks_kept: those of them that are there after it."""

    ticks_before: Count | None = None
    ticks_kept: Count | None = None
    rows_equal: bool | None = None


class Full(Recovery):
    name = "full disk"
    fault = f"the {SIZE_KB} KB file system under the database is filled up, and kept full, by somebody else's file"
    code = 14
    n_min = STEADY_TICKS

    def steady(self, subject: Subject) -> None:
        subject.cap_state(SIZE_KB)
        subject.fresh()
        subject.put("config.toml", SCRATCH)
        subject.restart()
        await_ticks(subject, STEADY_TICKS)
        self.cursor = subject.unit.cursor()

    def inject(self, subject: Subject) -> None:
        subject.announce(f"fill {subject.state}")
        self.t0 = time.monotonic()
        self.refused = _fill(subject)

    def witness(self, subject: Subject) -> NoSpace | None:
        """The kernel's word: our own write was refused with ENOSPC, and not a block is free."""
        free_kb, size_kb = _room(subject.host.look("stat", "-f", "-c", "%a %b %S", str(subject.state)).stdout)
        self.last = subject.recorded().last_tick()
        self.rows = subject.recorded().ticks(self.last)
        full = self.refused == errno.ENOSPC and free_kb == 0
        return NoSpace("ENOSPC", 0, size_kb, self.last) if full else None

    def traced_witness(self, witness: NoSpace, trace: Trace) -> Mapping[str, Json | Between]:
        free_kb, size_kb = _room(trace.text("stat", "-f"))
        return {"free_kb": free_kb, "size_kb": size_kb, "last": trace.store().last_tick()}

    def witnessed(self, witness: NoSpace) -> bool:
        return witness.size_kb == SIZE_KB

    def began(self, trace: Trace) -> tuple[float, float]:
        return trace.around(trace.intent("fill "))

    def keep_up(self, subject: Subject) -> None:
        _fill(subject)

    def lift(self, subject: Subject) -> None:
        subject.announce(f"remove the ballast of {subject.state}")
        (subject.state / "ballast").unlink()

    def measure(self, subject: Subject) -> AfterFullDisk:
        # Some commit may still have found room between our last look and the last block: what was read is what counts.
        return AfterFullDisk(**{**self.run_fault(subject), "n": len(self.rows)})

    def figures_after(self, subject: Subject) -> dict[str, Any]:
        return _kept(self.rows, subject.recorded().ticks(self.last))

    def traced(self, measured: Lasting, trace: Trace) -> Mapping[str, Json | Between]:
        last = trace.store().last_tick()
        rows, rows_after = trace.store(0).ticks(last), trace.store(-1).ticks(last)
        again = {**super().traced(measured, trace), "n": len(rows)}
        return {**again, **_kept(rows, rows_after)} if "integrity" in again else again

    def judge(self, measured: AfterFullDisk) -> Sequence[Check]:
        checks = self.checks(measured)
        if measured.back_s is not None:
            kept, before = measured.ticks_kept, measured.ticks_before
            whole = measured.rows_equal is True and bool(before) and kept == before
            checks.append(Check("committed ticks kept", kept, before, whole))
        return checks


def _room(output: str) -> tuple[int, int]:
    """Free blocks and blocks of a file system, in KB, by what stat printed."""
    free, blocks, size = map(int, output.split())
    return free * size >> 10, blocks * size >> 10


def _kept(rows: list[Row], rows_after: list[Row]) -> dict[str, Json]:
    return {"ticks_before": len(rows), "ticks_kept": len(rows_after), "rows_equal": rows == rows_after}


def _fill(subject: Subject) -> int:
    """Take whatever room there is. Returns the errno of the write that was refused in the end."""
    fd = open_regular(subject.state / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(fd)


def headline(results: Sequence[Result]) -> str:
    return _recovery.headline([result for result in results if result.case == Full.name])


PROOF = Proof(
    name="storage",
    claim="a full disk ends the engine with 14, loses nothing that was committed, and space alone brings it back; a"
    " database that is not the engine's alone, or cannot be synced, is refused with 14; old chains go whole",
    bound=f"14 after storage_deadline_s ({DEADLINE_S:g} s) + 3 s, restarted, every committed tick kept, a tick in"
    " deadline + RestartSec + 5 s; refused: never ready, nothing changed; retention: exactly the chains of before",
    fault=f"{Full.fault}; a foreign and a corrupt database, a second writer, fsync refused; chains of two days ago",
    seconds=17,
    cases=lambda deployed: [case(deployed) for case in (Full, Retention, Foreign, Corrupt, Held, NoSync)],
    on_copies=[case.name for case in (Retention, Foreign, Corrupt, Held, NoSync)],
    mutants=[
        patched("storage/swallows-errors", Full.alone),
        patched("storage/unsynced", NoSync.alone),
        patched("storage/any-database", Foreign.alone),
        patched("storage/one-more", Retention.alone),
    ],
    notes=f"storage_deadline_s is {DEADLINE_S:g} s in the scratch config; its state lies on a tmpfs of {SIZE_KB} KB",
    headline=headline,
    host_word={
        "witness.errno": "how a write of the proof's own was refused",
        "witness.lock": "a lock of the proof's own",
    },
)
