"""BUGLOG.md, which a person reads in minutes, and log/: every command with its output, one file a proof.

Both are rendered from the recording and never written by hand. Rendering needs Jinja2, so the controller does it.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from proofs.evidence import blobs, recorder
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import Event
from proofs.evidence.settings import in_words, of_proof
from proofs.report import event_text, page
from proofs.report.page import Markdown
from proofs.verdict import Json, Verdict

BUGLOG = "BUGLOG.md"
LOG = "log"
_OF_RUN = f"{LOG}/run.md"  # what belongs to no proof
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_LOOKS = ("command", "waited", "exchange said", "exchange stats", "answer", "decision")
_MOST_INJECTIONS, _MOST_MEASUREMENTS = 2, 3  # events of a case that BUGLOG.md quotes


def render(run_dir: Path, events: list[Event]) -> dict[str, str]:
    """Every page of a run by its path in the bundle: BUGLOG.md, log/run.md, and log/NAME.md of each proof.

    run_dir: where the events' big outputs are. Raises Unreadable: one that BUGLOG.md quotes is missing, or not what was
    recorded; ImportError: Jinja2 is not installed here.
    """
    # Whatever a template prints is escaped as a Markdown text, unless it is Markdown already.
    environment = page.environment(finalize=page.inline)
    environment.filters.update(fenced=page.fenced, log=log_link, cut=page.cut, compact=event_text.compact)
    shared, whole = _shared(events), blobs.reader(run_dir / blobs.FOLDER)
    by_path: dict[str, list[Event]] = {_OF_RUN: []}
    for event in events:
        by_path.setdefault(log_path(event), []).append(event)
    sections = [_section(events, proof, whole) for proof in shared["proofs"]]
    ends = [{**event["data"], "health": health(event["data"]["health"])} for event in shared["ends"]]
    template = environment.get_template("BUGLOG.md.j2")
    pages = {BUGLOG: template.render(shared | {"proofs": sections, "ends": ends}, paths=list(by_path))}
    template = environment.get_template("log.md.j2")
    for path, own in by_path.items():
        name = "" if path == _OF_RUN else Path(path).stem
        pages[path] = template.render(shared, name=name, entries=[_entry(event, events[0]) for event in own])
    return pages


def _shared(events: list[Event]) -> dict[str, Json]:
    """What every page may show. ends: the first and the last look at the host."""
    statement = bundle.build(events)
    predicate = statement["predicate"]
    observed = [event for event in events if event["kind"] == "observed"]
    return {
        "events": events,
        "predicate": predicate,
        "unit_digest": statement["subject"][2]["digest"]["sha256"],
        "proofs": predicate["proofs"],
        "header": next((event["data"] for event in events if event["kind"] == "run"), {}),
        "observed": observed,
        "ends": [*observed[:1], *observed[1:][-1:]],
    }


def write(run_dir: Path) -> list[Path]:
    """Render the pages beside events.jsonl.

    Raises ChainBroken, Unreadable: the recording is not whole; FileExistsError: the bundle's log/ is a link, no folder.
    """
    pages = render(run_dir, recorder.read(run_dir / recorder.EVENTS))
    folder = run_dir / LOG
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a link; remove it")
    folder.mkdir(exist_ok=True)
    return [page.write(run_dir / name, text) for name, text in pages.items()]


def exists(run_dir: Path) -> bool:
    return any(os.path.lexists(run_dir / name) for name in (BUGLOG, LOG))


def problems(run_dir: Path, events: list[Event]) -> list[str]:
    """Which pages of a bundle are missing, too many, or not what these events render to. Raises as `render` does."""
    folder = run_dir / LOG
    pages = render(run_dir, events)
    try:
        names = sorted({f"{LOG}/{name}" for name in blobs.list_folder(folder)} - pages.keys())
        extra = [f"{name} is no page of these events; remove it" for name in names]
    except blobs.Unreadable as error:
        pages = {BUGLOG: pages[BUGLOG]}
        extra = [f"{error}; `hybrid-proofs render` writes it"]
    return [problem for name, text in pages.items() if (problem := _is_page(run_dir, name, text))] + extra


def _is_page(run_dir: Path, name: str, text: str) -> str | None:
    """None when that file is exactly this text, else what is wrong with it."""
    try:
        if blobs.slurp(run_dir / name) == text.encode():
            return None
    except blobs.Unreadable as error:
        return str(error) if name == BUGLOG else f"{LOG}/{error}"
    return f"{name} is not what these events render to; `hybrid-proofs render` writes it anew"


def log_path(event: Event) -> str:
    """The page of the log that an event belongs to. A name that is no file's name gets no file of its own."""
    name = event["scope"].partition("/")[0]
    return f"{LOG}/{name}.md" if _NAME.fullmatch(name) else _OF_RUN


def log_link(event: Event, text: str = "") -> Markdown:
    """A link to an event in the log."""
    number = recorder.line_number(event)
    return Markdown(f"[{page.inline(text or f'line {number}')}]({log_path(event)}#line-{number})")


def health(text: str) -> str:
    """What the engine's health command reported, in a few words."""
    try:
        report = json.loads(text)
        checks = {str(check["name"]): check["ok"] is True for check in report["checks"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return text[:200]
    failed = [name for name, ok in checks.items() if not ok]
    words = "healthy" if report.get("healthy") is True else "not healthy"
    counts = f"{len(checks) - len(failed)} of {len(checks)} checks"
    return f"{words}: {counts}{', not ' if failed else ''}{', '.join(failed)}"


def _entry(event: Event, first: Event) -> dict[str, Json]:
    """An event as the log shows it."""
    return {
        "event": event,
        "line": recorder.line_number(event),
        "at_s": f"{(event['mono_ns'] - first['mono_ns']) / 1e9:.3f}",
        "heading": event_text.heading(event),
        "blocks": list(event_text.blocks(event)),
    }


def _section(events: Sequence[Event], proof: Json, whole: Callable[[Event], str]) -> dict[str, Json]:
    """What BUGLOG.md shows of a proof: its entry of the statement, with the events that its lines refer to."""
    name = proof["name"]
    settings = of_proof(events, name)
    own = [event for event in events if event["scope"].partition("/")[0] == name]
    announced: dict[str, Json] = next((event["data"] for event in own if event["kind"] == "proof"), {})
    groups = {cases[0]["data"]["case"]: cases for cases in _cases(own, name)}
    judged = {event["scope"]: event for event in own if event["kind"] == "mutant judged"}
    shown = sorted(
        proof["cases"], key=lambda case: bool(case["verdict"] == Verdict.PASS)
    )  # one that failed comes first
    name_in_short = next((case["case"] for case in shown if case["case"] in groups), next(iter(groups), ""))
    quotes = list(deciding(groups.get(name_in_short, [])))
    return {
        **announced,
        **proof,
        "path": log_path({"scope": name}),
        "events": len(own),
        "cases": [{**case, "events": groups.get(case["case"], [])} for case in proof["cases"]],
        "mutants": [{**each, "event": judged.get(f"{name}/mutant {each['name']}")} for each in proof["mutant"]["each"]],
        "case_in_short": name_in_short,
        "as_deployed": len(settings["as_deployed"]),
        "changed": [in_words(change) for change in settings["changed"]],
        "quotes": quotes,
        "excerpt": "\n".join(text for event in quotes for text in event_text.brief(event, whole(event))),
    }


def _cases(events: Sequence[Event], name: str) -> list[list[Event]]:
    """The events of each case of the proof, from its beginning to its verdict."""
    groups: list[list[Event]] = []
    running: dict[str, list[Event]] = {}  # by scope
    for event in events:
        scope = event["scope"]
        if event["kind"] == "case" and recorder.has_cases_of(scope, name):
            groups.append(running.setdefault(scope, []))
        if scope in running:
            running[scope].append(event)
        if event["kind"] == "judged":
            running.pop(scope, None)
    return groups


def deciding(case: Sequence[Event]) -> Iterator[Event]:
    """The events that show a case: what injected the fault, the last look before the witness, and the last output of
    each kind before the measurement."""
    step = {event["kind"]: number for number, event in enumerate(case) if event["kind"] in ("witness", "measured")}
    witness, measured = step.get("witness", len(case)), step.get("measured", len(case))
    intents = [number for number, event in enumerate(case) if event["kind"] == "intent"]
    faults = [number for number in intents if case[number]["stdout"].startswith("fault: ")]
    if faults:
        injection = case[faults[0] + 1 : witness]
        yield from [event for event in injection if event["kind"] == "intent"][:_MOST_INJECTIONS]
        yield from [event for event in injection if event["kind"] in _LOOKS][-1:]
    last: dict[tuple[str, ...], Event] = {}
    for event in case[witness:measured]:
        if event["kind"] in _LOOKS and (event["kind"] != "command" or event["stdout"] + event["stderr"]):
            exchange = event["data"].get("name", "") if isinstance(event["data"], dict) else ""
            key = tuple(event["argv"][:2]) or (event["kind"], str(exchange))
            last.pop(key, None)  # its place is that of the last one
            last[key] = event
    yield from list(last.values())[-_MOST_MEASUREMENTS:]
