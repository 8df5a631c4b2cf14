"""report.html: the recording as pictures, so that one sees the gap instead of reading it.

Self-contained: the charts are SVG inside the page, in the page's own colours, light or dark. Made from the events like
the buglog, on the controller, with matplotlib and Jinja2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs.evidence import host_input, recorder
from proofs.evidence import statement as bundle
from proofs.evidence.atomic_file import write_atomically
from proofs.report import chart
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
    path = run_dir / REPORT
    page = render(recorder.read(run_dir / recorder.EVENTS))
    write_atomically(path, host_input.printable(page, len(page), keep="\n\t").encode())
    return path


def _charts(events: Sequence[Event], proof: Json) -> list[dict[str, Json]]:
    """One chart a case of the real unit: {case, verdict, reason, course, svg}."""
    scope = proof["name"]
    judged = {case["case"]: case for case in proof["cases"]}
    charts = []
    for event in events:
        line = event["data"]
        if event["kind"] != "timeline" or event["scope"] != scope or line["case"] not in judged:
            continue
        case = judged[line["case"]]
        slug = re.sub(r"[^a-z0-9]+", "-", f"{scope} {line['case']}".lower())
        course = chart.course(slug, line, _fault_ms(events, scope, line), _spans(case["checks"]))
        charts.append({**case, "course": course, "svg": chart.draw(course)})
    return charts


def _fault_ms(events: Sequence[Event], scope: str, line: Json) -> int | None:
    """When the fault began, on the wall clock, within this case's time: as measured, else as announced."""
    announced = None
    for event in events:
        if event["scope"] != scope:
            continue
        if event["kind"] == "intent" and event["stdout"].startswith("fault: "):
            at_ms = int(datetime.fromisoformat(event["utc"]).timestamp() * 1000)
            announced = at_ms if line["began_ms"] <= at_ms <= line["ended_ms"] else announced
        if event["kind"] == "measured" and isinstance(event["data"].get("fault_ms"), int):
            at_ms = event["data"]["fault_ms"]
            if line["began_ms"] <= at_ms <= line["ended_ms"]:
                return int(at_ms)
    return announced


def _spans(checks: Sequence[Json]) -> list[dict[str, Json]]:
    """Checks of a time, in seconds from the fault: {name, measured, bound}; measured None when it never came."""
    spans = []
    for check in checks:
        limit = re.fullmatch(r"<= ([\d.]+)", str(check["bound"]))
        if check["name"].endswith("(s)") and limit:
            spans.append({"name": check["name"][:-4], "measured": check["measured"], "bound": float(limit[1])})
    return spans
