"""ALLOW or DENY a bundle: deny unless every required piece is there, and say everything that is missing.

The order: signature, type of the statement, recording (chain, blobs, one subject from beginning to end), what is live,
age, required set, and the verdicts, recomputed from the raw events. Each file is read once, and what was checked is
what is judged. What this cannot tell: that the tested host's root did not lie while it recorded, or that a newer run,
which would have said otherwise, was kept back.
"""

from __future__ import annotations

import json
import re
from collections import ChainMap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import blobs, recorder, signature
from proofs.evidence import statement as bundle
from proofs.evidence.json_diff import differences
from proofs.host import deployed
from proofs.soak.criteria import PROOF as SOAK
from proofs.verdict import Json, Verdict
from proofs.verifier import event_order, host_actions, recompute
from proofs.verifier.policy import Asked, Report, Unusable

# What a recording can be of: a soak breaks nothing on purpose and has no mutant, so it is no proof, and opens nothing.
JUDGED = ChainMap(PROOFS, {SOAK.name: SOAK})

_CLOCK_SLACK_S = 300.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


def verify(directory: Path, asked: Asked) -> Report:
    """Check a bundle by all of it.

    Raises:
        Unusable: no such directory, no allowed signers that can be read, no ssh-keygen, an unknown proof required.
    """
    report = Report(directory)
    if not directory.is_dir():
        raise Unusable(f"{directory}: no such directory")
    body = _slurp(directory / bundle.STATEMENT, report.steps.setdefault("signature", []))
    report.body = body
    _signature(report, body, asked)
    statement = _statement(report, body)
    events = _recording(report)
    if statement is not None:
        report.statement = statement
        _live(report, statement, asked)
        report.steps["freshness"] = _age(statement["predicate"]["finished"], asked)
    if statement is not None and events is not None:
        try:
            made, complaints = recompute.rebuild(events, JUDGED, blobs.reader(directory / blobs.FOLDER))
            report.steps["required"] = _required(made, asked.required, event_order.kind_shown(events))
            report.steps["verdicts"] = complaints + _deeds(events) + _same(body, statement, made)
            _buglog(report, events)
        except Exception as error:  # noqa: BLE001 - events that break the rules they are judged by are denied as well
            report.steps["verdicts"] = [f"the events cannot be judged: {type(error).__name__}: {error}"]
    return report


def _slurp(path: Path, reasons: list[str]) -> bytes:
    try:
        return blobs.slurp(path)
    except blobs.Unreadable as error:
        reasons.append(str(error))
        return b""


def _signature(report: Report, body: bytes, asked: Asked) -> None:
    reasons = report.steps["signature"]
    if asked.signers is None:
        report.skipped["signature"] = "about to be made"
        return
    try:
        blobs.slurp(asked.signers.resolve())  # ssh-keygen would wait for ever for what a pipe says
    except blobs.Unreadable as error:
        raise Unusable(f"{asked.signers.parent}: {error}") from None
    armored = report.signature = _slurp(report.directory / signature.SIGNATURE, reasons)
    if not (body and armored):
        reasons.append("the statement is not signed")
        return
    try:
        report.signer = signature.check(body, armored, asked.signers)
    except signature.BadSignature as error:
        reasons.append(str(error))
    except signature.NoTool as error:
        raise Unusable(str(error)) from None


def _statement(report: Report, body: bytes) -> dict[str, Json] | None:
    """The statement when it has the shape of ours; what is in it, the steps after this look at."""
    reasons = report.steps.setdefault("statement", [])
    try:
        statement = json.loads(body)
        release, config = statement["subject"]
        predicate = statement["predicate"]
        if (statement["_type"], statement["predicateType"]) != (bundle.STATEMENT_TYPE, bundle.PREDICATE_TYPE):
            reasons.append(f"it is of another type: {statement['_type']}, {statement['predicateType']}")
            return None
        for name, subject in (("release", release), ("config", config)):
            if not _DIGEST.fullmatch(subject["digest"]["sha256"]):
                reasons.append(f"it is about no {name}: the digest is {subject['digest']['sha256']!r}")
        if config["name"] != "config" or release["name"] == "config":
            reasons.append(f"its subjects are {release['name']} and {config['name']}, not a release and its config")
        if not all(isinstance(predicate[key], str) and predicate[key] for key in ("run", "finished")):
            raise TypeError("run and finished are texts")
        if not isinstance(predicate["host"]["machine_id"], str):
            raise TypeError("host.machine_id is a text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reasons.append(f"it is no statement of proofs: {type(error).__name__}: {error}")
        return None
    return dict(statement)


def _recording(report: Report) -> list[dict[str, Json]] | None:
    reasons = report.steps.setdefault("recording", [])
    raw = _slurp(report.directory / recorder.EVENTS, reasons)
    if reasons:
        return None
    try:
        events = list(recorder.checked(raw))
        reasons += blobs.problems(report.directory / blobs.FOLDER, events)
        reasons += event_order.problems(events, JUDGED)
    except recorder.ChainBroken as error:
        reasons.append(f"{recorder.EVENTS}: {error}")
        return None
    except (KeyError, TypeError, AttributeError) as error:
        reasons.append(f"{recorder.EVENTS}: not a run of proofs: {type(error).__name__}: {error}")
        return None
    return events


def _live(report: Report, statement: dict[str, Json], asked: Asked) -> None:
    if asked.current is None:
        report.skipped["live"] = "not compared with any release, config or host"
        return
    reasons = report.steps.setdefault("live", [])
    try:
        current = asked.current()
    except deployed.NotLive as error:
        reasons.append(f"what is live cannot be read: {error}")
        return
    release, config = (subject["digest"]["sha256"] for subject in statement["subject"])
    machine = statement["predicate"]["host"]["machine_id"]
    for what, proven, now in (
        ("release", release, current.release_digest),
        ("configuration", config, current.config_digest),
        ("host", machine, current.machine_id),
    ):
        if not now or proven != now:
            reasons.append(f"the proof is of another {what}: {proven or 'none'}, and live is {now or 'none'}")


def _age(finished: str, asked: Asked) -> list[str]:
    try:
        moment = datetime.fromisoformat(finished)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        age_s = asked.now() - moment.timestamp()
    except (ValueError, OverflowError) as error:
        return [f"it ended at no time that can be read: {finished!r}: {error}"]
    if age_s < -_CLOCK_SLACK_S:
        return [f"it is from the future: it ended {finished}"]
    if not age_s <= asked.max_age_h * 3600:
        return [f"it is {age_s / 3600:.1f} h old, and may be {asked.max_age_h:g}: it ended {finished}"]
    return []


def _required(made: dict[str, Json], names: Sequence[str] | None, shown: str) -> list[str]:
    """Every required proof says PASS, put the host back, and caught its mutants; by the recomputed entries.

    shown: the kind of host that the recording shows; where it is not the one that is claimed, all of them are due.
    """
    predicate = made["predicate"]
    kind = predicate["kind_of_host"]
    if names is None and kind not in REQUIRED:
        return [f"it does not say what has to be shown: no kind of host is called {kind!r}"]
    of_host = REQUIRED[kind] if kind == shown else [name for each in REQUIRED.values() for name in each]
    due = dict.fromkeys([*(of_host if names is None else names), *predicate["required"]])
    entries = {proof["name"]: proof for proof in predicate["proofs"]}
    found = [] if due else ["nothing is required"]
    if shown and shown != kind:
        found.append(f"it says that the host is a {kind}, and shows a {shown}")
    for name in due:
        proof = entries.get(name)
        if proof is None:
            found.append(f"{name} was not run")
        elif proof["verdict"] != Verdict.PASS:
            found.append(f"{name} says {proof['verdict']}: {proof['reason']}")
        else:
            if proof["restored"] is not True:
                found.append(f"{name} did not put the host back")
            guarded = name not in JUDGED or JUDGED[name].mutants
            if guarded and proof["mutant"]["verdict"] != Verdict.FAIL:
                found.append(f"{name} is void: its mutants say {proof['mutant']['verdict']}")
    return found


def _deeds(events: Sequence[dict[str, Json]]) -> list[str]:
    """What the proofs did to the host and to their mutants, each time that one of them was begun."""
    header = next((event["data"] for event in events if event["kind"] == "run"), None)
    if header is None:
        return []  # it was never begun, which the step `recording` says
    return [
        problem
        for name, times in recompute.attempts(events).items()
        for one in times
        if name in JUDGED
        for problem in host_actions.problems(one, JUDGED[name], header)
    ]


def _same(body: bytes, statement: dict[str, Json], made: dict[str, Json]) -> list[str]:
    found = [f"the statement is not what the events come to: {d}" for d in differences(statement, made)]
    if not found and body != bundle.encode(made):
        found.append("the statement is not written as the proofs write one")
    return found


def _buglog(report: Report, events: list[dict[str, Json]]) -> None:
    """Check the rendered pages: people read them instead of the events, so they have to be of these events."""
    from proofs.report import buglog

    if not buglog.exists(report.directory):
        report.skipped["buglog"] = "there is none"
        return
    try:
        report.steps["buglog"] = buglog.problems(report.directory, events)
    except blobs.Unreadable as error:
        report.steps["buglog"] = [f"it cannot be compared: {blobs.FOLDER}/{error}"]
    except ImportError:
        report.skipped["buglog"] = "not compared: Jinja2 is not installed here"
