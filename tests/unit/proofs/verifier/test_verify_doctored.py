"""A falsified recording whose chain is whole again, whose statement agrees and that the right key signed is denied.

What is left to find is that the verdicts do not follow from the measurements.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.evidence import recorder
from proofs.verifier import verify
from proofs.verifier.policy import Requirements
from tests.support import proof_run
from tests.support.proof_run import LIVE, events_of, put, rechained, sign

Event = dict[str, Any]
Events = list[Event]
Edit = Callable[[Events], object]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("proofs")
    directory = proof_run.record(root)
    key = proof_run.make_key(root / "operator")
    (root / "allowed_signers").write_text(f"operator {key.with_suffix('.pub').read_text()}")
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


def doctored(
    honest: Path, tmp_path: Path, edit: Edit, spoil: Callable[[Any], None] = lambda statement: None
) -> list[str]:
    """The reasons of verify after `edit` of the run's events and `spoil` of its statement, all of it signed."""
    there = tmp_path / "r1"
    shutil.copytree(honest, there)
    events = events_of(there)
    edit(events)
    put(there, rechained(events), spoil)
    sign(there, honest.parent / "operator")
    report = verify.verify(there, Requirements(honest.parent / "allowed_signers", lambda: LIVE))
    assert report.signer == "operator"
    assert report.allowed is (not report.reasons)
    return report.reasons


def of(events: Events, kind: str, scope: str = "toy", number: int = 0) -> Event:
    return [event for event in events if event["kind"] == kind and event["scope"] == scope][number]


def drop(kind: str, scope: str = "toy", number: int = 0) -> Edit:
    return lambda events: events.remove(of(events, kind, scope, number))


def change(kind: str, value: Any, *path: str | int, scope: str = "toy", number: int = 0) -> Edit:
    """Set data[path...] of the event of that kind and scope."""

    def edit(events: Events) -> None:
        place: Any = of(events, kind, scope, number)
        for step in ("data", *path)[:-1]:
            place = place[step]
        place[("data", *path)[-1]] = value

    return edit


MUTANT = "toy/mutant no-guard"


def believe(verdict: str) -> Edit:
    """Every recorded verdict of the first case of toy is this one; what was measured stays."""

    def edit(events: Events) -> None:
        ok = verdict == "PASS"
        for record in (of(events, "judged")["data"], of(events, "verdict")["data"]["cases"][0]):
            record.update(verdict=verdict, reason="" if ok else record["reason"])
            for check in record["checks"]:
                check.update(ok=ok, measured=1 if ok and check["name"] == "value" else check["measured"])
        of(events, "verdict")["data"].update(verdict=verdict, reason="")

    return edit


def failing(events: Events) -> None:
    """As the host would have recorded a run that failed: it is the measurement that is bad."""
    change("measured", 7, "value")(events)


def forged_pass(events: Events) -> None:
    failing(events)
    believe("PASS")(events)


def mutant_escapes(events: Events) -> None:
    """The mutant measured what the guard promises, so it was not caught; it is recorded as caught."""
    for number in (0, 1):
        change("measured", 1, "value", scope=MUTANT, number=number)(events)


def retried(events: Events) -> None:
    """toy failed, and was run again until it passed."""
    again = [json.loads(json.dumps(e)) for e in events if e["scope"].partition("/")[0] == "toy"]
    at = events.index(of(events, "verdict")) + 1
    failing(events)
    events[at:at] = again


def another_unit(events: Events) -> None:
    for number in (0, 1):
        change("case", "another.service", "unit", number=number)(events)


def another_release_at_the_end(events: Events) -> None:
    change("run ended", "f" * 64, "release_digest", scope="")(events)


def late_intent(events: Events) -> None:
    intent = next(e for e in events if e["scope"] == "toy" and e["stdout"] == "fault: the first fault")
    events.remove(intent)
    events.insert(events.index(of(events, "witness")) + 1, intent)


def a_case_more(events: Events) -> None:
    at = events.index(of(events, "judged", number=1)) + 1
    events[at:at] = [json.loads(json.dumps(of(events, kind, number=1))) for kind in ("case", "judged")]


def never_measured(events: Events) -> None:
    for kind in ("witness", "measured"):
        events.remove(of(events, kind))


def without_second_case(scope: str) -> Edit:
    """Its events are removed, from its beginning to its judgement."""

    def edit(events: Events) -> None:
        first, last = (of(events, kind, scope, 1)["seq"] for kind in ("case", "judged"))
        events[:] = [e for e in events if e["scope"] != scope or not first <= e["seq"] <= last]
        entry = of(events, "mutant judged" if scope == MUTANT else "verdict", scope)["data"]
        entry["cases"] = entry["cases"][:1]

    return edit


def shows_another_output(events: Events) -> None:
    event = next(event for event in events if event["blobs"])
    event["stdout"] = event["stdout"].replace("entry 0", "all is well", 1)


def requires_less(events: Events) -> None:
    for kind in ("run", "run ended"):
        change(kind, ["toy"], "required", scope="")(events)
    events[:] = [event for event in events if event["scope"].partition("/")[0] != "toy2"]


def only_run_once(events: Events) -> None:
    events.append(json.loads(json.dumps(of(events, "run", scope=""))))


ROWS: list[tuple[str, Edit, str]] = [
    ("measured otherwise", failing, "what was judged of first is not what the events come to"),
    ("forged through and through", forged_pass, "verdict: 'PASS', but 'FAIL'"),
    ("FAIL believed to be PASS is no difference in words only", forged_pass, "required: toy says FAIL"),
    ("too few samples", change("measured", 2, "n"), "verdict: 'PASS', but 'INCONCLUSIVE'"),
    ("fewer samples", change("case", 1, "n_min"), "this case is not what the events come to: n_min: 1, but 3"),
    ("no witness", change("witness", None), "required: toy says INCONCLUSIVE: no witness that the fault took place"),
    ("witness not recorded", drop("witness"), "first: its steps are case, measured, judged"),
    ("never measured", never_measured, "required: toy says ERROR: nothing was measured"),
    ("not judged", drop("judged"), "first: its steps are case, witness, measured"),
    ("a case left out", drop("case", number=1), "its steps are case, witness, measured, judged, witness"),
    ("a case more", a_case_more, "3 cases where the catalogue has 2"),
    ("witnessed before announced", late_intent, "first: witnessed before the fault was announced"),
    ("on another unit", another_unit, "unit: 'another.service', but 'hybrid-engine.service'"),
    ("another promise", change("deployed", 9.0, "restart_s"), "restart_s 9.0 is not what systemctl showed: 2s"),
    ("mutant not caught", mutant_escapes, "verdict: 'FAIL', but 'PASS'"),
    ("mutant not caught voids", mutant_escapes, "required: toy says INCONCLUSIVE: void, a mutant was not caught"),
    ("mutant never spoke", drop("mutant judged", MUTANT), "required: toy says INCONCLUSIVE: void, a mutant was not"),
    ("mutant judged one case", drop("case", MUTANT, 1), "void, a mutant was not caught: no-guard said ERROR"),
    ("a whole case less", without_second_case("toy"), "toy: only 1 of its cases were run"),
    ("a whole case less of the mutant", without_second_case(MUTANT), "void, a mutant was not caught: no-guard said"),
    ("shows what the blob is not", shows_another_output, "is not how that begins"),
    ("host not as before", change("undone", "x", "after", "etc_sha256", scope="toy/undo"), "restored, but: etc_sha256"),
    ("undo had problems", change("undone", ["x"], "problems", scope="toy/undo"), "says restored, but: ['x']"),
    ("never undone", drop("undone", "toy/undo"), "required: toy says FAIL: not restored"),
    ("undone by the timer", change("undone", "timer", "by", scope="toy/undo"), "required: toy says FAIL: not restored"),
    ("not healthy again", change("waited", False, "came"), "required: toy says FAIL: not restored"),
    ("health after it unknown", drop("waited"), "required: toy says FAIL: not restored"),
    ("no lease", drop("intent"), "required: toy says FAIL: not restored"),
    ("died before its verdict", drop("verdict"), "required: toy says ERROR: the proof did not live to its verdict"),
    ("nothing was done", drop("deployed"), "PASS although nothing was done"),
    ("not of the catalogue", change("proof", "tay", "name"), "the catalogue has no proof tay"),
    ("run until it passed", retried, "toy: started 2 times, and not every time it said PASS"),
    ("required less", requires_less, "required: toy2 was not run"),
    ("no kind of host", lambda e: [change(k, "x", "kind", scope="")(e) for k in ("run", "run ended")], "called 'x'"),
    ("another release at the end", another_release_at_the_end, "release_digest is another at the end"),
    ("never ended", drop("run ended", ""), "recording: not one run from its beginning to its end: run"),
    ("never begun", drop("run", ""), "recording: not one run from its beginning to its end: run ended"),
    ("two runs", only_run_once, "recording: not one run from its beginning to its end: run, run ended, run"),
    ("no digest", lambda e: [change(k, "", "release_digest", scope="")(e) for k in ("run", "run ended")], "no release"),
    ("a time that was not", lambda events: events[50].update(mono_ns=1), "line 51: the clock goes backwards"),
    ("proof outside of the run", lambda events: events.append(events.pop(-6)), "after the end of the run"),
    ("data of another shape", change("measured", "7"), "required: toy says ERROR"),
    ("header of another shape", lambda events: of(events, "run", "").update(data=None), "recording: "),
    ("case of another shape", change("case", None), "toy: this case is not what the events come to"),
    ("verdict of another shape", change("verdict", {"name": "toy", "verdict": "SURE"}), "toy: its events cannot be"),
]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(("edit", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_falsified_recording_is_denied_whoever_signed_it(honest: Path, tmp_path: Path, edit: Edit, reason: str) -> None:
    try:
        reasons = doctored(honest, tmp_path, edit)
    except (KeyError, TypeError, ValueError):  # the statement cannot even be made of it: it stays the honest one
        there = tmp_path / "r1"
        events = events_of(honest)
        edit(events)
        (there / "events.jsonl").write_bytes(b"".join(map(recorder.line_of, rechained(events))))
        reasons = verify.verify(there, Requirements(None, lambda: LIVE)).reasons
    assert any(reason in line for line in reasons), reasons


def test_required_option_does_not_lower_what_the_run_required(honest: Path, tmp_path: Path) -> None:
    assert doctored(honest, tmp_path, lambda events: None) == []
    events = events_of(honest)
    failing(events)
    put(tmp_path / "r1", rechained(events))
    reasons = verify.verify(tmp_path / "r1", Requirements(None, lambda: LIVE, required=["toy2"])).reasons
    assert any(line.startswith("required: toy says FAIL") for line in reasons)


def test_unchanged_run_is_allowed_after_rechaining(honest: Path, tmp_path: Path) -> None:
    assert doctored(honest, tmp_path, lambda events: None) == []


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s["predicate"]["proofs"][0].update(verdict="FAIL"), "proofs[toy].verdict: 'FAIL', but 'PASS'"),
        (lambda s: s["predicate"]["proofs"][0].update(n=600), "proofs[toy].n: 600, but 6"),
        (lambda s: s["predicate"]["proofs"][0].update(measured="all"), "proofs[toy].measured: 'all', but ''"),
        (lambda s: s["predicate"]["proofs"].pop(), "predicate.proofs: "),
        (lambda s: s["predicate"].update(required=[]), "predicate.required: [], but ['toy', 'toy2']"),
        (lambda s: s["predicate"].update(finished="2030-01-01T00:00:00Z"), "predicate.finished: '2030"),
        (lambda s: s["predicate"]["host"].update(machine_id="f"), "predicate.host.machine_id: 'f', but 'cccc"),
        (lambda s: s["predicate"].update(extra=1), "predicate.extra: 1, but None"),
        (lambda s: s["predicate"]["events"].update(count=1), "predicate.events.count: 1"),
        (lambda s: s["subject"][0]["digest"].update(sha256="f" * 64), "a].digest.sha256: 'ffff"),
        (lambda s: s["subject"].reverse(), "its subjects are unit, config, 0.1.0-aaaaaaaaaaaa, not"),
        (lambda s: s["subject"][2]["digest"].update(sha256="f" * 64), "t].digest.sha256: 'ffff"),
        (lambda s: s["predicate"].update(unit_parts=[]), "predicate.unit_parts: "),
        (lambda s: s["predicate"].update(unit_parts=[1]), "statement: it is no statement of proofs"),
        (lambda s: s["subject"].pop(), "statement: it is no statement of proofs"),
        (lambda s: s["subject"].append({}), "statement: it is no statement of proofs"),
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "statement: it is of another type"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "statement: it is of another type"),
    ],
)
def test_falsified_statement_is_denied_whoever_signed_it(
    honest: Path, tmp_path: Path, spoil: Callable[[Any], None], reason: str
) -> None:
    reasons = doctored(honest, tmp_path, lambda events: None, spoil)
    assert any(reason in line for line in reasons), reasons
