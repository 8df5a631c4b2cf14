"""Follows a run that was started with --no-wait: prints its progress, and takes answers to its proofs' requests."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from proofs.experiment import controller_requests
from proofs.restore.lease import unit_of
from proofs.runner.run import EVIDENCE_ROOT, PROGRESS


def follow(run_id: str, offset: int, seconds: float, answers: bool = False) -> int:
    """Print {"text", "next", "ended"} as JSON: the run's progress from byte `offset` on, and where to continue.

    Returns at once when there is progress, after that many seconds at the latest.

    answers: the caller answers requests; "ask" is then the open one (see controller_requests.py).
    """
    log = EVIDENCE_ROOT / run_id / PROGRESS
    deadline = time.monotonic() + seconds
    while True:
        # The state is read first: all progress before the end is then in the file.
        ended = _ended(run_id)
        progress = log.read_bytes()[offset:] if log.exists() else b""
        progress = progress[: progress.rfind(b"\n") + 1]
        request = controller_requests.open_ask(run_id) if answers and not ended else None
        if progress or request or ended or time.monotonic() >= deadline:
            news = {"text": progress.decode(errors="replace"), "next": offset + len(progress), "ended": ended}
            print(json.dumps(news | ({"ask": request} if request else {})))
            return 0
        time.sleep(0.2)


def _ended(run_id: str) -> bool:
    """systemd says that the run's unit is over: not while its undo goes on, nor when systemd does not answer."""
    argv = ["systemctl", "show", "--value", "--property=ActiveState", unit_of(run_id)]
    shown = subprocess.run(argv, check=False, capture_output=True, text=True)
    return shown.stdout.strip() in ("inactive", "failed")


def answer(run_id: str, number: int) -> int:
    """Take the result of a proof's request from stdin: {argv, rc, stdout, stderr} as JSON."""
    try:
        controller_requests.answer(run_id, number, sys.stdin.read())
    except (OSError, ValueError) as error:
        print(f"hybrid-proofs: the answer to request {number} of run {run_id} was refused: {error}", file=sys.stderr)
        return 2
    return 0
