"""Check that the events of a recording come in the order in which a run of proofs writes them.

One release on one host in one boot, each event of a kind that its scope has, the unique ones once, by clocks that
agree. A recording that breaks these rules was not written by a run of proofs, whatever its hash chain says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from proofs.evidence.recorder import canonical
from proofs.evidence.redaction import MARK
from proofs.experiment.case import Proof
from proofs.verdict import Json

Event = dict[str, Json]
_UTC = "%Y-%m-%dT%H:%M:%S.%fZ"
_STEP_S = 60.0  # how far a time server may set the wall clock during a run
_ROUNDED_S = 0.002  # a wait is recorded in milliseconds, and measured a moment before its event is written
_TOP = {"command", "progress", "run", "run ended"}
_UNDO = {"command", "intent", "waited", "undone"}
_CASES = {
    "answer",
    "asked",
    "burners",
    "case",
    "command",
    "copied",
    "decision",
    "exchange",
    "exchange said",
    "exchange stats",
    "in force",
    "intent",
    "judged",
    "locker",
    "measured",
    "measuring",
    "pressure",
    "seed",
    "stood elsewhere",
    "timeline",
    "waited",
    "witness",
}
_PROOF = _CASES | {"proof", "deployed", "observed", "verdict"}
_MUTANT = _CASES | {"mutant", "patched", "mutant judged"}
_ONCE = ("verdict", "deployed", "mutant", "mutant judged", "in force")


def problems(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> list[str]:
    """What is wrong with the order of these events, each with its line in events.jsonl.

    Raises:
        KeyError, TypeError: they have not even the shape of a run.
    """
    about = [event for event in events if event["kind"] in ("run", "run ended")]
    if [event["kind"] for event in about] != ["run", "run ended"]:
        return [f"not one run from its beginning to its end: {', '.join(e['kind'] for e in about) or 'neither'}"]
    begin, end = about
    result = [f"line {_line(end)}: {key} is another at the end" for key in _differing(begin["data"], end["data"])]
    result += [f"line {_line(event)}: after the end of the run" for event in events[end["seq"] + 1 :][:1]]
    for check in (_clocks, _waits, _scopes, _unique):
        result += list(check(events))
    result += list(_header(begin, events))
    result += list(_claims(events, catalogue))
    return result


def _line(event: Event) -> int:
    return int(event["seq"]) + 1


def _differing(one: Event, other: Event) -> list[str]:
    keys = sorted(one.keys() | other.keys())
    return [key for key in keys if canonical({"": one.get(key)}) != canonical({"": other.get(key)})]


def _first(problems: Iterator[str]) -> Iterator[str]:
    """The first problem alone: those after it follow from it."""
    yield from list(problems)[:1]


def _clocks(events: Sequence[Event]) -> Iterator[str]:
    """The monotonic clock never goes back, and the wall clock keeps up with it to within _STEP_S."""

    def differences() -> Iterator[str]:
        began: float | None = None
        before = events[0]["mono_ns"]
        for event in events:
            if event["mono_ns"] < before:
                yield f"line {_line(event)}: the clock goes backwards"
            before = event["mono_ns"]
            try:
                moment = datetime.strptime(event["utc"], _UTC).replace(tzinfo=UTC).timestamp()
            except ValueError:
                yield f"line {_line(event)}: no time of the day: {event['utc'][:40]!r}"
                continue
            booted = moment - event["mono_ns"] / 1e9
            began = booted if began is None else began
            if abs(booted - began) > _STEP_S:
                yield f"line {_line(event)}: its two clocks disagree by {booted - began:.0f} s"

    yield from _first(differences())


def _waits(events: Sequence[Event]) -> Iterator[str]:
    """No wait is longer than the time since the event before it in its scope."""

    def short() -> Iterator[str]:
        last: dict[str, int] = {}
        for event in events:
            if event["kind"] == "waited":
                seconds = event["data"]["seconds"]
                spent_s = (event["mono_ns"] - last.get(event["scope"], event["mono_ns"])) / 1e9
                if type(seconds) not in (int, float) or seconds > spent_s + _ROUNDED_S:
                    yield f"line {_line(event)}: {seconds!r} s of waiting in {spent_s:.3f} s"
            last[event["scope"]] = event["mono_ns"]

    yield from _first(short())


def _scopes(events: Sequence[Event]) -> Iterator[str]:
    """Every event is of a kind that its scope has, and belongs to the proof that is running."""
    running = ""
    for event in events:
        kind, scope = event["kind"], event["scope"]
        name, _, below = scope.partition("/")
        if kind == "proof":
            if running or event["data"]["name"] != scope:
                yield f"line {_line(event)}: {scope or 'a proof'} begins while {running or 'another'} runs"
            running = scope
        allowed = _TOP if not scope else _PROOF if not below else _UNDO if below == "undo" else _MUTANT
        if below not in ("", "undo") and not below.startswith("mutant "):
            yield f"line {_line(event)}: no proof has a scope {scope!r}"
        elif kind not in allowed:
            yield f"line {_line(event)}: {scope or 'the run itself'} has no events of the kind {kind!r}"
        elif scope and name != running:
            yield f"line {_line(event)}: an event of {name}, which is not running"
        if kind == "verdict":
            running = ""


def _unique(events: Sequence[Event]) -> Iterator[str]:
    """Some kinds come once a proof or mutant: of two, a reader could take the one and the rules the other."""
    lines: dict[tuple[str, str], int] = {}
    for event in events:
        if event["kind"] == "proof":
            lines = {key: line for key, line in lines.items() if key[0].partition("/")[0] != event["scope"]}
        key = (event["scope"], event["kind"])
        if event["kind"] in _ONCE and key in lines:
            yield f"line {_line(event)}: {event['scope']}: a second {event['kind']!r}, after line {lines[key]}"
        lines.setdefault(key, _line(event))


def _header(begin: Event, events: Sequence[Event]) -> Iterator[str]:
    """The run is of one release, host, boot and unit, and so is everything that it observed."""
    header = begin["data"]
    line = f"line {_line(begin)}"
    digest = header["release_digest"]
    if not (isinstance(digest, str) and digest and str(header["release_name"]).endswith(f"-{digest[:12]}")):
        yield f"{line}: release {header['release_name']!r} is not named by its digest {digest!r}"
    for event in events:
        data = event["data"]
        if event["kind"] == "observed":
            for key in _differing(data["host"], header["host"]):
                yield f"line {_line(event)}: {key} {data['host'].get(key)} is not the run's: {header['host'].get(key)}"
        if event["kind"] == "intent" and isinstance(data, dict) and "before" in data:
            name = event["scope"].partition("/")[0]
            for key, of_run in (("run", header["run"]), ("unit", header["unit"]), ("proof", name)):
                if data[key] != of_run:
                    yield f"line {_line(event)}: the lease is of another {key}: {data[key]}, not {of_run}"
            # The digest covers what redaction left out, so that it can only be compared where nothing was.
            if MARK not in header["cat"] and data["before"]["cat_sha256"] != _sha256(header["cat"]):
                yield f"line {_line(event)}: the unit was another than {line} shows"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _claims(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> Iterator[str]:
    """The claim, bound and fault that a proof announced are the catalogue's."""
    for event in events:
        proof = catalogue.get(event["scope"]) if event["kind"] == "proof" else None
        if proof is None:
            continue
        expected = {"name": proof.name, "claim": proof.claim, "bound": proof.bound, "fault": proof.fault}
        if event["data"] != expected:
            yield f"line {_line(event)}: {proof.name} is not announced as the catalogue has it"


def kind_shown(events: Sequence[Event]) -> str:
    """The kind of host by the commands recorded before the run began: "lab", "nuc"; "" when nothing shows it."""
    commands: dict[str, Event] = {}
    for event in events:
        if event["kind"] == "run":
            break
        if event["kind"] == "command" and event["argv"]:
            commands[event["argv"][0]] = event
    virt, marker = commands.get("systemd-detect-virt"), commands.get("grep")
    if virt is None:
        return ""
    if virt["stdout"].strip() != "systemd-nspawn":
        return "nuc"
    if marker is None or marker["argv"][-2:] != ["^HYBRID_ENGINE_LAB=", "/proc/1/environ"]:
        return ""
    return "lab" if marker["rc"] == 0 else "nuc"
