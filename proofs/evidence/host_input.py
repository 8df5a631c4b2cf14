"""Check what a host answers before its controller uses it: one typed error, and bounds on everything.

The host under test may be broken, or controlled by somebody else by now. Nothing here imports
Ansible or touches a file; what passes is written by `evidence.folder`.
"""

import base64
import json
import math
import os
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from proofs.errors import ProofError

ANSWER_BYTES, ANSWER_S = 1 << 20, 60.0  # of one answer, where nothing else is said
MEMORY_BYTES = 1 << 30  # that an answer may make the controller's process grow by, while it is received
DEPTH = 64  # of nested JSON
LINE = 500  # characters of a line that is shown
PROGRESS_BYTES = 1 << 26  # that a run may tell of itself in all
PROGRESS_ANSWERS = 100_000  # about eleven days of them
EMPTY_ANSWERS = 50  # at once and without news, where a host should have waited for some
MOST_ASKS = 20
ASK_PLAYS = ("deploy", "verify", "adopt", "return")

_RUN = re.compile(r"(?:[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}|soak-[0-9a-f]{32})", re.ASCII)
_HOST = re.compile(r"[\w][\w.:@-]{0,252}")
_BEGIN = "begin-of-output"
_BEGUN = re.compile(rf"(?:^|\n){_BEGIN}\n")
_MARKED = re.compile(r"(?:^|\n)begin-of-answer\n(.*)end-of-answer(?:\n|$)", re.DOTALL)


class _Expired(BaseException):
    """The time is over. No handler of errors on the way takes it for one of its own."""


class HostInputError(ProofError):
    """What a host answered is not what was asked for; the message is one printable line."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class AnswerTimeoutError(HostInputError):
    """An answer did not end in time: its host may be hostile, or be gone."""


def printable(text: str, longest: int = LINE, keep: str = "") -> str:
    """Text that a terminal shows as it is: no escape sequences, no line breaks, no longer than that."""
    shown = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    if shown.isprintable():
        return shown
    raw = [c for c in set(shown).difference(keep) if not c.isprintable()]
    return shown.translate({ord(c): c.encode("unicode_escape", "surrogatepass").decode() for c in raw})


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


class Answer(NamedTuple):
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


def mark_begin(shell: str) -> str:
    """A shell text that says first where its own output begins, for login shells may print something before it."""
    return f"echo {_BEGIN}; {shell}"


def ask(run: Callable[[], Mapping[str, Any]], seconds: float = ANSWER_S, largest: int = ANSWER_BYTES) -> Answer:
    """Run a command on a host, and take what it prints, of a marked one (mark_begin) nothing before that.

    Raises HostInputError: it took longer, or printed more.
    """
    with receiving(seconds):
        result = run()
    stdout, stderr = str(result["stdout"]).replace("\r\n", "\n"), str(result["stderr"])
    if match := _BEGUN.search(stdout):
        stdout = stdout[match.end() :]
    if len(stdout) > largest or len(stderr) > largest:
        raise HostInputError(f"it answers {max(len(stdout), len(stderr))} characters where {largest} are the most")
    return Answer(int(result["rc"]), stdout, stderr)


@contextmanager
def receiving(seconds: float, memory: int = MEMORY_BYTES) -> Iterator[None]:
    """Bound the time and memory that an answer takes, time in a main thread only. Raises HostInputError."""

    def expire(*_: object) -> None:
        raise _Expired

    timed = threading.current_thread() is threading.main_thread()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if timed:
        before = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        now = _address_space()
        if now and (soft == resource.RLIM_INFINITY or now + memory < soft):
            resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
        yield
    except _Expired:
        raise AnswerTimeoutError(f"it does not end within {seconds:g} s") from None
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
    except ValueError as error:
        raise HostInputError(f"it answers what is no base64: {error}") from None
    if size is not None and len(content) != size:
        raise HostInputError(f"it answers {len(content)} bytes where {size} were asked for")
    return content


# JSON ---------------------------------------------------------------------------------------------------------------


def parse_json(text: str | bytes, what: str, largest: int = ANSWER_BYTES) -> Any:
    """JSON of a host: no NaN, no lone surrogates, no numbers beyond 64 bits, not deeper than DEPTH.

    Raises HostInputError: it is none, or larger. what: how the message calls it.
    """
    if len(text) > largest:
        raise HostInputError(f"{what} has {len(text)} bytes where {largest} are the most")
    try:
        value = json.loads(text if isinstance(text, str) else text.decode())
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise HostInputError(f"{what} is no JSON of ours: {str(error) or type(error).__name__}") from None
    return value


def _check_values(value: Any, depth: int = 0) -> None:
    if depth > DEPTH:
        raise ValueError(f"nested deeper than {DEPTH}")
    if isinstance(value, str):
        value.encode()  # a lone surrogate raises
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    elif isinstance(value, int) and abs(value) >= 1 << 64:
        raise ValueError("a number beyond 64 bits")
    elif isinstance(value, list | dict):
        for item in chain.from_iterable(value.items()) if isinstance(value, dict) else value:
            _check_values(item, depth + 1)


# What a field of an object holds: a flag, a number in this range, a text of this pattern, a list of (shape, how many).
Shape: TypeAlias = "type[bool] | range | str | tuple[Shape, range]"
_SHA256, _TEXT = "[0-9a-f]{64}", ".{0,4096}"
_LIVE: dict[str, Shape] = {"release_digest": _SHA256, "config_digest": _SHA256, "machine_id": "[0-9a-f]{32}"}
_LIVE |= {"unit_digest": _SHA256, "unit_parts": (f"{_SHA256} [a-z_]{{1,20}} .{{1,4096}}", range(4097))}
_PROGRESS: dict[str, Shape] = {"text": ".*", "next": range(PROGRESS_BYTES + 1), "ended": bool}
_ASK: dict[str, Shape] = {
    "number": range(1, 1001),
    "plays": ("|".join(ASK_PLAYS), range(1, 3)),
    "check": bool,
    "without": (r"tests/verify/test_[a-z0-9_]{1,60}\.py::test_[a-z0-9_]{1,120}", range(21)),
}
_NULLABLE = ["what", "of", "outcome", "by", "ssh_user", "from", "address", "revision", "release", "config_digest"]
_NULLABLE += ["tried", "why"]
_HISTORY: dict[str, Shape] = {"when": _TEXT, "changed": (_TEXT, range(101)), **dict.fromkeys(_NULLABLE, _TEXT)}


def _fits(value: Any, shape: Shape) -> bool:
    match shape:
        case str():
            return isinstance(value, str) and bool(re.fullmatch(shape, value, re.ASCII | re.DOTALL))
        case range():
            return type(value) is int and value in shape  # a bool is no number
        case (item_shape, lengths):
            return isinstance(value, list) and len(value) in lengths and all(_fits(item, item_shape) for item in value)
    return isinstance(value, bool)


def _fields(value: Any, what: str, shapes: Mapping[str, Shape], required: Iterable[str] = ()) -> dict[str, Any]:
    """An object with fields of these shapes and no others; required: those it has to have, else all of them.

    Raises HostInputError: it is none. what: how the message calls it.
    """
    if not isinstance(value, dict):
        raise HostInputError(f"{what} is no object: {value!r}")
    if missing := [key for key in required or shapes if key not in value]:
        raise HostInputError(f"{what} has no {missing[0]}")
    for key, item in value.items():
        if key not in shapes:
            raise HostInputError(f"{what} has an unknown {key}")
        if not _fits(item, shapes[key]):
            raise HostInputError(f"{what}: {key} is {item!r}, which is not allowed")
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


class Ask(NamedTuple):
    """What a proof asks its controller to play."""

    number: int
    plays: tuple[str, ...]
    check: bool
    without: tuple[str, ...]


class Progress(NamedTuple):
    """What a run has told since the last answer. lines: fit to be shown. next: the byte to go on from."""

    lines: tuple[str, ...]
    next: int
    ended: bool
    empty: bool
    ask: Ask | None


def parse_progress(text: str, offset: int) -> Progress:
    """An answer of `hybrid-proofs follow`. Raises HostInputError."""
    what = "the progress of its run"
    value = parse_json(text, what, largest=16 * ANSWER_BYTES)
    request = value.pop("ask", None) if isinstance(value, dict) else None
    fields = _fields(value, what, _PROGRESS)
    content, end = fields["text"], fields["next"]
    # A byte that is no UTF-8 is one character here, which takes three: no text has more characters than bytes.
    if end < offset or len(content) > end - offset or (end > offset) != bool(content):
        raise HostInputError(f"{what} goes on at {end} after {offset} with {len(content)} characters")
    open_ask = None if request is None else parse_ask(request)
    return Progress(tuple(map(printable, content.splitlines())), end, fields["ended"], not content, open_ask)


def parse_ask(value: Any) -> Ask:
    """What a proof may ask of its controller. Raises HostInputError for anything else."""
    fields = _fields(value, "what a proof asked", _ASK)
    return Ask(fields["number"], tuple(fields["plays"]), fields["check"], tuple(fields["without"]))


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


def parse_live(text: str) -> dict[str, Any]:
    """What `hybrid-proofs live` prints: the fields of deployed.Live. Raises HostInputError."""
    return _fields(parse_json(text, "what is live"), "what is live", _LIVE)


# Evidence -------------------------------------------------------------------------------------------------------------

EVENTS, STATEMENT, BLOBS = "events.jsonl", "statement.json", "blobs"
EVENTS_BYTES, STATEMENT_BYTES, BLOB_BYTES = 1 << 26, 1 << 22, 1 << 26
MOST_BLOBS = 4096
EVIDENCE_BYTES = 1 << 28  # all files of a run
LISTING_BYTES = 1 << 20
CHUNK_BYTES, CHUNK_FILES = 1 << 22, 100  # asked for at once
_LISTED = re.compile(r"(\S) ([0-9]{1,15}) (.+)", re.ASCII)
# What a run may leave: the name, the kind of file, and the bytes that it may have.
_LEFT = (
    (re.escape(EVENTS), "f", EVENTS_BYTES),
    (re.escape(STATEMENT), "f", STATEMENT_BYTES),
    (f"{BLOBS}/{_SHA256}", "f", BLOB_BYTES),
    (BLOBS, "d", BLOB_BYTES),
)


class EvidenceFile(NamedTuple):
    """A file of a run as the host lists it. name: relative to the run's directory."""

    name: str
    size: int


def parse_listing(text: str) -> list[EvidenceFile]:
    """Files of a run, as `KIND SIZE NAME` lines: the two that every run has, and blobs. Raises HostInputError."""
    sizes: dict[str, int] = {}
    for line in filter(None, text.split("\n")):
        match = _LISTED.fullmatch(line)
        if match is None:
            raise HostInputError(f"its evidence is listed as {line!r}")
        kind, size, name = match[1], int(match[2]), match[3]
        allowed = [row for row in _LEFT if re.fullmatch(row[0], name)]
        if not allowed:
            raise HostInputError(f"its evidence has {name!r}, and may have {EVENTS}, {STATEMENT} and {BLOBS}/SHA256")
        if kind != allowed[0][1]:
            raise HostInputError(f"its evidence has {name!r}, which is no plain file (kind {kind})")
        if name in sizes or size > allowed[0][2]:
            raise HostInputError(f"its evidence lists {name!r} twice, or with {size} bytes")
        sizes[name] = size
    sizes.pop(BLOBS, None)
    if missing := [name for name in (EVENTS, STATEMENT) if name not in sizes]:
        why = "it was ended, or its lease was; `journalctl -u 'hybrid-proof-*'` on the host tells by what"
        raise HostInputError(f"its run left no {missing[0]}: {why}")
    if len(sizes) > MOST_BLOBS + 2:
        raise HostInputError(f"its evidence has {len(sizes)} files, and may have {MOST_BLOBS + 2}")
    if (total := sum(sizes.values())) > EVIDENCE_BYTES:
        raise HostInputError(f"its evidence has {total} bytes, and may have {EVIDENCE_BYTES}")
    return [EvidenceFile(name, size) for name, size in sorted(sizes.items())]


class Segment(NamedTuple):
    """Bytes of a file."""

    name: str
    offset: int
    size: int


def plan_chunks(files: Sequence[EvidenceFile]) -> list[list[Segment]]:
    """All bytes of all files, in order, as chunks that are asked for at once."""
    chunks: list[list[Segment]] = []
    room = 0
    for name, whole in files:
        for offset in range(0, whole, CHUNK_BYTES):
            size = min(CHUNK_BYTES, whole - offset)
            if size > room or len(chunks[-1]) >= CHUNK_FILES:
                chunks.append([])
                room = CHUNK_BYTES
            chunks[-1].append(Segment(name, offset, size))
            room -= size
    return chunks


def check_nonce(first: object, nonce: str) -> None:
    """That the first event's data has the nonce drawn for this run; "" asks for none. Raises HostInputError."""
    if nonce and (not isinstance(first, dict) or first.get("nonce") != nonce):
        raise HostInputError(f"{EVENTS} is not of the run that this controller began: its first event lacks the nonce")


def check_evidence_json(name: str, content: bytes) -> None:
    """That a statement or the events are JSON objects of ours. Raises HostInputError."""
    lines = {name: content}
    if name == EVENTS:
        if content and not content.endswith(b"\n"):
            raise HostInputError(f"{EVENTS} is cut off")
        lines = {f"{name}, line {number}": line for number, line in enumerate(content.split(b"\n")[:-1], 1)}
    for what, line in lines.items():
        if not isinstance(parse_json(line, what, largest=EVENTS_BYTES), dict):
            raise HostInputError(f"{what} is no object")


# A host's history -----------------------------------------------------------------------------------------------------

HISTORY_BYTES, HISTORY_LINES = 1 << 23, 20_000


def parse_history(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines of a host's deployments.jsonl with their numbers as "line", and the numbers of torn ones.

    A line that is no JSON object, or has no "when", is one that a power cut left half written.

    Raises HostInputError: a line that is an object, and not one of a history; or there are too many.
    """
    lines = content.split(b"\n")
    if len(content) > HISTORY_BYTES or len(lines) > HISTORY_LINES:
        raise HostInputError(f"its history has {len(content)} bytes in {len(lines)} lines")
    entries: list[dict[str, Any]] = []
    torn: list[int] = []
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line or "0")
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "when" in value:
            entry = parse_json(line, what := f"line {number} of its history")
            present = {key: text for key, text in entry.items() if text is not None or key not in _NULLABLE}
            _fields(present, what, _HISTORY, required=["when"])
            entries.append({**entry, "line": number})
        elif line:
            torn.append(number)
    return entries, torn


# A host that is looked at before anything is done -------------------------------------------------------------------

PROBE_LINES = 100
_PROBE_KEY = re.compile(r"([a-z0-9_]{1,32})=(.{0,300})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{0,15}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.+-]{0,64}", re.ASCII)
_PROBE_VALUES = {
    **dict.fromkeys(("uid", "systemd", "clock", "free_opt", "free_var", "free_etc", "proof_age_s"), _NUMBER),
    **dict.fromkeys(("state", "kernel", "machine", "bus", "psi", "container", "libc", "sqlite", "missing_tool"), _WORD),
    "machine_id": re.compile(r"[0-9a-f]{0,64}", re.ASCII),
    "python": re.compile(r"(?:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})?", re.ASCII),
    **dict.fromkeys(("read_only", "noexec"), re.compile(r"/[a-z]{1,16}", re.ASCII)),
}


def parse_probe(text: str) -> list[str]:
    """The KEY=value lines of preflight's probe; others, such as a terminal's greeting, are left out.

    Raises HostInputError: a value that its key cannot have, or too many lines.
    """
    pairs = [line.strip() for line in text.split("\n") if re.match(r"\s*[a-z0-9_]+=", line)]
    if len(pairs) > PROBE_LINES:
        raise HostInputError(f"it says {len(pairs)} things about itself, and may say {PROBE_LINES}")
    for line in pairs:
        match = _PROBE_KEY.fullmatch(line)
        allowed = _PROBE_VALUES.get(match[1]) if match else None
        if match is None or not line.isprintable() or (allowed and not allowed.fullmatch(match[2])):
            raise HostInputError(f"it says of itself {line!r}, which no host of ours says")
    return pairs
