"""report.html: the verdicts, and a chart of each case that shows the fault, its detection and the recovery.

The page loads nothing: the charts are SVG inside it, in the page's own colours, light or dark. It is rendered from the
events, like the buglog, on the controller, with matplotlib and Jinja2.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs.evidence import host_input, recorder
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import Event
from proofs.report import chart, page
from proofs.verdict import Json

REPORT = "report.html"


def render(events: Sequence[Event]) -> str:
    """The page for these events. Raises ImportError: matplotlib or Jinja2 is not installed here."""
    statement = bundle.build(events)
    predicate = statement["predicate"]
    charts = {proof["name"]: _charts(events, proof) for proof in predicate["proofs"]}
    template = page.environment(autoescape=True).get_template("report.html.j2")
    return template.render(statement=statement, predicate=predicate, charts=charts)


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
    own = [event for event in events if event["scope"] == scope]
    measured = [event["data"].get("fault_ms") for event in own if event["kind"] == "measured"]
    faults = [event["utc"] for event in own if event["kind"] == "intent" and event["stdout"].startswith("fault: ")]
    announced = [int(datetime.fromisoformat(utc).timestamp() * 1000) for utc in reversed(faults)]
    times = [ms for ms in (*measured, *announced) if isinstance(ms, int)]
    return next((ms for ms in times if timeline["began_ms"] <= ms <= timeline["ended_ms"]), None)


def _spans(checks: Sequence[Json]) -> list[dict[str, Json]]:
    """The checks that bound a time, in seconds: {name, measured, bound}; measured is None where it never happened."""
    limits = ((check, re.fullmatch(r"<= ([\d.]+)", str(check["bound"]))) for check in checks)
    times = [(check, float(limit[1])) for check, limit in limits if limit and check["name"].endswith("(s)")]
    return [{"name": check["name"][:-4], "measured": check["measured"], "bound": bound} for check, bound in times]
