"""After a boot: undo runs that a reboot or a power cut ended, and record that.

Their faults lay under /run and are gone, except those in a lab's edited files. What is left to do is to bring the unit
into its former state, and to end the recording: a run without an end looks like one that still runs.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from proofs.evidence.recorder import EVENTS, Recorder
from proofs.host.shell import Host
from proofs.restore.lease import Lease
from proofs.verdict import Json


def unfinished_leases(evidence_root: Path) -> list[Lease]:
    """The leases that were armed and never undone, oldest run first. A recording that cannot be read has none."""
    leases = []
    for folder in sorted(path for path in evidence_root.glob("*") if (path / EVENTS).is_file()):
        armed: list[Lease] = []
        for event in _events(folder / EVENTS):
            if event["kind"] == "intent" and isinstance(event["data"], dict) and "cap_s" in event["data"]:
                armed = [Lease(**event["data"])]
            elif event["kind"] == "undone":
                armed = []
        leases += armed
    return leases


def prepare_undo(left: Lease) -> None:
    """Save a lease of an earlier boot so that this boot can undo it; stop the unit if it was stopped then."""
    # Times of the earlier boot's clock mean nothing now, and what was written and copied under /run is gone.
    left.disturbed_mono, left.files, left.copies = 0.0, [], []
    if left.originals:  # edited files in /etc are still edited: what the boot started has to be restarted
        left.disturbed_mono = time.monotonic()
    left.save()
    if left.before["active"] == "inactive":  # an enabled unit, which its operator had stopped and the boot started
        Host(Recorder(Path(left.evidence)), f"{left.proof}/undo").do("systemctl", "stop", left.unit, check=False)


def _events(path: Path) -> Iterator[dict[str, Json]]:
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
            if {"kind", "data"} <= event.keys():
                yield event
        except (ValueError, AttributeError):
            return  # the last line, cut off when its writer was killed
