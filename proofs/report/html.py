"""report.html: the verdicts, and a chart of each case that shows the fault, its detection and the recovery.

The page loads nothing: the charts are SVG inside it, in the page's own colours, light or dark. It is rendered from the
events, like the buglog, on the controller, with matplotlib and Jinja2.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence import blobs, recorder
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import Event
from proofs.report import chart, page
from proofs.verdict import Json

REPORT = "report.html"
_BYTES = 1 << 24  # of the page; that of all proofs has 0.6 MB
_PICTURE = re.compile(r"<svg\b.*?</svg>\n", re.DOTALL)
# All that a chart of ours has in it: it runs, loads and styles nothing.
_DRAWN = re.compile(
    r"</?(?:svg|defs|g|path|use|text|clipPath|rect)"
    r"(?:\s+(?:xlink:href=\"#[\w.-]*\"|xmlns(?::xlink)?=\"http://www\.w3\.org/[\w/]*\"|clip-path=\"url\(#\w*\)\""
    r"|(?:height|width|viewBox|version|id|d|x|y|transform)=\"[^\"<>&]*\"|style=\"[^\"<>&@\\/]*\"))*\s*/?>"
    r"|<style type=\"text/css\">\*\{stroke-linejoin: round; stroke-linecap: butt\}</style>"
)
_Draw = Callable[[chart.CaseChart], str]


class _Late(ProofError):
    """There is no time to draw all charts."""


def render(events: Sequence[Event], draw: _Draw = chart.draw) -> str:
    """The page for these events. Raises ImportError: matplotlib or Jinja2 is not installed here."""
    statement = bundle.build(events)
    predicate = statement["predicate"]
    charts = {proof["name"]: _charts(events, proof, draw) for proof in predicate["proofs"]}
    template = page.environment(autoescape=True).get_template("report.html.j2")
    text: str = template.render(statement=statement, predicate=predicate, charts=charts)
    return page.printable(text)


def write(run_dir: Path) -> Path:
    """Render report.html beside events.jsonl. Raises ChainBroken when the recording is not whole."""
    return page.write(run_dir / REPORT, render(recorder.read(run_dir / recorder.EVENTS)))


def problems(run_dir: Path, events: Sequence[Event], until: float) -> tuple[list[str], str]:
    """What is wrong with a bundle's page; and why its charts were not compared, empty where they were.

    Its text is compared first. A chart takes a third of a second to draw, so that they are drawn until that time of
    time.monotonic() only. Raises ImportError: Jinja2 is not installed here.
    """
    wrong = f"{REPORT} is not what these events render to; `hybrid-proofs render` writes it anew"
    try:
        found = blobs.slurp(run_dir / REPORT, _BYTES).decode()
    except blobs.Unreadable as error:
        return [str(error)], ""
    except UnicodeDecodeError:
        return [wrong], ""
    if _PICTURE.sub("", found) != render(events, lambda _: ""):
        return [wrong], ""
    if any("<" in _DRAWN.sub("", picture) for picture in _PICTURE.findall(found)):  # whether or not it is compared
        return [wrong], ""

    def draw(drawn: chart.CaseChart) -> str:
        if time.monotonic() > until:
            raise _Late
        return chart.draw(drawn)

    try:
        return ([] if found == render(events, draw) else [wrong]), ""
    except _Late:
        return [], "its text was compared, its charts were not: there was no time to draw them"
    except ImportError:
        return [], "its text was compared, its charts were not: matplotlib is not installed here"


def _charts(events: Sequence[Event], proof: Json, draw: _Draw) -> list[dict[str, Json]]:
    """One chart a case of the proof: its entry of the statement, with the chart and its SVG."""
    name = proof["name"]
    recorded = [e for e in events if e["kind"] == "timeline" and recorder.has_cases_of(e["scope"], name)]
    timelines = {event["data"]["case"]: event for event in recorded}
    charts = []
    for case in proof["cases"]:
        if event := timelines.get(case["case"]):
            slug = re.sub(r"[^a-z0-9]+", "-", f"{name} {case['case']}".lower())
            fault_ms = _fault_ms(events, event["scope"], event["data"])
            drawn = chart.of_case(slug, event["data"], fault_ms, _spans(case["checks"]))
            charts.append({**case, "chart": drawn, "svg": draw(drawn)})
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
