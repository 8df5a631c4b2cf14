"""Decide whether a bundle is allowed: every step has to hold, and every problem is reported at once.

The steps, in order: signature, type of the statement, recording (hash chain, blobs, order of the events), live release,
age, required proofs, verdicts recomputed from the raw events, the rendered pages, and files that belong to no bundle.
Where the signature does not hold nothing else is looked at, unless that is asked for. Each file is read once, so that
what was checked is what is judged. What no verifier can tell is in docs/evidence.md.
"""

import json
import os
import re
import time
from collections import ChainMap
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence import blobs, host_input, recorder, signature, unit_parts
from proofs.evidence import statement as bundle
from proofs.evidence.json_diff import differences
from proofs.host import deployed
from proofs.report import buglog, html
from proofs.soak import log
from proofs.soak.criteria import PROOF as SOAK
from proofs.verdict import Json, Verdict
from proofs.verifier import event_order, host_actions, recompute
from proofs.verifier.policy import Report, Requirements, VerificationError

# What a recording can be of. A soak breaks nothing and has no mutant, so it is no proof and opens nothing.
JUDGED = ChainMap(PROOFS, {SOAK.name: SOAK})

_CLOCK_SLACK_S = 300.0
_CHARTS_S = 18.0  # after the beginning, when no further chart is drawn
_FILES = {bundle.STATEMENT, signature.SIGNATURE, recorder.EVENTS, blobs.FOLDER}
_FILES |= {buglog.BUGLOG, buglog.LOG, html.REPORT, log.DECISIONS}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def verify(directory: Path, requirements: Requirements) -> Report:
    """Check every step of a bundle and report what is wrong with it.

    Raises VerificationError: no such directory, no allowed signers that can be read, no ssh-keygen.
    """
    report, began = Report(directory), time.monotonic()
    if not directory.is_dir():
        raise VerificationError(f"{directory}: no such directory")
    body = report.body = _read(directory / bundle.STATEMENT, report.steps.setdefault("signature", []))
    _signature(report, body, requirements)
    if report.steps["signature"] and requirements.signers and not requirements.despite_signature:
        report.skip_rest("not looked at, as the signature does not hold; --despite-signature looks on")
        return report
    if _is_former(body):
        why = "this bundle was recorded by an earlier release, and has to be verified with that release"
        report.steps["statement"] = [why]
        report.skip_rest("not looked at")
        return report
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
            until = began + _CHARTS_S if requirements.signers else began  # who signs has just drawn them
            _pages(report, events, until)
        except MemoryError:
            raise  # is told where memory is bounded
        except Exception as error:  # noqa: BLE001 - events that break the rules themselves are denied as well
            report.steps["verdicts"] = [f"the events cannot be judged: {type(error).__name__}: {error}"]
    report.steps["files"] = _unknown_files(directory)
    return report


def _unknown_files(directory: Path) -> list[str]:
    try:
        names = blobs.list_folder(directory)
    except blobs.Unreadable as error:
        return [str(error)]
    return [f"{name!r} belongs to no bundle; remove it" for name in sorted(names - _FILES)]


def _is_former(body: bytes) -> bool:
    try:
        return bundle.of_earlier_release(json.loads(body)["predicateType"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _read(path: Path, reasons: list[str], largest: int = host_input.STATEMENT_BYTES) -> bytes:
    """The file's bytes; where it cannot be read, none, and the reason."""
    try:
        return blobs.slurp(path, largest)
    except blobs.Unreadable as error:
        reasons.append(str(error))
        return b""


def _signature(report: Report, body: bytes, requirements: Requirements) -> None:
    reasons = report.steps["signature"]
    if requirements.signers is None:
        report.skipped["signature"] = "about to be made"
        return
    try:
        blobs.slurp(requirements.signers)  # ssh-keygen would wait for ever on a pipe
        signature.check_signers(requirements.signers)
    except blobs.Unreadable as error:
        raise VerificationError(f"{requirements.signers.parent}: {error}") from None
    except (signature.UnsafeSigners, OSError) as error:
        raise VerificationError(str(error)) from None
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
        release, config, unit = statement["subject"]
        predicate = statement["predicate"]
        if (statement["_type"], statement["predicateType"]) != (bundle.STATEMENT_TYPE, bundle.PREDICATE_TYPE):
            reasons.append(f"it is of another type: {statement['_type']}, {statement['predicateType']}")
            return None
        for name, subject in (("release", release), ("config", config), ("unit", unit)):
            if not _DIGEST.fullmatch(subject["digest"]["sha256"]):
                reasons.append(f"it is about no {name}: the digest is {subject['digest']['sha256']!r}")
        if (config["name"], unit["name"]) != ("config", "unit") or release["name"] in ("config", "unit"):
            names = ", ".join(str(subject["name"]) for subject in (release, config, unit))
            reasons.append(f"its subjects are {names}, not a release, its config and its unit")
        texts = (predicate["run"], predicate["finished"], predicate["host"]["machine_id"])
        if not all(isinstance(text, str) for text in texts) or not all(texts[:2]):
            raise TypeError("run, finished and host.machine_id have to be texts")
        if not all(isinstance(part, str) for part in predicate["unit_parts"]):
            raise TypeError("unit_parts have to be texts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reasons.append(f"it is no statement of proofs: {type(error).__name__}: {error}")
        return None
    return dict(statement)


def _recording(report: Report) -> list[dict[str, Json]] | None:
    reasons = report.steps.setdefault("recording", [])
    raw = _read(report.directory / recorder.EVENTS, reasons, host_input.EVENTS_BYTES)
    if reasons:
        return None
    try:
        events = list(recorder.checked(raw))
        try:
            reasons += blobs.problems(report.directory / blobs.FOLDER, events)
        except blobs.Unreadable as error:
            reasons.append(str(error))
        reasons += event_order.problems(events, JUDGED)
    except recorder.ChainBroken as error:
        reasons.append(f"{recorder.EVENTS}: {error}")
        return None
    except MemoryError:
        raise  # is told where memory is bounded
    except Exception as error:  # noqa: BLE001 - whatever it holds, it is no recording of ours
        reasons.append(f"{recorder.EVENTS}: not a run of proofs: {type(error).__name__}: {error}")
        return None
    return events


def _live(report: Report, statement: dict[str, Json], requirements: Requirements) -> None:
    if requirements.current is None:
        report.skipped["live"] = "not compared with any release, config, unit or host"
        return
    reasons = report.steps.setdefault("live", [])
    try:
        current = requirements.current()
    except deployed.NotLive as error:
        reasons.append(f"what is live cannot be read: {error}")
        return
    recorded = [subject["digest"]["sha256"] for subject in statement["subject"]]
    recorded.append(statement["predicate"]["host"]["machine_id"])
    lives = (current.release_digest, current.config_digest, current.unit_digest, current.machine_id)
    kinds = ("release", "configuration", "unit", "host")
    for what, proven, live in zip(kinds, recorded, lives, strict=True):
        if not live or proven != live:
            reasons.append(f"the proof is of another {what}: {proven or 'none'}, and live is {live or 'none'}")
            if what == "unit" and current.unit_parts:
                reasons += unit_parts.differences(statement["predicate"]["unit_parts"], current.unit_parts)


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


def _pages(report: Report, events: list[dict[str, Json]], until: float) -> None:
    """Check what was rendered: people read it instead of the events, so it has to be of these events."""
    _buglog(report, events)
    pages = report.steps.setdefault("report", [])
    if os.path.lexists(report.directory / html.REPORT):
        try:
            problems, why = html.problems(report.directory, events, until)
            pages += problems
        except ImportError:
            why = "not compared: Jinja2 is not installed here"
        if why:
            report.skipped["report"] = why
    if os.path.lexists(report.directory / log.DECISIONS):
        lines = "".join(log.line_of(event["data"]) for event in events if event["kind"] == "decision")
        if _read(report.directory / log.DECISIONS, pages, host_input.EVENTS_BYTES) != lines.encode():
            pages.append(f"{log.DECISIONS} is not what these events hold; `hybrid-proofs render` writes it anew")


def _buglog(report: Report, events: list[dict[str, Json]]) -> None:
    if not buglog.exists(report.directory):
        report.skipped["buglog"] = "there is none"
        return
    try:
        report.steps["buglog"] = buglog.problems(report.directory, events)
    except blobs.Unreadable as error:
        report.steps["buglog"] = [f"it cannot be compared: {blobs.FOLDER}/{error}"]
    except ImportError:
        report.skipped["buglog"] = "not compared: Jinja2 is not installed here"
