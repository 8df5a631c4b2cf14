"""What a soak comes to: the figures that it is judged by, and those that its reader wants beside them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from proofs.soak import journal
from proofs.soak.decide import Controller
from proofs.soak.figures import percentiles, thinned
from proofs.soak.watch import Watch, losses, runs_since
from proofs.store import Store
from proofs.unit import Entry
from proofs.verdict import Json

Rows = list[dict[str, Json]]


@dataclass(frozen=True)
class Span:
    """The time on one database: its first run of that time, and how many ticks that run had stored before."""

    store: Store
    first: int
    had: int


def span_from_here(store: Store) -> Span:
    newest = tried(lambda: store.rows("SELECT id, ticks_stored FROM runs ORDER BY id DESC LIMIT 1"))
    return Span(store, int(newest[0]["id"]), int(newest[0]["ticks_stored"])) if newest else Span(store, 0, 0)


def figures(watch: Watch, controller: Controller, spans: Sequence[Span], watched_s: float) -> dict[str, Json]:
    """Of the watch, the controller and the databases; those of the journal are `of_journal`."""
    samples = watch.samples
    runs = [run for span in spans for run in tried(partial(runs_since, span.store, span.first))]
    return {
        "n": samples.looks, "asked_s": controller.seconds, "watched_s": watched_s, "began_s": round(watch.began_s, 3),
        "ended": controller.over, "why": controller.why, "restarts": dict(controller.restarts), "lost": watch.lost,
        "stalls": controller.stalls, "longest_without_tick_s": round(controller.longest_idle_s, 3),
        "ticks": sum(int(run["ticks_stored"]) for run in runs) - sum(span.had for span in spans),
        "losses": [row for span in spans for row in tried(partial(losses, span.store, span.first))],
        "unread": samples.unread, "unbalanced": samples.unbalanced,
        "rss": [thinned(points) for points in samples.rss.values()],
        "feed_ms": percentiles(samples.feed_ms), "newest_tick_age_ms": percentiles(samples.age_ms),
        "host_worst": samples.host_worst, "sample_every": controller.sample_every,
    }  # fmt: skip


def of_journal(entries: Sequence[Entry], began_s: float, watched_s: float) -> dict[str, Json]:
    """The figures that the unit's journal alone tells: read off it again by the verifier."""
    fields = journal.engine_fields(entries)
    return {
        "exits": [one.told for one in journal.exits(entries)],
        "restarted_by_systemd": journal.restarts(entries),
        "away_s": journal.away_s(entries, began_s, began_s + watched_s),
        "worst": journal.worst(fields),
        "pressure_decisions": len([one for one in fields if one["message"] == journal.DECISION]),
    }  # fmt: skip


def tried(read: Callable[[], Rows]) -> Rows:
    """The rows of a database, none where it cannot be read."""
    try:
        return read()
    except sqlite3.Error:
        return []
