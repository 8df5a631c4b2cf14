"""The criteria of a soak: its figures beside their bounds. Pure: the host's run and the verifier's both call this."""

from __future__ import annotations

from collections.abc import Sequence

from proofs.experiment.measurements import Figures
from proofs.soak import report
from proofs.soak.statistics import slope
from proofs.verdict import Check, Result

LOOKS = 5
UP = 99.0  # percent of the time watched
# What memory may grow by: what a process takes until it has seen everything once, and then little.
RSS_ONCE_KB, RSS_KB_H = 8192, 2048
# An exchange that cannot be reached is nobody's fault here, and that the engine comes back is the promise.
BORNE = ("NETWORK", "BY HAND")


def checks(measured: Figures) -> Sequence[Check]:
    asked, watched = measured.number("asked_s"), measured.number("watched_s")
    ended, why = measured.text("ended"), measured.text("why")
    restarts = {cause: measured.below("restarts").count(cause) for cause in measured.below("restarts")}
    faults = {cause: n for cause, n in restarts.items() if cause not in BORNE}
    lost, unread, off = measured.count("lost"), measured.count("unread"), measured.count("unbalanced")
    looks, ticks, down = measured.count("n"), measured.count("ticks"), measured.number("away_s")
    up = round(100 * (1 - down / watched), 3) if watched else 0.0
    points = report.longest(measured.all("rss"))
    grown, span_s = growth_kb(points), points[-1][0] - points[0][0] if points else 0.0
    may = round(RSS_ONCE_KB + RSS_KB_H * span_s / 3600)
    own = measured.flag("on_the_exchange_asked_for")
    code = measured.status("exit_code")
    told = [Check("exit code when it was stopped", code, 0, code == 0)] if measured.flag("stopped") else []
    # Ended by its operator it has shown nothing against the engine, and not all that it was asked for.
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
        Check("books that did not balance", off, 0, off == 0),
        Check("looks without a database", unread, "<= 1 %", unread * 100 <= looks),
        Check("of the exchange that was asked for", own, True, True if own else None),
        Check("memory grown (kB)", grown, f"<= {may}", None if grown is None else grown <= may),
        *told,
    )  # fmt: skip


def growth_kb(points: Sequence[Sequence[float]]) -> int | None:
    """How much the line through these samples climbs from the first to the last; None: too few."""
    per_s = slope(points)
    return None if per_s is None else round(per_s * (points[-1][0] - points[0][0]))


def headline(results: Sequence[Result]) -> str:
    said = {check.name: check.measured for result in results for check in result.checks}
    if not said:
        return ""
    faults = ", ".join(f"{cause} {n}" for cause, n in said["ended by a fault"].items()) or "none"
    return (
        f"{said['watched (s)']:.0f} s, up {said['up (%)']:g} %, {said['ticks stored']} ticks, ended by faults: {faults}"
    )
