"""Check what a host answers before its controller uses it: one typed error, and bounds on everything.

The host under test may be broken, or controlled by somebody else by now. Nothing here imports
Ansible or touches a file; what passes is written by `evidence.folder`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.errors import ProofError

ANSWER_BYTES = 1 << 20  # of one answer, where nothing else is said
ANSWER_S = 60.0
MEMORY_BYTES = 1 << 30  # that an answer may make the controller's process grow by, while it is received
DEPTH = 64  # of nested JSON
LINE = 500  # characters of a line that is shown
PROGRESS_BYTES = 1 << 26  # that a run may tell of itself in all
PROGRESS_ANSWERS = 100_000  # about eleven days of them
EMPTY_ANSWERS = 50  # at once and without news, where a host should have waited for some
MOST_ASKS = 20
ASK_PLAYS = ("deploy", "verify")
ASK_NUMBER = 1000
ASK_WITHOUT = 20

_RUN = re.compile(r"(?:[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}|soak-[0-9a-f]{32})", re.ASCII)
_ASSERTION = re.compile(r"tests/verify/test_[a-z0-9_]{1,60}\.py::test_[a-z0-9_]{1,120}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MACHINE = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HOST = re.compile(r"[\w][\w.:@-]{0,252}")
_MARKED = re.compile(r"(?:^|\n)begin-of-answer\n(.*)end-of-answer(?:\n|$)", re.DOTALL)


class HostInputError(ProofError):
    """What a host answered is not what was asked for; the message is one printable line."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def printable(text: str, longest: int = LINE, keep: str = "") -> str:
    """Text that a terminal shows as it is: no escape sequences, no line breaks, no longer than that."""
    shown = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in shown)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def printable_data(value: Any) -> Any:
    """The same for all of a JSON value, its keys too; line breaks and tabs stay. For what parse_json gave."""
    if isinstance(value, str):
        return printable(value, len(value), keep="\n\t")
    if isinstance(value, list):
        return [printable_data(item) for item in value]
    if isinstance(value, dict):
        return {printable_data(key): printable_data(item) for key, item in value.items()}
    return value


# An answer ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a command on the host printed, both streams bounded."""

    rc: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> str:
        """It in one line, without ssh's own farewell."""
        lines = [line.strip() for line in (self.stdout + self.stderr).splitlines()]
        shown = [line for line in lines if line and not line.startswith("Shared connection to ")]
        return printable("; ".join(shown), 4 * LINE)


def ask(run: Callable[[], Mapping[str, Any]], seconds: float = ANSWER_S, largest: int = ANSWER_BYTES) -> Answer:
    """Run a command on a host, as `_low_level_execute_command` does, and take what it prints.

    Raises:
        HostInputError: it took longer, or printed more.
    """
    with receiving(seconds):
        result = run()
    stdout, stderr = str(result["stdout"]).replace("\r\n", "\n"), str(result["stderr"])
    if len(stdout) > largest or len(stderr) > largest:
        raise HostInputError(f"it answers {max(len(stdout), len(stderr))} characters where {largest} are the most")
    return Answer(int(result["rc"]), stdout, stderr)


@contextmanager
def receiving(seconds: float, memory: int = MEMORY_BYTES) -> Iterator[None]:
    """Bounds on whoever takes an answer that never ends: so long, and so much more memory. In a main thread only.

    Raises:
        HostInputError: either was not enough.
    """

    def expire(*_: object) -> None:
        raise HostInputError(f"it does not end within {seconds:g} s")

    timed = threading.current_thread() is threading.main_thread()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, expire) if timed else None
    if timed:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        now = _address_space()
        if now and (soft == resource.RLIM_INFINITY or now + memory < soft):
            resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
        yield
    except MemoryError:
        raise HostInputError(f"it takes more than {memory >> 20} MB of memory") from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _address_space() -> int:
    """Of this process now, in bytes; 0 where that cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0


def marked(shell: str) -> str:
    """A shell text whose own output can be told from what a terminal or sudo print around it: see unmark."""
    return f"echo begin-of-answer; {{ {shell}; }} 2>/dev/null; echo; echo end-of-answer"


def unmark(text: str) -> str:
    """What a marked shell text printed. Raises HostInputError where that is not all there."""
    match = _MARKED.search(text)
    if match is None:
        raise HostInputError(f"it does not answer: {text.strip() or 'nothing'}")
    return match[1]


def decode_base64(text: str, size: int | None = None) -> bytes:
    """The bytes of what `base64` printed. Raises HostInputError where it is none, or they are not so many."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HostInputError(f"it answers what is no base64: {error}") from None
    if size is not None and len(content) != size:
        raise HostInputError(f"it answers {len(content)} bytes where {size} were asked for")
    return content


# JSON ---------------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, what: str, largest: int = ANSWER_BYTES) -> Any:
    """JSON of a host: no NaN, no lone surrogates, no numbers beyond 64 bits, not deeper than DEPTH.

    Raises:
        HostInputError: it is none, or larger. what: how the message calls it.
    """
    if len(text) > largest:
        raise HostInputError(f"{what} has {len(text)} bytes where {largest} are the most")
    try:
        value = json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse_constant)
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise HostInputError(f"{what} is no JSON of ours: {str(error) or type(error).__name__}") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_values(value: Any) -> None:
    open_values = [(value, 0)]
    while open_values:
        item, depth = open_values.pop()
        if depth > DEPTH:
            raise ValueError(f"nested deeper than {DEPTH}")
        if isinstance(item, str):
            item.encode()  # a lone surrogate raises
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number that is not finite")
        elif isinstance(item, int) and abs(item) >= 1 << 64:
            raise ValueError("a number beyond 64 bits")
        elif isinstance(item, list):
            open_values += [(each, depth + 1) for each in item]
        elif isinstance(item, dict):
            open_values += [(each, depth + 1) for pair in item.items() for each in pair]


def _fields(value: Any, what: str, required: Mapping[str, type], optional: Sequence[str] = ()) -> dict[str, Any]:
    """An object with exactly these fields of these types. Raises HostInputError."""
    if not isinstance(value, dict):
        raise HostInputError(f"{what} is no object: {value!r}")
    if missing := [key for key in required if key not in value]:
        raise HostInputError(f"{what} has no {missing[0]}")
    if unknown := [key for key in value if key not in required and key not in optional]:
        raise HostInputError(f"{what} has an unknown {unknown[0]}")
    for key, kind in required.items():
        if type(value[key]) is not kind:  # a bool is no int
            raise HostInputError(f"{what}: {key} is no {kind.__name__}: {value[key]!r}")
    return value


# Names --------------------------------------------------------------------------------------------------------------


def check_run(text: str) -> str:
    """The id of a run, as `hybrid-proofs run` and `soak` make one. Raises HostInputError for anything else."""
    if not _RUN.fullmatch(text):
        raise HostInputError(f"the id of its run is none of ours: {text!r}")
    return text


def check_host(name: str) -> str:
    """A name of the inventory that may be a directory's. Raises HostInputError."""
    if not _HOST.fullmatch(name):
        raise HostInputError(f"its name in the inventory cannot be a directory's: {name!r}")
    return name


# A run that is followed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """What a proof asks its controller to play."""

    number: int
    plays: tuple[str, ...]
    check: bool
    without: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """What a run has told since the last answer. lines: fit to be shown. next: the byte to go on from."""

    lines: tuple[str, ...]
    next: int
    ended: bool
    empty: bool
    ask: Ask | None


def parse_progress(text: str, offset: int) -> Progress:
    """An answer of `hybrid-proofs follow`. Raises HostInputError."""
    value = parse_json(text, "the progress of its run", largest=16 * ANSWER_BYTES)
    fields = _fields(value, "the progress of its run", {"text": str, "next": int, "ended": bool}, ["ask"])
    content, end = fields["text"], fields["next"]
    # A byte that is no UTF-8 is one character here, which takes three: no text has more characters than bytes.
    if not offset <= end <= PROGRESS_BYTES or len(content) > end - offset or (end > offset) != bool(content):
        raise HostInputError(f"the progress of its run goes on at {end} after {offset} with {len(content)} characters")
    ask_ = parse_ask(fields["ask"]) if fields.get("ask") is not None else None
    lines = tuple(printable(line) for line in content.splitlines())
    return Progress(lines, end, fields["ended"], not content, ask_)


def parse_ask(value: Any) -> Ask:
    """What a proof may ask of its controller. Raises HostInputError for anything else."""
    kinds = {"number": int, "plays": list, "check": bool, "without": list}
    fields = _fields(value, "what a proof asked", kinds)
    number, plays, without = fields["number"], fields["plays"], fields["without"]
    if not 1 <= number <= ASK_NUMBER:
        raise HostInputError(f"a proof asked under the number {number}")
    if not 1 <= len(plays) <= len(ASK_PLAYS) or any(play not in ASK_PLAYS for play in plays):
        raise HostInputError(f"a proof asked for {plays}, and may ask for {', '.join(ASK_PLAYS)}")
    if len(without) > ASK_WITHOUT or not all(isinstance(n, str) and _ASSERTION.fullmatch(n) for n in without):
        raise HostInputError(f"a proof asked to leave out what are no assertions of verify: {without}")
    return Ask(number, tuple(plays), fields["check"], tuple(without))


class ProgressBudget:
    """Counts the answers of a run that is followed, so that no host keeps its controller busy for nothing."""

    def __init__(self) -> None:
        self._answers = 0
        self._empty = 0

    def count(self, progress: Progress, took_s: float) -> None:
        """Raises HostInputError when there were too many."""
        self._answers += 1
        self._empty = self._empty + 1 if progress.empty and not progress.ended and took_s < 1 else 0
        if self._answers > PROGRESS_ANSWERS:
            raise HostInputError(f"its run answered {PROGRESS_ANSWERS} times and did not end")
        if self._empty > EMPTY_ANSWERS:
            raise HostInputError(f"its run answered {EMPTY_ANSWERS} times in a row without news")


def parse_live(text: str) -> dict[str, str]:
    """What `hybrid-proofs live` prints: release_digest, config_digest, machine_id. Raises HostInputError."""
    kinds = {"release_digest": str, "config_digest": str, "machine_id": str}
    fields = _fields(parse_json(text, "what is live"), "what is live", kinds)
    for key, value in fields.items():
        if not (_MACHINE if key == "machine_id" else _DIGEST).fullmatch(value):
            raise HostInputError(f"what is live: {key} is none: {value!r}")
    return dict(fields)


# Evidence -------------------------------------------------------------------------------------------------------------

EVENTS, STATEMENT, BLOBS = "events.jsonl", "statement.json", "blobs"
EVENTS_BYTES = 1 << 26
STATEMENT_BYTES = 1 << 22
BLOB_BYTES = 1 << 26
MOST_BLOBS = 4096
EVIDENCE_BYTES = 1 << 28  # all files of a run
LISTING_BYTES = 1 << 20
CHUNK_BYTES = 1 << 22  # asked for at once
CHUNK_FILES = 100
_LISTED = re.compile(r"(\S) ([0-9]{1,15}) (.+)", re.ASCII)


@dataclass(frozen=True)
class EvidenceFile:
    """A file of a run as the host lists it. name: relative to the run's directory."""

    name: str
    size: int


def parse_listing(text: str) -> list[EvidenceFile]:
    """Files of a run, as `KIND SIZE NAME` lines: the two that every run has, and blobs. Raises HostInputError."""
    files: dict[str, EvidenceFile] = {}
    folder = False
    for line in filter(None, text.split("\n")):
        match = _LISTED.fullmatch(line)
        if match is None:
            raise HostInputError(f"its evidence is listed as {line!r}")
        kind, size, name = match[1], int(match[2]), match[3]
        if kind != ("d" if name == BLOBS else "f"):
            raise HostInputError(f"its evidence has {name!r}, which is no plain file (kind {kind})")
        if name == BLOBS and not folder:
            folder = True
            continue
        if name in files or size > _largest(name):
            raise HostInputError(f"its evidence lists {name!r} twice, or with {size} bytes")
        files[name] = EvidenceFile(name, size)
    if missing := [name for name in (EVENTS, STATEMENT) if name not in files]:
        raise HostInputError(f"its run left no {missing[0]}")
    if len(files) > MOST_BLOBS + 2:
        raise HostInputError(f"its evidence has {len(files)} files, and may have {MOST_BLOBS + 2}")
    total = sum(file.size for file in files.values())
    if total > EVIDENCE_BYTES:
        raise HostInputError(f"its evidence has {total} bytes, and may have {EVIDENCE_BYTES}")
    return sorted(files.values(), key=lambda file: file.name)


def _largest(name: str) -> int:
    """Bytes that this file may have. Raises HostInputError for one that no run has."""
    if name in (EVENTS, STATEMENT):
        return EVENTS_BYTES if name == EVENTS else STATEMENT_BYTES
    folder, _, digest = name.partition("/")
    if folder != BLOBS or not _DIGEST.fullmatch(digest):
        raise HostInputError(f"its evidence has {name!r}, and may have {EVENTS}, {STATEMENT} and {BLOBS}/SHA256")
    return BLOB_BYTES


@dataclass(frozen=True)
class Segment:
    """Bytes of a file."""

    name: str
    offset: int
    size: int


def plan_chunks(files: Sequence[EvidenceFile]) -> list[list[Segment]]:
    """All bytes of all files, in order, as chunks that are asked for at once."""
    chunks: list[list[Segment]] = [[]]
    room = CHUNK_BYTES
    for file in files:
        offset = 0
        while offset < file.size:
            if not room or len(chunks[-1]) >= CHUNK_FILES:
                chunks.append([])
                room = CHUNK_BYTES
            size = min(room, file.size - offset)
            chunks[-1].append(Segment(file.name, offset, size))
            offset, room = offset + size, room - size
    return [chunk for chunk in chunks if chunk]


def check_evidence_json(name: str, content: bytes) -> None:
    """That a statement or the events are JSON objects of ours. Raises HostInputError."""
    lines = content.split(b"\n")[:-1] if name == EVENTS else [content]
    if name == EVENTS and content and not content.endswith(b"\n"):
        raise HostInputError(f"{EVENTS} is cut off")
    for number, line in enumerate(lines, 1):
        what = f"{name}, line {number}" if name == EVENTS else name
        if not isinstance(parse_json(line, what, largest=EVENTS_BYTES), dict):
            raise HostInputError(f"{what} is no object")


# A host's history -----------------------------------------------------------------------------------------------------

HISTORY_BYTES = 1 << 23
HISTORY_LINES = 20_000
HISTORY_CHANGES = 100
HISTORY_TEXT = 4096
_HISTORY_TEXTS = (
    *("when", "what", "of", "outcome", "by", "ssh_user", "from", "address"),
    *("revision", "release", "config_digest", "tried", "why"),
)


def parse_history(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of a host's deployments.jsonl with their numbers as "line", and the numbers of torn ones.

    A line that is no JSON object, or has no "when", is one that a power cut left half written.

    Raises:
        HostInputError: a line that is an object, and not one of a history; or there are too many.
    """
    lines = content.split(b"\n")
    if len(content) > HISTORY_BYTES or len(lines) > HISTORY_LINES:
        raise HostInputError(f"its history has {len(content)} bytes in {len(lines)} lines")
    entries: list[dict[str, Any]] = []
    torn: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "when" in value:
            entry = _history_entry(parse_json(line, f"line {number} of its history"), number)
            entries.append({**entry, "line": number})
        else:
            torn.append(number)
    return entries, torn


def _history_entry(value: dict[str, Any], number: int) -> dict[str, Any]:
    for key, item in value.items():
        texts = item if key == "changed" and isinstance(item, list) else [item]
        known = key in (*_HISTORY_TEXTS, "changed") and len(texts) <= HISTORY_CHANGES
        if item is None and key in _HISTORY_TEXTS and key != "when":
            continue
        if not known or any(not isinstance(text, str) or len(text) > HISTORY_TEXT for text in texts):
            raise HostInputError(f"line {number} of its history: {key} is {item!r}")
    return value


# A host that is looked at before anything is done -------------------------------------------------------------------

PROBE_LINES = 100
_PROBE_KEY = re.compile(r"([a-z0-9_]{1,32})=(.{0,300})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{0,15}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.+-]{0,64}", re.ASCII)
_PROBE_VALUES = {
    **dict.fromkeys(("uid", "systemd", "clock", "free_opt", "free_var", "free_etc", "proof_age_s"), _NUMBER),
    **dict.fromkeys(("state", "kernel", "machine", "bus", "psi", "container", "libc", "sqlite", "missing_tool"), _WORD),
    "python": re.compile(r"(?:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})?", re.ASCII),
    **dict.fromkeys(("read_only", "noexec"), re.compile(r"/[a-z]{1,16}", re.ASCII)),
}


def parse_probe(text: str) -> list[str]:
    """The KEY=value lines of preflight's probe; others, such as a terminal's greeting, are left out.

    Raises:
        HostInputError: a value that its key cannot have, or too many lines.
    """
    lines = [line.strip() for line in text.split("\n")]
    pairs = [line for line in lines if re.match(r"[a-z0-9_]+=", line)]
    if len(pairs) > PROBE_LINES:
        raise HostInputError(f"it says {len(pairs)} things about itself, and may say {PROBE_LINES}")
    for line in pairs:
        match = _PROBE_KEY.fullmatch(line)
        allowed = _PROBE_VALUES.get(match[1]) if match else None
        if match is None or not line.isprintable() or (allowed and not allowed.fullmatch(match[2])):
            raise HostInputError(f"it says of itself {line!r}, which no host of ours says")
    return pairs
