"""Decide whether a bundle is allowed: every step has to hold, and every problem is reported at once.

The steps, in order: signature, type of the statement, recording (hash chain, blobs, order of the events), live release,
age, required proofs, verdicts recomputed from the raw events, and the rendered pages. Each file is read once, so that
what was checked is what is judged. What no verifier can tell is in docs/evidence.md.
"""

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
from proofs.report import buglog
from proofs.soak.criteria import PROOF as SOAK
from proofs.verdict import Json, Verdict
from proofs.verifier import event_order, host_actions, recompute
from proofs.verifier.policy import Report, Requirements, VerificationError

# What a recording can be of. A soak breaks nothing and has no mutant, so it is no proof and opens nothing.
JUDGED = ChainMap(PROOFS, {SOAK.name: SOAK})

_CLOCK_SLACK_S = 300.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


def verify(directory: Path, requirements: Requirements) -> Report:
    """Check every step of a bundle and report what is wrong with it.

    Raises VerificationError: no such directory, no allowed signers that can be read, no ssh-keygen.
    """
    report = Report(directory)
    if not directory.is_dir():
        raise VerificationError(f"{directory}: no such directory")
    body = report.body = _read(directory / bundle.STATEMENT, report.steps.setdefault("signature", []))
    _signature(report, body, requirements)
    statement = report.statement = _statement(report, body)
    events = _recording(report)
    if statement is not None:
        _live(report, statement, requirements)
        report.steps["freshness"] = _age(statement["predicate"]["finished"], requirements)
    if statement is not None and events is not None:
        try:
            rebuilt, problems = recompute.rebuild(events, JUDGED, blobs.reader(directory / blobs.FOLDER))
            report.steps["required"] = _required(rebuilt, requirements.required, event_order.kind_shown(events))
            report.steps["verdicts"] = problems + _host_actions(events) + _compare(body, statement, rebuilt)
            _buglog(report, events)
        except Exception as error:  # noqa: BLE001 - events that break the rules themselves are denied as well
            report.steps["verdicts"] = [f"the events cannot be judged: {type(error).__name__}: {error}"]
    return report


def _read(path: Path, reasons: list[str]) -> bytes:
    """The file's bytes; where it cannot be read, none, and the reason."""
    try:
        return blobs.slurp(path)
    except blobs.Unreadable as error:
        reasons.append(str(error))
        return b""


def _signature(report: Report, body: bytes, requirements: Requirements) -> None:
    reasons = report.steps["signature"]
    if requirements.signers is None:
        report.skipped["signature"] = "about to be made"
        return
    try:
        blobs.slurp(requirements.signers.resolve())  # ssh-keygen would wait for ever on a pipe
    except blobs.Unreadable as error:
        raise VerificationError(f"{requirements.signers.parent}: {error}") from None
    armored = report.signature = _read(report.directory / signature.SIGNATURE, reasons)
    if not (body and armored):
        reasons.append("the statement is not signed")
        return
    try:
        report.signer = signature.check(body, armored, requirements.signers)
    except signature.BadSignature as error:
        reasons.append(str(error))
    except signature.NoTool as error:
        raise VerificationError(str(error)) from None


def _statement(report: Report, body: bytes) -> dict[str, Json] | None:
    """The statement, when it has the shape of ours; the steps after this check its content."""
    reasons = report.steps.setdefault("statement", [])
    try:
        statement = json.loads(body)
        release, config = statement["subject"]
        predicate = statement["predicate"]
        if statement["predicateType"] in bundle.FORMER_TYPES:
            reasons.append(
                f"an earlier release recorded it ({statement['predicateType']}): verify it with that release"
            )
            return None
        if (statement["_type"], statement["predicateType"]) != (bundle.STATEMENT_TYPE, bundle.PREDICATE_TYPE):
            reasons.append(f"it is of another type: {statement['_type']}, {statement['predicateType']}")
            return None
        for name, subject in (("release", release), ("config", config)):
            if not _DIGEST.fullmatch(subject["digest"]["sha256"]):
                reasons.append(f"it is about no {name}: the digest is {subject['digest']['sha256']!r}")
        if config["name"] != "config" or release["name"] == "config":
            reasons.append(f"its subjects are {release['name']} and {config['name']}, not a release and its config")
        texts = (predicate["run"], predicate["finished"], predicate["host"]["machine_id"])
        if not all(isinstance(text, str) for text in texts) or not all(texts[:2]):
            raise TypeError("run, finished and host.machine_id have to be texts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reasons.append(f"it is no statement of proofs: {type(error).__name__}: {error}")
        return None
    return dict(statement)


def _recording(report: Report) -> list[dict[str, Json]] | None:
    reasons = report.steps.setdefault("recording", [])
    raw = _read(report.directory / recorder.EVENTS, reasons)
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


def _live(report: Report, statement: dict[str, Json], requirements: Requirements) -> None:
    if requirements.current is None:
        report.skipped["live"] = "not compared with any release, config or host"
        return
    reasons = report.steps.setdefault("live", [])
    try:
        current = requirements.current()
    except deployed.NotLive as error:
        reasons.append(f"what is live cannot be read: {error}")
        return
    recorded = [subject["digest"]["sha256"] for subject in statement["subject"]]
    recorded.append(statement["predicate"]["host"]["machine_id"])
    lives = (current.release_digest, current.config_digest, current.machine_id)
    for what, proven, live in zip(("release", "configuration", "host"), recorded, lives, strict=True):
        if not live or proven != live:
            reasons.append(f"the proof is of another {what}: {proven or 'none'}, and live is {live or 'none'}")


def _age(finished: str, requirements: Requirements) -> list[str]:
    try:
        moment = datetime.fromisoformat(finished)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        age_s = requirements.now() - moment.timestamp()
    except (ValueError, OverflowError) as error:
        return [f"it ended at no time that can be read: {finished!r}: {error}"]
    if age_s < -_CLOCK_SLACK_S:
        return [f"it is from the future: it ended {finished}"]
    if not age_s <= requirements.max_age_h * 3600:
        return [f"it is {age_s / 3600:.1f} h old, and may be {requirements.max_age_h:g}: it ended {finished}"]
    return []


def _required(rebuilt: dict[str, Json], names: Sequence[str] | None, shown: str) -> list[str]:
    """Every required proof has to be PASS, to have restored the host and caught its mutants, by the rebuilt statement.

    shown: the kind of host that the recording shows. Where it is not the one that the run claims, the proofs of every
    kind are required.
    """
    predicate = rebuilt["predicate"]
    kind = predicate["kind_of_host"]
    if names is None and kind not in REQUIRED:
        return [f"it does not say what has to be shown: no kind of host is called {kind!r}"]
    of_host = REQUIRED[kind] if kind == shown else [name for each in REQUIRED.values() for name in each]
    required = dict.fromkeys([*(of_host if names is None else names), *predicate["required"]])
    entries = {proof["name"]: proof for proof in predicate["proofs"]}
    reasons = [] if required else ["nothing is required"]
    if shown and shown != kind:
        reasons.append(f"it says that the host is a {kind}, and shows a {shown}")
    for name in required:
        proof = entries.get(name)
        if proof is None:
            reasons.append(f"{name} was not run")
        elif proof["verdict"] != Verdict.PASS:
            reasons.append(f"{name} says {proof['verdict']}: {proof['reason']}")
        else:
            if proof["restored"] is not True:
                reasons.append(f"{name} did not put the host back")
            if (name not in JUDGED or JUDGED[name].mutants) and proof["mutant"]["verdict"] != Verdict.FAIL:
                reasons.append(f"{name} is void: its mutants say {proof['mutant']['verdict']}")
    return reasons


def _host_actions(events: Sequence[dict[str, Json]]) -> list[str]:
    """What is wrong with what the proofs did to the host and to their mutants, for each start of each proof."""
    header = next((event["data"] for event in events if event["kind"] == "run"), None)
    if header is None:
        return []  # the step `recording` reports that the run never began
    started = [(JUDGED[name], each) for name, each in recompute.attempts(events).items() if name in JUDGED]
    return [text for proof, each in started for one in each for text in host_actions.problems(one, proof, header)]


def _compare(body: bytes, statement: dict[str, Json], rebuilt: dict[str, Json]) -> list[str]:
    reasons = [f"the statement is not what the events come to: {d}" for d in differences(statement, rebuilt)]
    if not reasons and body != bundle.encode(statement):
        reasons.append("the statement is not written as the proofs write one")
    return reasons


def _buglog(report: Report, events: list[dict[str, Json]]) -> None:
    """Check the rendered pages: people read them instead of the events, so they have to be of these events."""
    if not buglog.exists(report.directory):
        report.skipped["buglog"] = "there is none"
        return
    try:
        report.steps["buglog"] = buglog.problems(report.directory, events)
    except blobs.Unreadable as error:
        report.steps["buglog"] = [f"it cannot be compared: {blobs.FOLDER}/{error}"]
    except ImportError:
        report.skipped["buglog"] = "not compared: Jinja2 is not installed here"
