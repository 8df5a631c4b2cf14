"""A fault: one text of a product file replaced by another, so that a promise of docs/guarantees.md is broken."""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Fault(NamedTuple):
    """`old` occurs exactly once in `file`. `unseen`: why no host can show it; "" where one can."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    unseen: str = ""

    @property
    def version(self) -> str:
        """Changes with the fault's texts."""
        return hashlib.sha256("\0".join((self.file, self.old, self.new)).encode()).hexdigest()[:8]


def in_file(file: str, *rows: tuple[str, str, str, str] | tuple[str, str, str, str, str]) -> tuple[Fault, ...]:
    """The faults of one file, each as (name, promise, old, new) or with `unseen` at the end."""
    return tuple(Fault(row[0], row[1], file, row[2], row[3], row[4] if len(row) == 5 else "") for row in rows)
