"""The flight recorder: events.jsonl, one object a line, each chained to the one before by hash.

An event is {seq, prev, mono_ns, utc, kind, scope, argv, rc, stdout, stderr, data, sha256}; sha256 is that of its
canonical JSON without the key itself. Whatever changes the host is written as an `intent` and fsynced *before* it is
done, so that a recording that ends early still says what may have happened. Several processes may write one recording,
one after the other or at once (the proof, and the undo that its lease fires): a lock on the file keeps the chain whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from proofs.verdict import Json

GENESIS = "0" * 64
EVENTS = "events.jsonl"
_KEEP = 200_000  # characters of one output that are kept; the rest is named by length and digest


class ChainBroken(Exception):
    """A recording that is not what was written: `line` (from 1) is the first bad one."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


def canonical(event: dict[str, Json]) -> bytes:
    """The bytes that are hashed: sorted keys, no spaces, UTF-8, without sha256 itself."""
    body = {key: value for key, value in event.items() if key != "sha256"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Recorder:
    """Appends events to one file. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = -1  # not the size seen last: the tail has to be read
        self._seq = 0
        self._prev = GENESIS

    def write(
        self, kind: str, *, scope: str = "", argv: Sequence[str] = (), rc: int | None = None, stdout: str = "",
        stderr: str = "", data: Json = None, sync: bool = False,
    ) -> int:  # fmt: skip
        """Append one event and return its seq. sync: do not come back before it is on the disk."""
        with self._lock:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                self._catch_up()
                event: dict[str, Json] = {
                    "seq": self._seq, "prev": self._prev, "mono_ns": time.monotonic_ns(), "utc": utc_now(),
                    "kind": kind, "scope": scope, "argv": list(argv), "rc": rc, "stdout": _keep(stdout),
                    "stderr": _keep(stderr), "data": data,
                }  # fmt: skip
                event["sha256"] = hashlib.sha256(canonical(event)).hexdigest()
                line = (json.dumps(event, ensure_ascii=False) + "\n").encode()
                os.write(self._fd, line)
                self._size += len(line)
                self._seq, self._prev = self._seq + 1, event["sha256"]
                if sync:
                    os.fsync(self._fd)
                return self._seq - 1
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def intent(self, what: str, *, scope: str = "", argv: Sequence[str] = (), data: Json = None) -> int:
        """Say what is about to be done to the host; on the disk when this returns."""
        return self.write("intent", scope=scope, argv=argv, stdout=what, data=data, sync=True)

    def close(self) -> None:
        os.close(self._fd)

    def _catch_up(self) -> None:
        """Continue the chain where the file ends now; cut off a line that its writer did not live to finish."""
        size = os.fstat(self._fd).st_size
        if size == self._size:
            return
        raw = os.pread(self._fd, size, 0)
        whole = raw.rfind(b"\n") + 1
        if whole != size:
            os.ftruncate(self._fd, whole)
        lines = raw[:whole].splitlines()
        if lines:
            last = json.loads(lines[-1])
            self._seq, self._prev = last["seq"] + 1, last["sha256"]
        self._size = whole


def _keep(text: str) -> str:
    if len(text) <= _KEEP:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{text[:_KEEP]}\n[cut: {len(text)} characters in all, sha256 {digest}]"


def read(path: Path) -> list[dict[str, Json]]:
    """All events of a recording, the chain checked.

    Raises:
        ChainBroken: a line is missing, changed, out of order or not JSON.
        OSError: the file cannot be read.
    """
    return list(_checked(path.read_bytes()))


def _checked(raw: bytes) -> Iterator[dict[str, Json]]:
    prev = GENESIS
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise ChainBroken(number, f"not JSON: {error}") from None
        if not isinstance(event, dict) or not {"seq", "prev", "sha256", "kind"} <= event.keys():
            raise ChainBroken(number, "not an event")
        if event["seq"] != number - 1:
            raise ChainBroken(number, f"seq {event['seq']} where {number - 1} was due")
        if event["prev"] != prev:
            raise ChainBroken(number, "does not follow the line before")
        prev = hashlib.sha256(canonical(event)).hexdigest()
        if event["sha256"] != prev:
            raise ChainBroken(number, "its content is not what was hashed")
        yield event
    if raw and not raw.endswith(b"\n"):
        raise ChainBroken(raw.count(b"\n") + 1, "cut off")
