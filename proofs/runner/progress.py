"""A run's progress, for whoever follows it, and the answers to what its proofs ask.

Called every few seconds on the host that a run measures: so it imports no proofs, and tells several seconds at once.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from proofs.evidence.terminal import complain
from proofs.experiment import controller_requests
from proofs.restore.lease import unit_of

EVIDENCE_ROOT = Path("/var/lib/hybrid-proofs")
PROGRESS = "progress.log"
_GATHER_S = 3.0
_LOOK_S = 0.3


def follow(run_id: str, offset: int, seconds: float, answers: bool = False) -> int:
    """Print {"text", "next", "ended"} as JSON: the run's progress from byte `offset` on, and where to continue.

    Returns after 3 s when there is progress, at once at the run's end, after that many seconds at the latest. answers:
    the caller answers the proofs' requests; "ask" is then the open one, told at once (see controller_requests.py).
    """
    log = EVIDENCE_ROOT / run_id / PROGRESS
    began = time.monotonic()
    while True:
        # The state is read first: all progress before the end is then in the file.
        ended = _ended(run_id)
        progress = log.read_bytes()[offset:] if log.exists() else b""
        progress = progress[: progress.rfind(b"\n") + 1]
        request = controller_requests.open_ask(run_id) if answers and not ended else None
        enough_s = min(_GATHER_S, seconds) if progress else seconds
        if request or ended or time.monotonic() - began >= enough_s:
            news = {"text": progress.decode(errors="replace"), "next": offset + len(progress), "ended": ended}
            print(json.dumps(news | ({"ask": request} if request else {})))
            return 0
        time.sleep(_LOOK_S)


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
        complain(f"the answer to request {number} of run {run_id} was refused: {error}")
        return 2
    return 0
