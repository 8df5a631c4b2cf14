"""The criteria of a soak: its figures compared with their bounds. Pure.

The soak on the host and the verifier both judge by `PROOF`. Its case has no steps to run: a soak injects no fault, and
`run.py` does the watching.
"""

from collections.abc import Mapping, Sequence

from proofs.experiment.case import Case, Proof
from proofs.experiment.measurements import Count, Figures, decode
from proofs.experiment.trace import Between, Trace
from proofs.soak import statistics
from proofs.verdict import Check, Json, Result

NAME = "soak"
LOOKS = 5
UP = 99.0  # percent of the time watched
# How much memory may grow: once, until every code path has run, and then little by the hour.
RSS_ONCE_KB, RSS_KB_H = 8192, 2048
# Not the engine's fault: the exchange cannot be reached, or somebody restarted the engine.
TOLERATED = ("NETWORK", "BY HAND")


def headline(results: Sequence[Result]) -> str:
    """The figures in one line, for the table of verdicts."""
    measured = {check.name: check.measured for result in results for check in result.checks}
    if not measured:
        return ""
    faults = ", ".join(f"{cause} {n}" for cause, n in measured["ended by a fault"].items()) or "none"
    watched_s, up, ticks = (measured[name] for name in ("watched (s)", "up (%)", "ticks stored"))
    return f"{watched_s:.0f} s, up {up:g} %, {ticks} ticks, ended by faults: {faults}"


class SoakRules(Case):
    """How a soak is judged from what was recorded of it."""

    name = NAME
    fault = "none but time: the engine at its ordinary work"
    n_min = 1  # one look is enough to FAIL; that a PASS needs more is a check

    def witnessed(self, seen: Figures) -> bool:
        """The engine was at work: it stored a new tick."""
        return seen.count("to") > seen.count("from") and bool(seen.text("invocation"))

    def judge(self, measured: Figures) -> Sequence[Check]:
        asked, watched = measured.number("asked_s"), measured.number("watched_s")
        ended, why = measured.text("ended"), measured.text("why")
        restarts = decode(dict[str, Count], measured.of("restarts"), "restarts")
        faults = {cause: n for cause, n in restarts.items() if cause not in TOLERATED}
        lost, unread, unbalanced = measured.count("lost"), measured.count("unread"), measured.count("unbalanced")
        looks, ticks, away_s = measured.count("n"), measured.count("ticks"), measured.number("away_s")
        up = statistics.up_percent(watched, away_s)
        points = statistics.longest(decode(list[list[tuple[float, float]]], measured.of("rss"), "rss"))
        per_s, span_s = statistics.slope(points), statistics.span_s(points)
        grown = None if per_s is None else round(per_s * span_s)  # by the line through the samples
        allowed = round(RSS_ONCE_KB + RSS_KB_H * span_s / 3600)
        own = measured.flag("on_the_exchange_asked_for")
        code = measured.status("exit_code")
        exit_checks = [Check("exit code when it was stopped", code, 0, code == 0)] if measured.flag("stopped") else []
        # What its operator ended shows nothing against the engine, but not everything that was to be shown either.
        stopped = ended == "STOP" or (ended == "ABORT" and measured.flag("by_operator"))

        def whole(ok: bool) -> bool | None:
            return ok or (None if stopped else False)

        return (
            Check("ended", f"{ended}: {why}", "COMPLETE", whole(ended == "COMPLETE")),
            Check("watched (s)", watched, f">= {asked:g}", whole(watched >= asked)),
            Check("looks", looks, f">= {LOOKS}", True if looks >= LOOKS else None),
            Check("ended by a fault", faults, {}, not faults),
            Check("restarts that the journal does not tell of", lost, 0, True if lost == 0 else None),
            Check("up (%)", up, f">= {UP:g}", whole(up >= UP)),
            Check("ticks stored", ticks, "> 0", whole(ticks > 0)),
            Check("books that did not balance", unbalanced, 0, unbalanced == 0),
            Check("looks without a database", unread, "<= 1 %", unread * 100 <= looks),
            Check("of the exchange that was asked for", own, True, True if own else None),
            Check("memory grown (kB)", grown, f"<= {allowed}", None if grown is None else grown <= allowed),
            *exit_checks,
        )

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        return statistics.of_journal(trace.journal(), measured.number("began_s"), measured.number("watched_s"))


_WATCHED = [
    "n",
    "asked_s",
    "watched_s",
    "began_s",
    "ended",
    "why",
    "restarts",
    "lost",
    "stalls",
    "longest_without_tick_s",
    "ticks",
    "losses",
    "unread",
    "unbalanced",
    "rss",
    "feed_ms",
    "newest_tick_age_ms",
    "host_worst",
    "sample_every",
    "by_operator",
    "on_the_exchange_asked_for",
    "settings",
    "stopped",
    "exit_code",
]
PROOF = Proof(
    name=NAME,
    claim="the engine does its ordinary work for as long as was asked, and is not ended by a fault of its own",
    bound=f"no fault ends it, up {UP:g} %, memory {RSS_ONCE_KB >> 10} MB + {RSS_KB_H >> 10} MB/h",
    fault=SoakRules.fault,
    seconds=7200,
    cases=lambda deployed: [SoakRules(deployed)],
    mutants=[],
    in_place=True,
    headline=headline,
    host_word=dict.fromkeys(["witness.*", *_WATCHED], "what the soak counted while it watched, look by look"),
)
