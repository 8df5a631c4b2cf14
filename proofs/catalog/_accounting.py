"""The engine's accounting as its log lines and its runs table have it, and whether it balances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from proofs.experiment.measurements import Count, decode

PARTS = ("sampled_out", "rejected", "duplicate", "dropped", "waiting", "admitted")  # what `received` is the sum of


@dataclass(frozen=True)
class Counters:
    """One snapshot; None where a counter was not in it."""

    received: Count | None
    sampled_out: Count | None
    rejected: Count | None
    duplicate: Count | None
    dropped: Count | None
    waiting: Count | None
    admitted: Count | None
    ticks_stored: Count | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Out of the fields of a log line or the columns of a run."""
        return cls(**{one.name: values.get(one.name) for one in fields(cls)})

    def known(self) -> dict[str, int]:
        """All of them by name. Raises BadFigure where one is None."""
        return known(vars(self), *vars(self))


def known(values: Mapping[str, Any], *names: str) -> dict[str, int]:
    """These counters by name. Raises BadFigure where one is no count."""
    return {name: decode(Count, values.get(name), name) for name in names}


def imbalance(counters: Mapping[str, Any]) -> int:
    """By how much `received` exceeds the sum of its parts: 0 in every snapshot, unless something went uncounted."""
    return int(counters["received"] - sum(counters[part] for part in PARTS))
