"""Follow a run that was begun without waiting for it, and take the answers to what its proofs ask."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from proofs.experiment import controller_requests
from proofs.restore.lease import unit_of
from proofs.runner.run import EVIDENCE_ROOT, PROGRESS


def follow(run_id: str, offset: int, seconds: float, answers: bool = False) -> int:
    """Print {"text", "next", "ended"} as JSON: what the run has said from that byte on.

    Comes back at once when there is something to say, after that many seconds at the latest.

    answers: whoever follows plays what the proof asks for; "ask" is then what it waits for (see asks.py).
    """
    log = EVIDENCE_ROOT / run_id / PROGRESS
    deadline = time.monotonic() + seconds
    while True:
        # Asked first: what was said before the end is then in the file.
        state = subprocess.run(["systemctl", "is-active", "--quiet", unit_of(run_id)], check=False)
        ended = state.returncode != 0
        said = log.read_bytes()[offset:] if log.exists() else b""
        said = said[: said.rfind(b"\n") + 1]
        asked = controller_requests.open_ask(run_id) if answers and not ended else None
        if said or asked or ended or time.monotonic() >= deadline:
            news = {"text": said.decode(errors="replace"), "next": offset + len(said), "ended": ended}
            print(json.dumps(news | ({"ask": asked} if asked else {})))
            return 0
        time.sleep(0.2)


def answer(run_id: str, number: int) -> int:
    """Take what came of a proof's ask from stdin: {argv, rc, stdout, stderr} as JSON."""
    try:
        controller_requests.answer(run_id, number, sys.stdin.read())
    except (OSError, ValueError) as error:
        print(f"hybrid-proofs: not taken: {error}", file=sys.stderr)
        return 2
    return 0
