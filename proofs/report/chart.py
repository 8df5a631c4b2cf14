"""Draw one case: ticks stored over time, and on the same axis the fault, detection, restart, recovery and bounds.

The result is SVG in the page's own colours: it is drawn in placeholder colours, which are then replaced by the page's
CSS variables.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from proofs.verdict import Json

_VARIABLES = {
    "#010101": "var(--ink)",
    "#020202": "var(--ticks)",
    "#030303": "var(--fault)",
    "#040404": "var(--systemd)",
    "#050505": "var(--engine)",
    "#060606": "var(--bound)",
    "#070707": "var(--measured)",
}
_TEXT, _TICKS, _FAULT, _SYSTEMD, _ENGINE, _BOUND, _MEASURED = _VARIABLES
_WIDTH, _LEFT, _RIGHT, _BELOW, _ABOVE = 5.0, 0.65, 0.05, 0.45, 0.05  # of the picture and its margins, in inches
_CLOSE = 0.03  # marks nearer to each other than this fraction of the axis share a number
_MOST_NUMBERS = 14
_DETECTIONS = (
    "watchdog timeout",
    "main process exited",
    "source failed",
    "the database is",
    "pressure decision",
    "start f",
)


Bar = tuple[float, float]  # start, ticks a second
Mark = tuple[float, str, str]  # time, source ("systemd" or "engine"), what happened


@dataclass
class CaseChart:
    """What the picture of a case shows. Times are seconds from the fault; from the case's start where there is none."""

    slug: str
    left: float
    right: float
    width: float  # of a bar
    bars: list[Bar]
    marks: list[Mark]
    spans: list[Json]  # {name, measured, bound} in seconds
    fault: bool
    roles: dict[str, float]  # the times of "detection", "restart" and "recovery"

    @property
    def numbered(self) -> list[dict[str, Json]]:
        """The marks as numbered below the picture, close ones together: {number, at_s, by, what}."""
        groups: list[dict[str, Json]] = []
        for at, by, what in self.marks:
            role = next((f" ({name})" for name, when in self.roles.items() if when == at and name != "recovery"), "")
            near = groups and at - groups[-1]["at_s"] <= _CLOSE * (self.right - self.left)
            if near and (at > 0) == (groups[-1]["at_s"] > 0):  # the fault separates marks before and after it
                groups[-1]["what"] += f", {by}: {what}{role}"
            else:
                groups.append({"number": len(groups) + 1, "at_s": at, "by": by, "what": f"{by}: {what}{role}"})
        return groups


def of_case(slug: str, timeline: Json, fault_ms: int | None, spans: Sequence[Json]) -> CaseChart:
    """The chart of a case, from the data of its `timeline` event."""
    zero = timeline["began_ms"] if fault_ms is None else fault_ms
    width = timeline["bucket_ms"] / 1000

    def at(ms: float) -> float:
        return (ms - zero) / 1000

    bars = [(at(timeline["began_ms"] + start), count / width) for start, count in timeline["ticks"]]
    left = at(timeline["began_ms"])
    right = max([at(timeline["ended_ms"]), left + 0.1, *(1.03 * span["bound"] for span in spans)])
    marks = [(at(mark["ms"]), mark["by"], mark["what"]) for mark in timeline["marks"]]
    roles = {} if fault_ms is None else _roles(marks, bars, width)
    return CaseChart(slug, left, right, width, bars, marks, list(spans), fault_ms is not None, roles)


def _roles(marks: Sequence[Mark], bars: Sequence[Bar], width: float) -> dict[str, float]:
    """Which marks are the detection and the restart, and when ticks came again after them."""
    detected = [at for at, _, what in marks if at > 0 and what.startswith(_DETECTIONS)]
    restarted = [at for at, by, what in marks if at > 0 and (by, what) == ("systemd", "started")]
    firsts = sorted((times[0], name) for name, times in (("detection", detected), ("restart", restarted)) if times)
    roles = {name: at for at, name in firsts}
    if since := roles.get("restart", roles.get("detection")):
        recovered = [max(start, since) for start, _ in bars if start + width > since]
        roles |= {"recovery": recovered[0]} if recovered else {}
    return roles


def draw(chart: CaseChart) -> str:
    """The picture as an <svg> element."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_settings(chart.slug)):
        height = 2.1 + 0.5 * len(chart.spans)
        figure = Figure(figsize=(_WIDTH, height))  # with fixed margins: an automatic layout draws everything twice
        axes = figure.add_axes(
            (_LEFT / _WIDTH, _BELOW / height, 1 - (_LEFT + _RIGHT) / _WIDTH, 1 - (_BELOW + _ABOVE) / height)
        )
        for number, (start, rate) in enumerate(chart.bars):
            axes.bar(start, rate, width=chart.width, align="edge", color=_TICKS, gid=f"{chart.slug}-ticks-{number}")
        top = max((rate for _, rate in chart.bars), default=1.0)
        _draw_marks(axes, chart, top)
        for row, span in enumerate(chart.spans):
            _draw_span(axes, chart, span, row, -top * (0.48 + 0.5 * row), top)
        axes.set_xlim(chart.left, chart.right)
        axes.set_ylim(-top * (0.15 + 0.5 * len(chart.spans)), top * 1.3)
        axes.set_xlabel("seconds from the fault" if chart.fault else "seconds from the start of the case")
        axes.set_ylabel("ticks stored / s")
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top * 1.05])
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg


def _settings(slug: str) -> Json:
    """Matplotlib's settings for a chart. Names come from the tested host: they are texts, never formulas."""
    coloured = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    fixed = {"svg.fonttype": "none", "svg.hashsalt": slug, "font.size": 9, "text.parse_math": False}
    return {**fixed, **dict.fromkeys(coloured, _TEXT)}


def _draw_marks(axes: Json, chart: CaseChart, top: float) -> None:
    for group in chart.numbered[:_MOST_NUMBERS]:
        colour = _SYSTEMD if group["by"] == "systemd" else _ENGINE
        gid = f"{chart.slug}-mark-{group['number'] - 1}"
        axes.plot([group["at_s"]] * 2, [0, top * 1.05], color=colour, linewidth=1.0, gid=gid)
        axes.text(group["at_s"], top * 1.06, str(group["number"]), color=colour, ha="center", va="bottom", fontsize=7)
    for role, at in chart.roles.items():
        colour = _TICKS if role == "recovery" else _SYSTEMD
        axes.plot([at] * 2, [-top * 0.12, 0], color=colour, linewidth=3, gid=f"{chart.slug}-{role}")
    if chart.fault:
        axes.axvline(0, color=_FAULT, linewidth=2.2, gid=f"{chart.slug}-fault")
        early = -chart.left < 0.8 * (chart.right - chart.left)  # the label goes where there is room
        text, side = (" fault ", "left") if early else ("fault ", "right")
        axes.text(0, top * 1.18, text, color=_FAULT, ha=side, va="bottom")


def _draw_span(axes: Json, chart: CaseChart, span: Json, row: int, y: float, top: float) -> None:
    # Times are measured from the fault, but that of the first new tick from the restart.
    origin = chart.roles.get("restart", 0.0) if span["name"] == "first new tick" else 0.0
    bound, measured = span["bound"], span["measured"]
    gids = [f"{chart.slug}-{what}-{row}" for what in ("bound", "measured")]
    axes.plot([origin, origin + bound], [y, y], color=_BOUND, linewidth=6, solid_capstyle="butt", gid=gids[0])
    if measured is not None:
        axes.plot([origin, origin + measured], [y, y], color=_MEASURED, linewidth=2.5, gid=gids[1])
    time = "never" if measured is None else f"{measured:.2f} s"
    text = f"{span['name']}: {time}, bound {bound:g} s"
    late = (origin - chart.left) / (chart.right - chart.left) >= 0.5  # the label goes where there is room
    axes.text(origin, y + top * 0.1, text, va="bottom", ha="right" if late else "left")
