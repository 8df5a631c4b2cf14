"""The course of a run, looked up in its events: one subject on one host in one boot, each thing said once and in its
place, by clocks that agree. What breaks it was not written by a run of proofs, whatever its chain says."""

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
# A host that is put right by its time server in the middle of a run is no liar; one whose hours differ is.
_STEP_S = 60.0
_ROUNDED_S = 0.002  # what was waited is told in milliseconds, and taken a moment before the event is written
_TOP = {"command", "progress", "run", "run ended"}
_UNDO = {"command", "intent", "waited", "undone"}
_CASES = {
    "answer", "asked", "burners", "case", "command", "copied", "decision", "exchange", "exchange said",
    "exchange stats", "in force", "intent", "judged", "locker", "measured", "measuring", "pressure", "seed",
    "stood elsewhere", "timeline", "waited", "witness",
}  # fmt: skip
_PROOF = _CASES | {"proof", "deployed", "observed", "verdict"}
_MUTANT = _CASES | {"mutant", "patched", "mutant judged"}
_ONCE = ("verdict", "deployed", "mutant", "mutant judged", "in force")


def problems(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> list[str]:
    """What is wrong with it, each with its line. Raises KeyError, TypeError: it has not even the shape of a run."""
    about = [event for event in events if event["kind"] in ("run", "run ended")]
    if [event["kind"] for event in about] != ["run", "run ended"]:
        return [f"not one run from its beginning to its end: {', '.join(e['kind'] for e in about) or 'neither'}"]
    begin, end = about
    found = [f"line {_line(end)}: {key} is another at the end" for key in _differing(begin["data"], end["data"])]
    found += [f"line {_line(event)}: after the end of the run" for event in events[end["seq"] + 1 :][:1]]
    for check in (_clocks, _waits, _places, _once):
        found += list(check(events))
    found += list(_header(begin, events))
    found += list(_told_as(events, catalogue))
    return found


def _line(event: Event) -> int:
    return int(event["seq"]) + 1


def _differing(one: Event, other: Event) -> list[str]:
    keys = sorted(one.keys() | other.keys())
    return [key for key in keys if canonical({"": one.get(key)}) != canonical({"": other.get(key)})]


def _first(found: Iterator[str]) -> Iterator[str]:
    """One line that breaks a rule says it for those after it."""
    yield from list(found)[:1]


def _clocks(events: Sequence[Event]) -> Iterator[str]:
    """Both clocks run on together. Within _STEP_S: the wall clock alone may be set."""

    def odd() -> Iterator[str]:
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
                yield f"line {_line(event)}: its two clocks have gone apart by {booted - began:.0f} s"

    yield from _first(odd())


def _waits(events: Sequence[Event]) -> Iterator[str]:
    """What was waited for so many seconds took so many: by the clock, since what its scope said before."""

    def short() -> Iterator[str]:
        last: dict[str, int] = {}
        for event in events:
            if event["kind"] == "waited":
                told, spent = event["data"]["seconds"], event["mono_ns"] - last.get(event["scope"], event["mono_ns"])
                if isinstance(told, bool) or not isinstance(told, int | float) or told > spent / 1e9 + _ROUNDED_S:
                    yield f"line {_line(event)}: {told!r} s of waiting in {spent / 1e9:.3f} s"
            last[event["scope"]] = event["mono_ns"]

    yield from _first(short())


def _places(events: Sequence[Event]) -> Iterator[str]:
    """Every event is of a kind that its scope has, and of the proof that goes on just then."""
    going = ""
    for event in events:
        kind, scope = event["kind"], event["scope"]
        name, _, below = scope.partition("/")
        if kind == "proof":
            if going or event["data"]["name"] != scope:
                yield f"line {_line(event)}: {scope or 'nobody'} begins while {going or 'another'} goes on"
            going = scope
        allowed = _TOP if not scope else _PROOF if not below else _UNDO if below == "undo" else _MUTANT
        if below not in ("", "undo") and not below.startswith("mutant "):
            yield f"line {_line(event)}: no proof has a scope {scope!r}"
        elif kind not in allowed:
            yield f"line {_line(event)}: {kind!r} is nothing that {scope or 'the run itself'} would say"
        elif scope and name != going:
            yield f"line {_line(event)}: {name} speaks outside of its time"
        if kind == "verdict":
            going = ""


def _once(events: Sequence[Event]) -> Iterator[str]:
    """What is said once a proof or mutant is said once: of two, the reader would take the one, the rules the other."""
    said: dict[tuple[str, str], int] = {}
    for event in events:
        if event["kind"] == "proof":
            said = {key: line for key, line in said.items() if key[0].partition("/")[0] != event["scope"]}
        key = (event["scope"], event["kind"])
        if event["kind"] in _ONCE and key in said:
            yield f"line {_line(event)}: {event['scope']}: a second {event['kind']!r}, after line {said[key]}"
        said.setdefault(key, _line(event))


def _header(begin: Event, events: Sequence[Event]) -> Iterator[str]:
    """The run is of one release, host, boot and unit, and so is all that it looked at."""
    about = begin["data"]
    line = f"line {_line(begin)}"
    digest = about["release_digest"]
    if not (isinstance(digest, str) and digest and str(about["release_name"]).endswith(f"-{digest[:12]}")):
        yield f"{line}: release {about['release_name']!r} is not named by its digest {digest!r}"
    for event in events:
        data = event["data"]
        if event["kind"] == "observed":
            for key in _differing(data["host"], about["host"]):
                yield f"line {_line(event)}: {key} {data['host'].get(key)} is not the run's: {about['host'].get(key)}"
        if event["kind"] == "intent" and isinstance(data, dict) and "before" in data:
            name = event["scope"].partition("/")[0]
            for key, of_run in (("run", about["run"]), ("unit", about["unit"]), ("proof", name)):
                if data[key] != of_run:
                    yield f"line {_line(event)}: the lease is of another {key}: {data[key]}, not {of_run}"
            # What was left out of the recording is in the digest all the same.
            if MARK not in about["cat"] and data["before"]["cat_sha256"] != _sha256(about["cat"]):
                yield f"line {_line(event)}: the unit was another than {line} shows"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _told_as(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> Iterator[str]:
    """What a proof says that it shows is what the catalogue says."""
    for event in events:
        proof = catalogue.get(event["scope"]) if event["kind"] == "proof" else None
        if proof is None:
            continue
        said = {"name": proof.name, "claim": proof.claim, "bound": proof.bound, "fault": proof.fault}
        if event["data"] != said:
            yield f"line {_line(event)}: {proof.name} is not told as the catalogue has it"


def kind_shown(events: Sequence[Event]) -> str:
    """The kind of host by what was recorded of it, before the run began: "lab", "nuc"; "" when nothing shows it."""
    looked: dict[str, Event] = {}
    for event in events:
        if event["kind"] == "run":
            break
        if event["kind"] == "command" and event["argv"]:
            looked[event["argv"][0]] = event
    virt, given = looked.get("systemd-detect-virt"), looked.get("grep")
    if virt is None:
        return ""
    if virt["stdout"].strip() != "systemd-nspawn":
        return "nuc"
    if given is None or given["argv"][-2:] != ["^HYBRID_ENGINE_LAB=", "/proc/1/environ"]:
        return ""
    return "lab" if given["rc"] == 0 else "nuc"
