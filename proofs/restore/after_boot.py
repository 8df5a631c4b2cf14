"""After a boot: undo what a run left when the host went down in the middle of it, and say so in its recording.

The faults themselves lay under /run and are gone, but for those in a lab's own files. What is left to do is to see
that the unit is as it was, to bring it there where it is not, and to end the recording: a run without an end would look
like one that still goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from proofs.evidence.recorder import EVENTS, Recorder
from proofs.evidence.statement import STATEMENT
from proofs.host.shell import Host
from proofs.restore import lease
from proofs.restore.lease import Lease
from proofs.verdict import Json


def left_behind(evidence_root: Path) -> list[Lease]:
    """The leases that were armed and never undone, oldest run first. A recording that cannot be read has none."""
    found = []
    for folder in sorted(path for path in evidence_root.glob("*") if (path / EVENTS).is_file()):
        armed: Lease | None = None
        for event in _events(folder / EVENTS):
            if event["kind"] == "intent" and isinstance(event["data"], dict) and "cap_s" in event["data"]:
                armed = Lease(**event["data"])
            elif event["kind"] == "undone":
                armed = None
        if armed is not None:
            found.append(armed)
    return found


def prepare(left: Lease) -> None:
    """Make an undo of this lease possible in this boot, with the unit in the state that it had before the proof."""
    # The clock of the boot in which it was disturbed is gone, and so is whatever it wrote and copied under /run.
    left.disturbed_mono, left.files, left.copies = 0.0, [], []
    if left.originals:  # these were in /etc and are there still: whatever the boot started has to be started anew
        left.disturbed_mono = time.monotonic()
    left.save()
    if left.before["active"] == "inactive":  # enabled, it was started by the boot; its operator had stopped it
        host = Host(Recorder(Path(left.evidence)), f"{left.proof}/undo")
        host.do("systemctl", "stop", left.unit, check=False)


def pending(evidence_root: Path) -> Iterator[str]:
    """The ids of the runs that are left to undo, each prepared. Runs that go on now are none of them."""
    for left in left_behind(evidence_root):
        if not (lease.RUN_ROOT / left.run / "lease.json").exists():
            prepare(left)
            yield left.run


def unended(evidence_root: Path) -> list[Path]:
    """The recordings of which nobody made a statement."""
    recordings = sorted(path.parent for path in evidence_root.glob(f"*/{EVENTS}"))
    return [folder for folder in recordings if not (folder / STATEMENT).exists()]


def _events(path: Path) -> Iterator[dict[str, Json]]:
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
            if {"kind", "data"} <= event.keys():
                yield event
        except (ValueError, AttributeError):
            return  # the line that its writer did not live to finish
