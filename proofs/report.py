"""report.html: the recording as pictures, so that one sees the gap instead of reading it.

Self-contained: the charts are SVG inside the page, in the page's own colours, light or dark. Made from the events like
the buglog, on the controller, with matplotlib and Jinja2.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs import bundle, evidence
from proofs.verdict import Json

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("templates") / "report.html.j2"
Event = dict[str, Json]
# Drawn in these, and then said in the page's own variables: one picture serves light and dark.
_INK = {"#010101": "var(--ink)", "#020202": "var(--ticks)", "#030303": "var(--fault)", "#040404": "var(--systemd)",
        "#050505": "var(--engine)", "#060606": "var(--bound)", "#070707": "var(--measured)"}  # fmt: skip
_TEXT, _TICKS, _FAULT, _SYSTEMD, _ENGINE, _BOUND, _MEASURED = _INK


def render(events: Sequence[Event]) -> str:
    """The page for these events.

    Raises:
        ImportError: matplotlib or Jinja2 is not installed here; render where the project's dev extras are.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=True)
    statement = bundle.build(events)
    charts = {proof["name"]: _charts(events, proof) for proof in statement["predicate"]["proofs"]}
    return environment.from_string(_TEMPLATE.read_text()).render(
        statement=statement, predicate=statement["predicate"], charts=charts
    )


def write(run_dir: Path) -> Path:
    """Render report.html beside events.jsonl. Raises ChainBroken when the recording is not whole."""
    path = run_dir / REPORT
    path.write_text(render(evidence.read(run_dir / evidence.EVENTS)))
    return path


def _charts(events: Sequence[Event], proof: Json) -> list[dict[str, Json]]:
    """One chart a case of the real unit: {case, verdict, reason, svg, marks}."""
    scope = proof["name"]
    judged = {case["case"]: case for case in proof["cases"]}
    charts = []
    for event in events:
        line = event["data"]
        if event["kind"] != "timeline" or event["scope"] != scope or line["case"] not in judged:
            continue
        case = judged[line["case"]]
        fault_ms = _fault_ms(events, scope, line)
        spans = _spans(case["checks"])
        slug = re.sub(r"[^a-z0-9]+", "-", f"{scope} {line['case']}".lower())
        charts.append({**case, "slug": slug, "fault": fault_ms is not None, "spans": spans, "marks": line["marks"],
                       "svg": _draw(line, fault_ms, spans, slug)})  # fmt: skip
    return charts


def _fault_ms(events: Sequence[Event], scope: str, line: Json) -> int | None:
    """When the fault was announced, on the wall clock, within this case's time."""
    for event in events:
        if event["kind"] == "intent" and event["scope"] == scope and event["stdout"].startswith("fault: "):
            at_ms = int(datetime.fromisoformat(event["utc"]).timestamp() * 1000)
            if line["began_ms"] <= at_ms <= line["ended_ms"]:
                return at_ms
    return None


def _spans(checks: Sequence[Json]) -> list[dict[str, Json]]:
    """Checks of a time, in seconds from the fault: {name, measured, bound}; measured None when it never came."""
    spans = []
    for check in checks:
        limit = re.fullmatch(r"<= ([\d.]+)", str(check["bound"]))
        if check["name"].endswith("(s)") and limit:
            spans.append({"name": check["name"][:-4], "measured": check["measured"], "bound": float(limit[1])})
    return spans


def _draw(line: Json, fault_ms: int | None, spans: Sequence[Json], slug: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    zero = fault_ms or line["began_ms"]
    width = line["bucket_ms"] / 1000
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": slug, "font.size": 9, "text.color": _TEXT,
                         "axes.labelcolor": _TEXT, "xtick.color": _TEXT, "ytick.color": _TEXT,
                         "axes.edgecolor": _TEXT}):  # fmt: skip
        figure = Figure(figsize=(7.2, 2.0 + 0.45 * len(spans)), layout="constrained")
        axes = figure.subplots()
        starts = [(line["began_ms"] + at - zero) / 1000 for at, _ in line["ticks"]]
        rates = [count / width for _, count in line["ticks"]]
        for number, bar in enumerate(axes.bar(starts, rates, width=width, align="edge", color=_TICKS)):
            bar.set_gid(f"{slug}-ticks-{number}")
        top = max(rates, default=1.0)
        left = (line["began_ms"] - zero) / 1000
        right = max([(line["ended_ms"] - zero) / 1000, left + 0.1, *(1.03 * span["bound"] for span in spans)])
        late = -left / (right - left)  # where on the axis the fault is, 0 to 1: words go where there is room
        for number, mark in enumerate(line["marks"]):
            colour = _SYSTEMD if mark["by"] == "systemd" else _ENGINE
            axes.axvline((mark["ms"] - zero) / 1000, color=colour, linewidth=1.2, gid=f"{slug}-mark-{number}")
        if fault_ms is not None:
            axes.axvline(0, color=_FAULT, linewidth=2.4, gid=f"{slug}-fault")
            axes.text(0, top * 1.04, " fault", color=_FAULT, ha="left", va="bottom")
        for row, span in enumerate(spans):
            y = -top * (0.42 + 0.42 * row)
            axes.plot(
                [0, span["bound"]], [y, y], color=_BOUND, linewidth=6, solid_capstyle="butt", gid=f"{slug}-bound-{row}"
            )
            if span["measured"] is not None:
                axes.plot([0, span["measured"]], [y, y], color=_MEASURED, linewidth=2.5, gid=f"{slug}-measured-{row}")
            said = "never" if span["measured"] is None else f"{span['measured']:.2f} s"
            text = f"{span['name']}: {said}, bound {span['bound']:g} s"
            axes.text(0, y + top * 0.1, text, va="bottom", ha="left" if late < 0.5 else "right", in_layout=False)
        axes.set_xlim(left, right)
        axes.set_ylim(-top * (0.15 + 0.42 * len(spans)), top * 1.05)
        axes.set_xlabel("seconds from the fault" if fault_ms else "seconds from the start of the case")
        axes.set_ylabel("ticks stored / s")
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top * 1.2])
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for drawn, said_as in _INK.items():
        svg = svg.replace(drawn, said_as)
    return svg
