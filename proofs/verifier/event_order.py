"""Check that the events of a recording come in the order in which a run of proofs writes them.

One release on one host in one boot, each event of a kind that its scope has, the unique ones once, by clocks that
agree. A recording that breaks these rules was not written by a run of proofs, whatever its hash chain says.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from proofs.evidence import unit_parts
from proofs.evidence.recorder import Event, canonical, line_number
from proofs.evidence.redaction import MARK
from proofs.experiment.case import Proof

Problem = tuple[Event, str]
_UTC = "%Y-%m-%dT%H:%M:%S.%fZ"
_STEP_S = 60.0  # how far a time server may set the wall clock during a run
_ROUNDED_S = 0.002  # a wait is recorded in milliseconds, and measured a moment before its event is written
_TOP = {"begun", "command", "progress", "run", "run ended"}
_UNDO = {"command", "intent", "waited", "undone"}
_CASES = {"case", "copied", "in force", "judged", "measured", "measuring", "stood elsewhere", "timeline", "witness"}
_CASES |= {"answer", "asked", "burners", "decision", "exchange", "exchange said", "exchange stats", "locker"}
_CASES |= {"command", "intent", "pressure", "rows read", "rows stored", "seed", "stopped threads", "trades sent"}
_CASES |= {"waited"}
_PROOF = _CASES | {"proof", "deployed", "observed", "verdict"}
_MUTANT = _CASES | {"mutant", "patched", "mutant judged"}
_BELOW = {"": _PROOF, "undo": _UNDO, "mutant": _MUTANT, "copy": _CASES}
_ONCE = ("verdict", "deployed", "mutant", "mutant judged", "in force")


def problems(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> list[str]:
    """What is wrong with this order, by line of events.jsonl. Raises KeyError, TypeError: it is no run at all."""
    about = [event for event in events if event["kind"] in ("run", "run ended")]
    if [event["kind"] for event in about] != ["run", "run ended"]:
        return [f"not one run from its beginning to its end: {', '.join(e['kind'] for e in about) or 'neither'}"]
    begin, end = about
    if [event for event in events if event["kind"] == "begun"] != events[:1]:
        return ["the recording does not open with the event of its beginning, or has another one"]
    result = (
        [] if events[0]["data"]["boot_id"] == begin["data"]["host"]["boot_id"] else [(begin, "another boot began it")]
    )
    result += [(end, f"{key} is another at the end") for key in _differing(*_comparable(begin["data"], end["data"]))]
    result += [(event, "after the end of the run") for event in events[end["seq"] + 1 :][:1]]
    result += [*islice(_clocks(events), 1), *islice(_waits(events), 1)]  # those after the first follow from it
    result += [
        *_scopes(events),
        *_unique(events),
        *_header(begin, events),
        *_unit(begin, events),
        *_claims(events, catalogue),
    ]
    return [f"line {line_number(event)}: {problem}" for event, problem in result]


def _comparable(one: Event, other: Event) -> list[Event]:
    """Two headers, without the environment where only one was written while the unit ran."""
    headers = []
    for header in (one, other):
        parts = header["unit_parts"]
        rest = [part for part in parts if part.split(" ", 2)[1] != unit_parts.ENVIRONMENT]
        headers.append((len(rest) < len(parts), header, {**header, "unit_parts": rest}))
    same = headers[0][0] == headers[1][0]
    return [whole if same else bare for _, whole, bare in headers]


def _differing(one: Event, other: Event) -> list[str]:
    keys = sorted(one.keys() | other.keys())
    return [key for key in keys if canonical({"": one.get(key)}) != canonical({"": other.get(key)})]


def _clocks(events: Sequence[Event]) -> Iterator[Problem]:
    """The monotonic clock never goes back, and the wall clock keeps up with it to within _STEP_S."""
    began: float | None = None
    before = events[0]["mono_ns"]
    for event in events:
        if event["mono_ns"] < before:
            yield event, "the clock goes backwards"
        before = event["mono_ns"]
        try:
            moment = datetime.strptime(event["utc"], _UTC).replace(tzinfo=UTC).timestamp()
        except ValueError:
            yield event, f"no time of the day: {event['utc'][:40]!r}"
            continue
        booted = moment - event["mono_ns"] / 1e9
        began = booted if began is None else began
        if abs(booted - began) > _STEP_S:
            yield event, f"its two clocks disagree by {booted - began:.0f} s"


def _waits(events: Sequence[Event]) -> Iterator[Problem]:
    """No wait is longer than the time since the event before it in its scope."""
    last: dict[str, int] = {}
    for event in events:
        if event["kind"] == "waited":
            seconds = event["data"]["seconds"]
            spent_s = (event["mono_ns"] - last.get(event["scope"], event["mono_ns"])) / 1e9
            if type(seconds) not in (int, float) or seconds > spent_s + _ROUNDED_S:
                yield event, f"{seconds!r} s of waiting in {spent_s:.3f} s"
        last[event["scope"]] = event["mono_ns"]


def _scopes(events: Sequence[Event]) -> Iterator[Problem]:
    """Every event is of a kind that its scope has, and belongs to the proof that is running."""
    running = ""
    for event in events:
        kind, scope = event["kind"], event["scope"]
        name, _, below = scope.partition("/")
        what, blank, which = below.partition(" ")
        if kind == "proof":
            if running or event["data"]["name"] != scope:
                yield event, f"{scope or 'a proof'} begins while {running or 'another'} runs"
            running = scope
        if what not in _BELOW or bool(which) != (what in ("mutant", "copy")) or bool(blank) != bool(which):
            yield event, f"no proof has a scope {scope!r}"
        elif kind not in (_BELOW[what] if scope else _TOP):
            yield event, f"{scope or 'the run itself'} has no events of the kind {kind!r}"
        elif scope and name != running:
            yield event, f"an event of {name}, which is not running"
        if kind == "verdict":
            running = ""


def _unique(events: Sequence[Event]) -> Iterator[Problem]:
    """Some kinds come once a proof or mutant: of two, a reader could take the one and the rules the other."""
    lines: dict[tuple[str, str], int] = {}
    for event in events:
        if event["kind"] == "proof":
            lines = {key: line for key, line in lines.items() if key[0].partition("/")[0] != event["scope"]}
        key = (event["scope"], event["kind"])
        if event["kind"] in _ONCE and key in lines:
            yield event, f"{event['scope']}: a second {event['kind']!r}, after line {lines[key]}"
        lines.setdefault(key, line_number(event))


def _header(begin: Event, events: Sequence[Event]) -> Iterator[Problem]:
    """The run is of one release, host, boot and unit, and so is everything that it observed."""
    header = begin["data"]
    digest = header["release_digest"]
    if not (isinstance(digest, str) and digest and str(header["release_name"]).endswith(f"-{digest[:12]}")):
        yield begin, f"release {header['release_name']!r} is not named by its digest {digest!r}"
    for event in events:
        data = event["data"]
        if event["kind"] == "observed":
            for key in _differing(data["host"], header["host"]):
                yield event, f"{key} {data['host'].get(key)} is not the run's: {header['host'].get(key)}"
        if event["kind"] == "intent" and isinstance(data, dict) and "before" in data:
            name = event["scope"].partition("/")[0]
            for key, of_run in (("run", header["run"]), ("unit", header["unit"]), ("proof", name)):
                if data[key] != of_run:
                    yield event, f"the lease is of another {key}: {data[key]}, not {of_run}"
            # The digest covers what redaction left out, so that it can only be compared where nothing was.
            cat_sha256 = hashlib.sha256(header["cat"].encode()).hexdigest()
            if MARK not in header["cat"] and data["before"]["cat_sha256"] != cat_sha256:
                yield event, f"the unit was another than line {line_number(begin)} shows"


def _unit(begin: Event, events: Sequence[Event]) -> Iterator[Problem]:
    """The parts of the unit are what the recorded texts and outputs hold; only its environment is the host's word."""
    parts = {tuple(part.split(" ", 2)) for part in begin["data"]["unit_parts"]}
    paths = [name for _, kind, name in parts if kind == unit_parts.FILE]
    if not paths:
        yield begin, "the unit has no files"
    cat = re.split(rf"^# ({'|'.join(map(re.escape, paths))})$", begin["data"]["cat"], flags=re.MULTILINE)
    texts = dict(zip(cat[1::2], cat[2::2], strict=True))
    for sha256, kind, name in sorted(parts):
        if kind != unit_parts.FILE:
            continue
        shown = unit_parts.of_file(name, texts[name].encode()) if name in texts else ""
        # The digest covers what redaction left out, so that it can only be compared where nothing was.
        if not shown or (MARK not in texts[name] and not shown.startswith(sha256)):
            yield begin, f"systemctl cat does not show the proven text of {name}"
    checks = [event for event in events[: begin["seq"]] if event["argv"][-2:] == ["config", "check"]]
    named = set(unit_parts.of_config(checks[-1]["stdout"])) if checks else set()
    if named != {" ".join(part) for part in parts if part[1] not in (unit_parts.FILE, unit_parts.ENVIRONMENT)}:
        yield begin, "config check names other files than the unit's parts"


def _claims(events: Sequence[Event], catalogue: Mapping[str, Proof]) -> Iterator[Problem]:
    """The claim, bound and fault that a proof announced are the catalogue's."""
    for event in events:
        if event["kind"] != "proof" or not (proof := catalogue.get(event["scope"])):
            continue
        expected = {"name": proof.name, "claim": proof.claim, "bound": proof.bound, "fault": proof.fault}
        if event["data"] != expected:
            yield event, f"{proof.name} is not announced as the catalogue has it"


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
