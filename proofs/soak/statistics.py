"""The statistics of a soak: its figures, those it is judged by and those only reported, and its report as lines."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

from proofs.host.database import Row, Store
from proofs.host.unit import Entry
from proofs.soak import exit_table
from proofs.soak.controller import Controller
from proofs.soak.observer import Observer
from proofs.verdict import Json

Points = Sequence[Sequence[float]]  # [x, y]
_TICKS = "SELECT coalesce(sum(ticks_stored), 0) AS ticks FROM runs WHERE id >= ?"
_LOSSES = """
SELECT kind, sum(count) AS count, count(*) AS intervals, sum(coalesce(to_ms, from_ms) - from_ms) / 1000.0 AS seconds
 FROM gaps WHERE run_id >= ? GROUP BY kind ORDER BY kind
"""


@dataclass(frozen=True)
class Span:
    """The part of a soak on one database. first: the id of its first run; had: ticks that run had stored before."""

    store: Store
    first: int
    had: int


def span_from_now(store: Store) -> Span:
    newest = rows_or_none(store, "SELECT id, ticks_stored FROM runs ORDER BY id DESC LIMIT 1")
    return Span(store, int(newest[0]["id"]), int(newest[0]["ticks_stored"])) if newest else Span(store, 0, 0)


def figures(observer: Observer, controller: Controller, spans: Sequence[Span], watched_s: float) -> dict[str, Json]:
    """The figures of the observer, the controller and the databases; `of_journal` has those of the journal."""
    stored = [(row["ticks"], span.had) for span in spans for row in rows_or_none(span.store, _TICKS, span.first)]
    return {
        "n": observer.looks,
        "asked_s": controller.seconds,
        "watched_s": watched_s,
        "began_s": round(observer.began_s, 3),
        "ended": controller.outcome,
        "why": controller.why,
        "restarts": dict(controller.restarts),
        "lost": observer.lost,
        "stalls": controller.restarts["STALL"],
        "longest_without_tick_s": round(controller.longest_idle_s, 3),
        "ticks": sum(max(0, ticks - had) for ticks, had in stored),  # a file may have been replaced by one with fewer
        # By kind; a count may be unknown.
        "losses": [row for span in spans for row in rows_or_none(span.store, _LOSSES, span.first)],
        "unread": observer.unread,
        "unbalanced": observer.unbalanced,
        "rss": [thinned(points) for points in observer.rss.values()],
        "feed_ms": percentiles(observer.feed_ms),
        "newest_tick_age_ms": percentiles(observer.age_ms),
        "host_worst": observer.host_worst,
        "sample_every": controller.sample_every,
    }


def of_journal(entries: Sequence[Entry], began_s: float, watched_s: float) -> dict[str, Json]:
    """The figures that follow from the unit's journal alone, which the verifier computes again."""
    fields = exit_table.engine_fields(entries)
    return {
        "exits": [one.label for one in exit_table.exits(entries)],
        "restarted_by_systemd": exit_table.restarts(entries),
        "away_s": exit_table.away_s(entries, began_s, began_s + watched_s),
        "worst": exit_table.worst(fields),
        "pressure_decisions": len([one for one in fields if one["message"] == exit_table.DECISION]),
    }


def lines(measured: dict[str, Json]) -> list[str]:
    """The report, for people."""
    watched_s, away_s = measured["watched_s"], measured["away_s"]
    points = longest(measured["rss"])
    per_s = slope(points)
    memory = "unknown" if per_s is None else f"{per_s * 3600:+.0f} kB/h over {span_s(points):.0f} s"
    lost = [f"{row['kind']} {row['count'] or '?'} in {row['seconds']:.1f} s" for row in measured["losses"]]
    worst = [(f"unit {kind}", value) for kind, value in measured["worst"].items()]
    worst += [(f"host {kind}", value) for kind, value in measured["host_worst"].items()]
    psi = [f"{name} {'unknown' if value is None else f'{value:g}'}" for name, value in worst]
    feed, age = measured["feed_ms"], measured["newest_tick_age_ms"]
    return [
        f"uptime   {up_percent(watched_s, away_s):.3f} % of {watched_s:.0f} s, away {away_s:.1f} s",
        f"ticks    {measured['ticks']}, longest without one {measured['longest_without_tick_s']:.1f} s",
        f"gaps     {', '.join(lost) or 'none'}",
        f"restarts {', '.join(f'{cause} {n}' for cause, n in measured['restarts'].items()) or 'none'}",
        f"memory   {points[-1][1] if points else '?'} kB, {memory}",
        f"latency  exchange to receipt p50 {feed['p50']} p99 {feed['p99']} max {feed['max']} ms,"
        f" newest tick's age p50 {age['p50']} p99 {age['p99']} max {age['max']} ms",
        f"pressure worst avg10 (stall time): {', '.join(psi) or 'unknown'}; {measured['pressure_decisions']} decisions",
    ]


def up_percent(watched_s: float, away_s: float) -> float:
    return round(100 * (1 - away_s / watched_s), 3) if watched_s else 0.0


def longest(rss: Sequence[Points]) -> Points:
    """The memory samples of the run that lasted longest."""
    return max(rss, key=span_s, default=[])


def span_s(points: Points) -> float:
    return points[-1][0] - points[0][0] if points else 0.0


def rows_or_none(store: Store, sql: str, *arguments: int) -> list[Row]:
    """The rows of a database; an empty list where it cannot be read."""
    try:
        return store.rows(sql, arguments)
    except sqlite3.Error:
        return []


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum, by nearest rank; None where there are no values.

    >>> percentiles([3, 1, 2]), percentiles([])
    ({'p50': 2, 'p99': 3, 'max': 3}, {'p50': None, 'p99': None, 'max': None})
    """
    if not values:
        return {"p50": None, "p99": None, "max": None}
    ranked = sorted(values)
    return {"p50": ranked[int(0.50 * len(ranked))], "p99": ranked[int(0.99 * len(ranked))], "max": ranked[-1]}


def slope(points: Points) -> float | None:
    """The slope of the least-squares line through points [x, y]; None where there are no two with different x.

    >>> slope([[0, 10], [10, 20], [20, 30]])
    1.0
    """
    if len({x for x, _ in points}) < 2:
        return None
    return linear_regression([x for x, _ in points], [y for _, y in points]).slope


def thinned(points: Sequence[list[float]], most: int = 240) -> list[list[float]]:
    """At most so many of the points, evenly spaced, with the first and the last.

    >>> thinned([[n, n] for n in range(10)], 4)
    [[0, 0], [3, 3], [6, 6], [9, 9]]
    """
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]
