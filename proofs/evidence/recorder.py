"""The recorder: writes events.jsonl, one JSON object a line, each chained to the one before by its hash.

An event is {seq, prev, mono_ns, utc, kind, scope, argv, rc, stdout, stderr, data, blobs, sha256}. sha256 is the digest
of its canonical JSON without that key, and there is one way to write a line, so every byte of it counts. A big output
is a file of its own (`blobs`); credentials are removed (`redaction`).

Every change to the host is first written as an `intent` and fsynced, so that a recording that ends early still shows
what may have happened. Several threads and processes may write to one recording (the proof, and the undo that its lease
starts): a lock on the file keeps the chain whole.
"""

import fcntl
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence import blobs
from proofs.evidence.redaction import Redactor
from proofs.verdict import Json

Event = dict[str, Json]
GENESIS = "0" * 64
EVENTS = "events.jsonl"
LONGEST = 1 << 20  # bytes of an event's line; the longest that a run wrote so far had 20,000
_KEYS = ("seq", "prev", "mono_ns", "utc", "kind", "scope", "argv", "rc", "stdout", "stderr", "data", "blobs", "sha256")
_TEXTS = ("prev", "utc", "kind", "scope", "stdout", "stderr", "sha256")


class ChainBroken(ProofError):
    """A recording is not as it was written. line: the number of the first bad line, from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line


def canonical(event: dict[str, Json]) -> bytes:
    """The bytes that are hashed: sorted keys, no spaces, UTF-8, without sha256 itself."""
    body = {key: value for key, value in event.items() if key != "sha256"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def line_of(event: dict[str, Json]) -> bytes:
    """The one way in which an event is written: these keys in this order, those of `data` sorted."""
    data = json.loads(json.dumps(event["data"], sort_keys=True))
    body = {**{key: event[key] for key in _KEYS}, "data": data}
    return (json.dumps(body, ensure_ascii=False) + "\n").encode()


def has_cases_of(scope: str, name: str) -> bool:
    """Whether cases of that proof are recorded in this scope: those on the unit itself, or the one on a copy of it."""
    return scope == name or scope.startswith(f"{name}/copy ")


def line_number(event: dict[str, Json]) -> int:
    """The event's line in events.jsonl, from 1."""
    return int(event["seq"]) + 1


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Recorder:
    """Appends events to one file. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._redact = Redactor()
        self.learn = self._redact.learn
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)  # others could lock it
        self._size = -1  # unlike any size, so that the first write reads the tail
        self._seq = 0
        self._prev = GENESIS

    def write(
        self,
        kind: str,
        *,
        scope: str = "",
        argv: Sequence[str] = (),
        rc: int | None = None,
        stdout: str = "",
        stderr: str = "",
        data: Json = None,
        sync: bool = False,
    ) -> int:
        """Append one event and return its seq. sync: it is on the disk when this returns."""
        folder = self.path.parent / blobs.FOLDER
        out, whole_out = blobs.keep(folder, self._redact.text(stdout))
        err, whole_err = blobs.keep(folder, self._redact.text(stderr))
        references = {name: whole for name, whole in (("stdout", whole_out), ("stderr", whole_err)) if whole}
        content = {"kind": kind, "scope": scope, "argv": self._redact.argv(argv), "rc": rc, "blobs": references}
        content |= {"stdout": out, "stderr": err, "data": self.recorded(data)}
        with self._lock:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                self._catch_up()
                clocks = {"mono_ns": time.monotonic_ns(), "utc": utc_now()}
                event: dict[str, Json] = {"seq": self._seq, "prev": self._prev, **clocks, **content}
                event["sha256"] = hashlib.sha256(canonical(event)).hexdigest()
                line = line_of(event)
                os.write(self._fd, line)
                self._size += len(line)
                self._seq, self._prev = self._seq + 1, event["sha256"]
                if sync:
                    os.fsync(self._fd)
                return self._seq - 1
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def intent(self, what: str, *, scope: str = "", argv: Sequence[str] = (), data: Json = None) -> int:
        """Record what is about to be done to the host; it is on the disk when this returns."""
        return self.write("intent", scope=scope, argv=argv, stdout=what, data=data, sync=True)

    def recorded(self, data: Json) -> Json:
        """The data as an event has it: sorted JSON without credentials. Verdicts rest on this, not on the original."""
        return self._redact.data(json.loads(json.dumps(data, sort_keys=True)))

    def close(self) -> None:
        os.close(self._fd)

    def _catch_up(self) -> None:
        """Continue the chain where the file ends now, and cut off an incomplete last line, whose writer was killed."""
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


def read(path: Path) -> list[dict[str, Json]]:
    """All events of a recording. Raises ChainBroken as `checked` does; OSError: the file cannot be read."""
    return list(checked(path.read_bytes()))


def checked(raw: bytes) -> Iterator[dict[str, Json]]:
    """The events of a recording's bytes, one by one. Raises ChainBroken at the first line that is not as written."""
    prev = GENESIS
    for number, whole in enumerate(io.BytesIO(raw), 1):
        if not whole.endswith(b"\n"):
            raise ChainBroken(number, "cut off")
        if len(whole) > LONGEST:
            raise ChainBroken(number, f"longer than {LONGEST >> 10} KiB")
        line = whole[:-1]
        try:
            event = json.loads(line)
            problem = _problem(event, line, number - 1, prev)
        except (ValueError, RecursionError) as error:  # a lone surrogate, for one, has no bytes
            raise ChainBroken(number, f"not an event: {error}") from None
        if problem:
            raise ChainBroken(number, problem)
        prev = event["sha256"]
        yield event


def _problem(event: Json, line: bytes, seq: int, prev: str) -> str:
    """Why this line is not the event that was written with this number after that hash; empty when it is."""
    if not isinstance(event, dict) or event.keys() != set(_KEYS):
        return "not an event"
    if event["seq"] != seq:
        return f"seq {event['seq']} where {seq} was due"
    if event["prev"] != prev:
        return "does not follow the line before"
    if event["sha256"] != hashlib.sha256(canonical(event)).hexdigest():
        return "its content is not what was hashed"
    argv, rc = event["argv"], event["rc"]
    typed = (
        all(isinstance(event[key], str) for key in _TEXTS)
        and type(event["seq"]) is type(event["mono_ns"]) is int
        and (rc is None or type(rc) is int)
        and isinstance(argv, list)
        and all(isinstance(word, str) for word in argv)
        and isinstance(event["blobs"], dict)
    )
    return "" if typed and line_of(event) == line + b"\n" else "not written as an event is written"
