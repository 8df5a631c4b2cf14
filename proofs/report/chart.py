"""One case as a picture: ticks stored over time, and on the same axis fault, detection, restart, recovery and bounds.

SVG in the page's own colours: it is drawn in seven stand-ins, which are then replaced by the page's variables.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from proofs.verdict import Json

_INK = {"#010101": "var(--ink)", "#020202": "var(--ticks)", "#030303": "var(--fault)", "#040404": "var(--systemd)",
        "#050505": "var(--engine)", "#060606": "var(--bound)", "#070707": "var(--measured)"}  # fmt: skip
_TEXT, _TICKS, _FAULT, _SYSTEMD, _ENGINE, _BOUND, _MEASURED = _INK
_CLOSE = 0.03  # marks nearer to each other than this part of the axis share a number
_MOST_NUMBERS = 14
_DETECTS = (
    "watchdog timeout",
    "main process exited",
    "source failed",
    "the database is",
    "pressure decision",
    "start f",
)
# What is counted from the restart; everything else is counted from the fault.
_FROM_RESTART = ("first new tick",)


@dataclass
class Course:
    """What a picture shows of one case; times in seconds from the fault (from its beginning when there was none)."""

    slug: str
    left: float
    right: float
    width: float  # of a bar
    bars: list[tuple[float, float]]  # where it begins, ticks a second
    marks: list[tuple[float, str, str]]  # when, who said it, what
    spans: list[Json]  # {name, measured, bound} in seconds
    fault: bool
    roles: dict[str, float] = field(default_factory=dict)  # detection, restart, recovery: when, where there was one

    @property
    def numbered(self) -> list[dict[str, Json]]:
        """The marks as they are numbered below the picture: {number, at_s, by, what}, neighbours together."""
        groups: list[dict[str, Json]] = []
        for at, by, what in self.marks:
            role = next((f" ({name})" for name, when in self.roles.items() if when == at and name != "recovery"), "")
            near = groups and at - groups[-1]["at_s"] <= _CLOSE * (self.right - self.left)
            if near and (at > 0) == (groups[-1]["at_s"] > 0):  # what came before the fault is no answer to it
                groups[-1]["what"] += f", {by}: {what}{role}"
            else:
                said = f"{by}: {what}{role}"
                groups.append({"number": len(groups) + 1, "at_s": at, "by": by, "what": said})
        return groups


def course(slug: str, line: Json, fault_ms: int | None, spans: Sequence[Json]) -> Course:
    """From a `timeline` event's data."""
    zero = line["began_ms"] if fault_ms is None else fault_ms
    width = line["bucket_ms"] / 1000

    def at(ms: float) -> float:
        return (ms - zero) / 1000

    bars = [(at(line["began_ms"] + start), count / width) for start, count in line["ticks"]]
    left = at(line["began_ms"])
    right = max([at(line["ended_ms"]), left + 0.1, *(1.03 * span["bound"] for span in spans)])
    marks = [(at(mark["ms"]), mark["by"], mark["what"]) for mark in line["marks"]]
    made = Course(slug, left, right, width, bars, marks, list(spans), fault_ms is not None)
    if made.fault:
        made.roles = _roles(made)
    return made


def _roles(one: Course) -> dict[str, float]:
    """Which of the marks are the detection and the restart, and when ticks came again after a gap that it caused."""
    found: dict[str, float] = {}
    for at, by, what in one.marks:
        if at <= 0:
            continue
        if "detection" not in found and what.startswith(_DETECTS):
            found["detection"] = at
        if "restart" not in found and by == "systemd" and what == "started":
            found["restart"] = at
    since = found.get("restart", found.get("detection"))
    if since is not None:
        again = [start for start, _ in one.bars if start + one.width > since]
        if again:
            found["recovery"] = max(again[0], since)
    return found


def draw(one: Course) -> str:
    """The picture as an <svg> element."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": one.slug, "font.size": 9, "text.color": _TEXT,
                         "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT,
                         "axes.edgecolor": _TEXT}):  # fmt: skip
        figure = Figure(figsize=(5.0, 2.1 + 0.5 * len(one.spans)), layout="constrained")
        axes = figure.subplots()
        for number, (start, rate) in enumerate(one.bars):
            axes.bar(start, rate, width=one.width, align="edge", color=_TICKS, gid=f"{one.slug}-ticks-{number}")
        top = max((rate for _, rate in one.bars), default=1.0)
        _draw_marks(axes, one, top)
        for row, span in enumerate(one.spans):
            _draw_span(axes, one, span, row, -top * (0.48 + 0.5 * row), top)
        axes.set_xlim(one.left, one.right)
        axes.set_ylim(-top * (0.15 + 0.5 * len(one.spans)), top * 1.3)
        axes.set_xlabel("seconds from the fault" if one.fault else "seconds from the start of the case")
        axes.set_ylabel("ticks stored / s")
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top * 1.05])
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for drawn, said_as in _INK.items():
        svg = svg.replace(drawn, said_as)
    return svg


def _draw_marks(axes: Json, one: Course, top: float) -> None:
    for group in one.numbered[:_MOST_NUMBERS]:
        colour = _SYSTEMD if group["by"] == "systemd" else _ENGINE
        gid = f"{one.slug}-mark-{group['number'] - 1}"
        axes.plot([group["at_s"]] * 2, [0, top * 1.05], color=colour, linewidth=1.0, gid=gid)
        axes.text(group["at_s"], top * 1.06, str(group["number"]), color=colour, ha="center", va="bottom", fontsize=7)
    for role, at in one.roles.items():
        colour = _TICKS if role == "recovery" else _SYSTEMD
        axes.plot([at] * 2, [-top * 0.12, 0], color=colour, linewidth=3, gid=f"{one.slug}-{role}")
    if one.fault:
        axes.axvline(0, color=_FAULT, linewidth=2.2, gid=f"{one.slug}-fault")
        early = -one.left < 0.8 * (one.right - one.left)  # words go where there is room
        axes.text(0, top * 1.18, " fault " if early else "fault ", color=_FAULT, ha="left" if early else "right",
                  va="bottom")  # fmt: skip


def _draw_span(axes: Json, one: Course, span: Json, row: int, y: float, top: float) -> None:
    origin = one.roles.get("restart", 0.0) if span["name"] in _FROM_RESTART else 0.0
    bound, measured = span["bound"], span["measured"]
    axes.plot([origin, origin + bound], [y, y], color=_BOUND, linewidth=6, solid_capstyle="butt",
              gid=f"{one.slug}-bound-{row}")  # fmt: skip
    if measured is not None:
        axes.plot([origin, origin + measured], [y, y], color=_MEASURED, linewidth=2.5, gid=f"{one.slug}-measured-{row}")
    said = "never" if measured is None else f"{measured:.2f} s"
    late = (origin - one.left) / (one.right - one.left) >= 0.5  # where on the axis it begins: words go where room is
    axes.text(origin, y + top * 0.1, f"{span['name']}: {said}, bound {bound:g} s", va="bottom",
              ha="right" if late else "left", in_layout=False)  # fmt: skip
