"""What most cases are judged by: a few comparisons, and the engine's accounting by its log lines and its database."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from proofs.experiment.measurements import Count, decode
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

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


def last_fields(entries: Iterable[Entry], message: str, invocation: str = "") -> dict[str, Json]:
    """The fields of the engine's last line with that message (of that run); empty where there is none."""
    lines = engine_lines(entries, message, invocation)
    return lines[-1][1] if lines else {}


_MOST_SENT = 1_000_000  # no proof comes near; what a recording claims may become a list


def numbers_sent(stats: Mapping[str, Json]) -> list[range]:
    """Of each connection that an exchange sent anything over: the numbers of the trades, by its own count."""
    sent = [range(one["first_number"], one["last_number"] + 1) for one in stats["connections"] if one["sent"]]
    if sum(map(len, sent)) > _MOST_SENT:
        raise ValueError(f"an exchange of ours never sends more than {_MOST_SENT} trades")
    return sent


def equal(name: str, measured: Json, bound: Json, guard: bool = False) -> Check:
    return Check(name, measured, bound, measured == bound, guard)


def at_most(name: str, measured: float | None, most: float, guard: bool = False) -> Check:
    """measured: None where it was not measured, as what was timed never happened."""
    return Check(name, measured, f"<= {most:g}", measured is not None and measured <= most, guard)


def at_least(name: str, measured: float | None, least: float, guard: bool = False) -> Check:
    return Check(name, measured, f">= {least:g}", measured is not None and measured >= least, guard)


def figures(results: Iterable[Result]) -> dict[str, Json]:
    """What the checks of these results measured, by their names."""
    return {check.name: check.measured for result in results for check in result.checks}
