"""Blobs: outputs too big for an event, as files blobs/SHA256 that are named by their content.

The event holds the beginning of such an output; its key `blobs` refers to the file that has the whole.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence import host_input
from proofs.evidence.atomic_file import write_atomically
from proofs.verdict import Json

FOLDER = "blobs"
LONGEST = 16_384  # bytes of an output that an event itself holds
_SHOWN = 2_000  # characters of a longer one that it shows
_LARGEST = host_input.BLOB_BYTES  # of one file of a bundle; the proofs write no larger one
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Unreadable(ProofError):
    """A file of a bundle is missing, no plain file, or too large; the message says which and why."""


def slurp(path: Path, largest: int = _LARGEST) -> bytes:
    """The bytes of a plain file. A bundle may be hostile, so links, pipes and devices are refused.

    Raises Unreadable: it is no plain file, is too large, or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read: {error.strerror}") from None
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode):
        os.close(fd)  # a file object cannot be made of a directory
        raise Unreadable(f"{path.name} is no plain file")
    with os.fdopen(fd, "rb") as file:
        if about.st_size > largest:
            raise Unreadable(f"{path.name} is larger than {largest >> 20} MB")
        return file.read(about.st_size)  # a buffer of the largest size is allocated whole


def keep(folder: Path, text: str) -> tuple[str, Json]:
    """The text that an event holds of an output, and its reference to the blob; None when the text is the whole output.

    The blob is on the disk when this returns, so that no event refers to what is not there.
    """
    raw = text.encode(errors="replace")
    if len(raw) <= LONGEST:
        return text, None
    digest = hashlib.sha256(raw).hexdigest()
    path = folder / digest
    if not path.exists():
        folder.mkdir(exist_ok=True, mode=0o755)
        write_atomically(path, raw, concurrent=True)
    return shown(text, digest, len(raw)), {"sha256": digest, "bytes": len(raw)}


def shown(text: str, digest: str, size: int) -> str:
    return f"{text[:_SHOWN]}\n[{size} bytes in all: {FOLDER}/{digest}]"


def reader(folder: Path) -> Callable[[dict[str, Json]], str]:
    """A function that returns an event's whole stdout; it raises Unreadable for a blob that is not as recorded."""

    def whole(event: dict[str, Json]) -> str:
        reference = event["blobs"].get("stdout")
        return _content(folder, str(reference["sha256"])) if reference else str(event["stdout"])

    return whole


def problems(folder: Path, events: Iterable[dict[str, Json]]) -> list[str]:
    """What is wrong with the blobs of these events, by the line that refers to each; and unreferenced files."""
    complaints: list[str] = []
    known: dict[str, str | None] = {}  # how each begins; None: not as recorded, which is among the complaints already
    files = list_folder(folder) if os.path.lexists(folder) else set()
    if (size := sum(os.lstat(folder / name).st_size for name in files)) > host_input.EVIDENCE_BYTES:
        raise Unreadable(f"its files have {size} bytes, and may have {host_input.EVIDENCE_BYTES}")
    for event in events:
        for stream, reference in event["blobs"].items():
            line = f"line {event['seq'] + 1}"
            match stream, reference:
                case "stdout" | "stderr", {"sha256": str(digest), "bytes": size} if _DIGEST.fullmatch(digest):
                    pass
                case _:
                    complaints.append(f"{line}: a reference to a blob that is none")
                    continue
            if digest not in known:
                try:
                    known[digest] = _bytes(folder, digest)[: 4 * _SHOWN].decode(errors="replace")
                except Unreadable as error:
                    known[digest] = None
                    complaints.append(f"{line}: {FOLDER}/{error}")
            text = known[digest]
            if text is not None and event[stream] != shown(text, digest, size):
                complaints.append(f"{line}: what it shows of {FOLDER}/{digest} is not how that begins")
    return complaints + [f"{FOLDER}/{name}: no event refers to it" for name in sorted(files - known.keys())]


def list_folder(folder: Path) -> set[str]:
    """The names in a folder of a bundle. Raises Unreadable: it is a link or no folder, or has too many of them."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Unreadable(f"{folder.name} is no folder")
        with os.scandir(folder) as entries:
            names = {entry.name for entry in islice(entries, host_input.MOST_BLOBS + 1)}
    except OSError as error:
        raise Unreadable(f"{folder.name} cannot be read: {error.strerror}") from None
    if len(names) > host_input.MOST_BLOBS:
        raise Unreadable(f"{folder.name} has more than {host_input.MOST_BLOBS} files")
    return names


def _content(folder: Path, digest: str) -> str:
    return _bytes(folder, digest).decode(errors="replace")


def _bytes(folder: Path, digest: str) -> bytes:
    raw = slurp(folder / digest)
    if hashlib.sha256(raw).hexdigest() != digest:
        raise Unreadable(f"{digest} is not what was recorded")
    return raw
