"""Which machine this is: hosts made from one image share their machine id, so that alone is none's own.

The gate of LIVE computes the same (hybrid_engine/live_gate.py); a test compares the two.
"""

import hashlib
import os
from pathlib import Path

MACHINE_ID = Path("etc/machine-id")
HOST_KEY = Path("etc/ssh/ssh_host_ed25519_key.pub")


def machine_identity(root: Path = Path("/")) -> str:
    """32 hexadecimal digits of /etc/machine-id, the host's name and its ssh host key; empty without a machine id."""
    machine_id = _read(root / MACHINE_ID).strip()
    words = _read(root / HOST_KEY).split()
    key = words[1] if len(words) > 1 else ""  # without its comment
    text = "\n".join((machine_id, os.uname().nodename, key))
    return hashlib.sha256(text.encode()).hexdigest()[:32] if machine_id else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
