"""report.html: the verdicts, and a chart of each case that shows the fault, its detection and the recovery.

The page loads nothing: the charts are SVG inside it, in the page's own colours, light or dark. It is rendered from the
events, like the buglog, on the controller, with matplotlib and Jinja2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs.evidence import host_input, recorder
from proofs.evidence import statement as bundle
from proofs.report import chart, page
from proofs.verdict import Json

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("templates") / "report.html.j2"
Event = dict[str, Json]


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
    text = render(recorder.read(run_dir / recorder.EVENTS))
    return page.write(run_dir / REPORT, host_input.printable(text, len(text), keep="\n\t"))


def _charts(events: Sequence[Event], proof: Json) -> list[dict[str, Json]]:
    """One chart a case of the unit itself: its entry of the statement, with the chart and its SVG."""
    scope = proof["name"]
    judged = {case["case"]: case for case in proof["cases"]}
    charts = []
    for event in events:
        timeline = event["data"]
        if event["kind"] != "timeline" or event["scope"] != scope or timeline["case"] not in judged:
            continue
        case = judged[timeline["case"]]
        slug = re.sub(r"[^a-z0-9]+", "-", f"{scope} {timeline['case']}".lower())
        drawn = chart.of_case(slug, timeline, _fault_ms(events, scope, timeline), _spans(case["checks"]))
        charts.append({**case, "chart": drawn, "svg": chart.draw(drawn)})
    return charts


def _fault_ms(events: Sequence[Event], scope: str, timeline: Json) -> int | None:
    """When the fault began (ms UTC), within this case's time: as measured, else as announced."""
    announced = None
    for event in events:
        if event["scope"] != scope:
            continue
        if event["kind"] == "intent" and event["stdout"].startswith("fault: "):
            at_ms = int(datetime.fromisoformat(event["utc"]).timestamp() * 1000)
            announced = at_ms if timeline["began_ms"] <= at_ms <= timeline["ended_ms"] else announced
        if event["kind"] == "measured" and isinstance(event["data"].get("fault_ms"), int):
            at_ms = event["data"]["fault_ms"]
            if timeline["began_ms"] <= at_ms <= timeline["ended_ms"]:
                return int(at_ms)
    return announced


def _spans(checks: Sequence[Json]) -> list[dict[str, Json]]:
    """The checks that bound a time, in seconds: {name, measured, bound}; measured is None where it never happened."""
    spans = []
    for check in checks:
        limit = re.fullmatch(r"<= ([\d.]+)", str(check["bound"]))
        if check["name"].endswith("(s)") and limit:
            spans.append({"name": check["name"][:-4], "measured": check["measured"], "bound": float(limit[1])})
    return spans
