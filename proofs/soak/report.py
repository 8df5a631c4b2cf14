"""The figures of a soak, those it is judged by and those that are only reported, and its report as lines of text."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from proofs.experiment.measurements import Figures
from proofs.host.database import Store
from proofs.host.unit import Entry
from proofs.soak import journal
from proofs.soak.controller import Controller
from proofs.soak.observer import Observer, losses, runs_since
from proofs.soak.statistics import percentiles, slope, thinned
from proofs.verdict import Json

Rows = list[dict[str, Json]]


@dataclass(frozen=True)
class Span:
    """The part of a soak on one database. first: the id of its first run; had: ticks that run had stored before."""

    store: Store
    first: int
    had: int


def span_from_now(store: Store) -> Span:
    newest = rows_or_none(lambda: store.rows("SELECT id, ticks_stored FROM runs ORDER BY id DESC LIMIT 1"))
    return Span(store, int(newest[0]["id"]), int(newest[0]["ticks_stored"])) if newest else Span(store, 0, 0)


def figures(observer: Observer, controller: Controller, spans: Sequence[Span], watched_s: float) -> dict[str, Json]:
    """The figures of the observer, the controller and the databases; `of_journal` has those of the journal."""
    samples = observer.samples
    ticks = 0
    for span in spans:
        runs = rows_or_none(partial(runs_since, span.store, span.first))
        # Never negative: the database file may have been replaced by another.
        ticks += max(0, sum(int(run["ticks_stored"]) for run in runs) - span.had)
    return {
        "n": samples.looks,
        "asked_s": controller.seconds,
        "watched_s": watched_s,
        "began_s": round(observer.began_s, 3),
        "ended": controller.outcome,
        "why": controller.why,
        "restarts": dict(controller.restarts),
        "lost": observer.lost,
        "stalls": controller.stalls,
        "longest_without_tick_s": round(controller.longest_idle_s, 3),
        "ticks": ticks,
        "losses": [row for span in spans for row in rows_or_none(partial(losses, span.store, span.first))],
        "unread": samples.unread,
        "unbalanced": samples.unbalanced,
        "rss": [thinned(points) for points in samples.rss.values()],
        "feed_ms": percentiles(samples.feed_ms),
        "newest_tick_age_ms": percentiles(samples.age_ms),
        "host_worst": samples.host_worst,
        "sample_every": controller.sample_every,
    }


def of_journal(entries: Sequence[Entry], began_s: float, watched_s: float) -> dict[str, Json]:
    """The figures that follow from the unit's journal alone, which the verifier computes again."""
    fields = journal.engine_fields(entries)
    return {
        "exits": [one.label for one in journal.exits(entries)],
        "restarted_by_systemd": journal.restarts(entries),
        "away_s": journal.away_s(entries, began_s, began_s + watched_s),
        "worst": journal.worst(fields),
        "pressure_decisions": len([one for one in fields if one["message"] == journal.DECISION]),
    }


def lines(measured: dict[str, Json]) -> list[str]:
    """The report, for people."""
    watched_s, away_s = measured["watched_s"], measured["away_s"]
    up = f"{100 * (1 - away_s / watched_s):.3f} %" if watched_s else "?"
    points = longest(measured["rss"])
    per_s = slope(points)
    memory = "unknown" if per_s is None else f"{per_s * 3600:+.0f} kB/h over {points[-1][0] - points[0][0]:.0f} s"
    lost = [f"{row['kind']} {row['count'] or '?'} in {row['seconds']:.1f} s" for row in measured["losses"]]
    psi = [f"unit {kind} {_known(value)}" for kind, value in measured["worst"].items()]
    psi += [f"host {kind} {_known(value)}" for kind, value in measured["host_worst"].items()]
    feed, age = measured["feed_ms"], measured["newest_tick_age_ms"]
    return [
        f"uptime   {up} of {watched_s:.0f} s, away {away_s:.1f} s",
        f"ticks    {measured['ticks']}, longest without one {measured['longest_without_tick_s']:.1f} s",
        f"gaps     {', '.join(lost) or 'none'}",
        f"restarts {', '.join(f'{cause} {n}' for cause, n in measured['restarts'].items()) or 'none'}",
        f"memory   {points[-1][1] if points else '?'} kB, {memory}",
        f"latency  exchange to receipt p50 {feed['p50']} p99 {feed['p99']} max {feed['max']} ms,"
        f" newest tick's age p50 {age['p50']} p99 {age['p99']} max {age['max']} ms",
        f"pressure worst avg10 (stall time): {', '.join(psi) or 'unknown'}; {measured['pressure_decisions']} decisions",
    ]


def longest(rss: Sequence[Json]) -> list[list[float]]:
    """The memory samples of the run that lasted longest."""
    return max((Figures({"points": run}).all("points") for run in rss), key=_span_s, default=[])


def _span_s(points: Sequence[Sequence[float]]) -> float:
    return points[-1][0] - points[0][0]


def _known(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"


def rows_or_none(read: Callable[[], Rows]) -> Rows:
    """The rows of a database; an empty list where it cannot be read."""
    try:
        return read()
    except sqlite3.Error:
        return []
