"""Cut what one proof's verdict rests on out of a recorded run, for tests/data/proofs:

    python -m tests.support.excerpt evidence/HOST/RUN stall > tests/data/proofs/stall.jsonl

Events are left out and those that stay are chained anew; nothing in them is changed. So the excerpt is no evidence, but
it is what a host really recorded. To be made anew when the proof's own rules change.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proofs.evidence import recorder
from tests.support.proof_run import Event, rechained

_KINDS = {"proof", "deployed", "case", "witness", "measured", "judged", "mutant judged", "undone", "verdict"}
_HEADER = "run"


def excerpt(events: list[Event], name: str) -> list[Event]:
    def stays(event: Event) -> bool:
        if event["scope"].partition("/")[0] != name:
            return bool(event["kind"] == _HEADER)
        kind, data, argv = event["kind"], event["data"], event["argv"]
        return bool(
            kind in _KINDS
            or (kind == "observed" and data["when"] == "before")
            or (kind == "intent" and (event["stdout"].startswith("fault: ") or event["stdout"].startswith("what will")))
            or (kind == "command" and argv[:2] == ["systemctl", "show"] and event["seq"] < deployed)
            or (kind == "waited" and data["for"] == "the operator's engine healthy again")
        )

    deployed = next(e["seq"] for e in events if e["kind"] == "deployed" and e["scope"] == name)
    return rechained([event for event in events if stays(event)])


if __name__ == "__main__":
    for kept in excerpt(recorder.read(Path(sys.argv[1], recorder.EVENTS)), sys.argv[2]):
        sys.stdout.buffer.write(recorder.line_of(kept))
