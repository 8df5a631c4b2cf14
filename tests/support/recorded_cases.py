"""Cases that a lab really recorded, cut to what their figures rest on, for tests/data/proofs:

    python -m tests.support.recorded_cases evidence/HOST/RUN ... > tests/data/proofs/cases.jsonl

An event has only the fields that are read, tables have their first rows alone, and other events and lines are left out
that change no figure; then the figures are those that the outputs come to. So it is no evidence, but what a host
really printed. Of the cases that differ in a name alone (gate) one or two are kept. To be made anew when a proof
records something else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from proofs.catalog import PROOFS
from proofs.evidence import recorder
from proofs.experiment.case import Case, Deployed
from proofs.experiment.trace import Between, Trace

DEPLOYED = Deployed(10.0, 2.0, (0, 0))
RECORDED = Path(__file__).parents[1] / "data" / "proofs" / "cases.jsonl"
Event = dict[str, Any]
Key = tuple[str, str]  # a proof and its case
_FIELDS = ("seq", "mono_ns", "utc", "kind", "scope", "argv", "rc", "stdout", "stderr", "data")
_ROWS = {"rows read": 4, "rows stored": 24, "trades sent": 60}  # lines that are kept of a table
_JOURNAL = ("MESSAGE", "MESSAGE_ID", "UNIT", "UNIT_RESULT", "INVOCATION_ID", "_SYSTEMD_INVOCATION_ID")
_CLOCKS = ("__MONOTONIC_TIMESTAMP", "__REALTIME_TIMESTAMP")
_LONG = ("hardening", "rollback")
_STATE = 20  # lines: what a unit's state has fewer of
# The only cases of a proof that are kept, where they differ in a text or a number.
_KEPT = {
    "exit12": ("invalid TOML", "config check", "control", "exit codes"),
    "gate": ("unarmed", "nothing is wrong"),
    "sampling": ("sample_every 5", "sample_every drawn", "reloads", "replay"),
}


def load(path: Path = RECORDED) -> dict[Key, list[Event]]:
    """The events of each case, by proof and case, from its beginning to what was measured."""
    groups: dict[Key, list[Event]] = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "case":
            key = event["scope"].partition("/")[0], event["data"]["case"]
        groups.setdefault(key, []).append(event)
    return groups


def case_of(key: Key) -> Case:
    return next(case for case in PROOFS[key[0]].cases(DEPLOYED) if case.name == key[1])


def figures(events: list[Event]) -> Event:
    """What was measured and witnessed."""
    recorded = {event["kind"]: event["data"] for event in events if event["kind"] in ("witness", "measured")}
    return {"witness": recorded["witness"], **recorded["measured"]}


def problems(key: Key, events: list[Event]) -> list[str]:
    """Why the verifier denies these events; empty where their figures follow from their outputs."""
    measured = next(event["data"] for event in events if event["kind"] == "measured")
    trace = Trace(events, lambda event: str(event["stdout"]))
    try:
        return case_of(key).untraced(measured, trace, PROOFS[key[0]].host_word)
    except Exception as error:  # noqa: BLE001 - as at the verifier, it denies whatever it is
        return [f"{type(error).__name__}: {error}"]


def again(key: Key, events: list[Event]) -> dict[str, Any] | None:
    """The figures as the outputs come to them; None where they cannot be read again."""
    case, trace = case_of(key), Trace(events, lambda event: str(event["stdout"]))
    of = figures(events)
    witness = of.pop("witness")
    try:
        decoded = _decode_witness(case, witness)
        return {"witness": case.traced_witness(decoded, trace), **case.traced(case.decode(of), trace)}
    except Exception:  # noqa: BLE001
        return None


def _decode_witness(case: Case, witness: Any) -> Any:
    from proofs.experiment.measurements import argument_type, decode, return_type

    kind = argument_type(case.witnessed)
    return decode(return_type(case.witness) if kind is Any else kind, witness)


def _put(figure: Any, value: Any, believed: Iterable[str], path: str = "") -> Any:
    """The figure with what was read again in its place; a Between, and what is believed, stays what was recorded."""
    if isinstance(value, Between):
        return figure
    if isinstance(value, dict) and isinstance(figure, dict):
        below = {name: f"{path}.{name}" if path else name for name in {**value, **figure}}
        stays = [name for name in figure if any(fnmatchcase(below[name], one) for one in believed)]
        again_ = {name: _put(figure.get(name), one, believed, below[name]) for name, one in value.items()}
        return {**{name: figure[name] for name in stays}, **again_}
    if isinstance(value, list) and isinstance(figure, list) and len(value) == len(figure):
        return [_put(one, other, believed, path) for one, other in zip(figure, value, strict=True)]
    return value


def _comparable(value: Any) -> str:
    return json.dumps(value, default=lambda one: [one.least, one.most], sort_keys=True)


def groups_of(folder: Path) -> Iterator[tuple[Key, list[Event]]]:
    """Each case of each proof of a run, without what came after it was measured."""
    groups: dict[str, list[Event]] = {}  # by scope
    for event in recorder.read(folder / recorder.EVENTS):
        scope = event["scope"]
        proof = scope.partition("/")[0]
        if proof not in PROOFS or not recorder.has_cases_of(scope, proof):
            continue
        if event["kind"] == "case":
            groups[scope] = []
        group = groups.setdefault(scope, [])
        for name, reference in event["blobs"].items():
            event[name] = (folder / "blobs" / reference["sha256"]).read_text()
        group.append({name: event[name] for name in _FIELDS})
        if event["kind"] == "measured":
            yield (proof, group[0]["data"]["case"]), groups.pop(scope)


def cut(key: Key, events: list[Event]) -> list[Event]:
    """What its figures rest on."""
    for event in events:
        kind, lines = event["kind"], event["stdout"].splitlines()
        if kind in _ROWS and len(lines) > _ROWS[kind]:
            event["stdout"] = "\n".join(lines[: _ROWS[kind]])
        if event["argv"][:1] == ["journalctl"]:
            event["stdout"], event["argv"] = _journal(lines, event["argv"])
        elif key[0] in _LONG and len(lines) > _STATE:
            event["stdout"] = "\n".join(_shortened(key, event["argv"], lines))
    due = again(key, events)
    assert due is not None, key
    base = _comparable(due)
    for event in list(events):
        rest = [one for one in events if one is not event]
        kept = event["kind"] in ("case", "witness", "measured") or _may_have_an_equal(event)
        if not kept and _comparable(again(key, rest)) == base:
            events = rest
    for event in events:
        whole_state = event["argv"][:2] == ["systemctl", "show"] and event["kind"] == "command" and key[0] not in _LONG
        for line in () if whole_state else event["stdout"].splitlines():
            text = event["stdout"]
            event["stdout"] = "\n".join(one for one in text.splitlines() if one != line)
            if _comparable(again(key, events)) != base:
                event["stdout"] = text
    # What is believed only where a credential was left out follows from outputs here.
    believed = [one for one, why in PROOFS[key[0]].host_word.items() if "credential" not in why]
    whole = _put(figures(events), due, believed)
    for event in events:
        if event["kind"] == "witness":
            event["data"] = whole.pop("witness")
        if event["kind"] == "measured":
            event["data"] = whole
    return events


def _may_have_an_equal(event: Event) -> bool:
    """Whether a figure may be what lies between this output and an equal one, which would stand for both."""
    return bool(event["kind"] == "rows read" or event["argv"][:2] == ["systemctl", "show"])


def _shortened(key: Key, argv: list[str], lines: list[str]) -> list[str]:
    """Of outputs that are long because a unit has many properties and files: a few of each."""
    match argv[:2]:
        case ["systemctl", "show"]:
            words, _few = [line.split() for line in lines], 3 if key[0] == "rollback" else 12
            return [
                " ".join(line[:12]) for line in words if line and (line[0][:2] in ("Sy", "IP") or line in words[:12])
            ]
        case ["systemctl", "cat"]:
            return [line for line in lines if line.startswith(("# /", "["))]
        case ["systemd-analyze", "syscall-filter"]:
            return lines[:60]
    return lines


def _journal(lines: list[str], argv: list[str]) -> tuple[str, list[str]]:
    """The lines of the journal with the fields that are read, under short cursors."""
    mark, entries = argv[-1].removeprefix("--cursor="), []
    for number, line in enumerate(lines, 1):
        raw = json.loads(line)
        cursor = "c0" if raw["__CURSOR"] == mark else f"c{number}"
        entries.append({"__CURSOR": cursor, **{name: raw[name] for name in (*_CLOCKS, *_JOURNAL) if name in raw}})
    return "\n".join(map(json.dumps, entries)), [*argv[:-1], "--cursor=c0"]


if __name__ == "__main__":
    recorded = {key: group for folder in sys.argv[1:] for key, group in groups_of(Path(folder))}
    for key, group in recorded.items():
        if key[1] in _KEPT.get(key[0], (key[1],)):
            for event in cut(key, group):
                print(json.dumps(event, ensure_ascii=False))
