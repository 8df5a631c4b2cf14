"""Each figure of each case: read again from raw outputs, or named as taken on the host's word.

The cases are what a lab recorded (tests/support/recorded_cases.py). Every figure is forged over honest outputs, and
every output is changed under honest figures; each time the verifier has to deny.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS
from proofs.experiment import trace
from proofs.host.unit import UNIT_STARTED, entries_of
from proofs.verifier.verify import JUDGED
from tests.support.recorded_cases import DEPLOYED, Event, Key, figures, load, problems

CASES = load()
ENTRIES_OF = lru_cache(entries_of)
# Cases that differ in a text or a number: one of each kind is recorded.
KINDS = {"exit12": "BadConfig", "gate": "Live", "sampling": "Sampling"}
# What the catalogue fixes: no output is under it, and it is denied all the same where it is another.
FIXED = {"n", "seen_bound_s", "gap_kind"}
# Taken on the host's word only where a credential was left out of the recording, and here none was.
ONLY_REDACTED = {("rollback", "cat_sha256"), ("rollback", "drop_ins.*")}
_FIRST_ROWS = "the recording has the first rows of a table alone, so that it is what a change would make of it already"
_LOOKED_UP = "the other outputs are looked up by it, and that they are missing denies first"
_TWO_OUTPUTS = "two outputs have to say the same of it, and that one says something else denies first"
# Figures that the changes below do not reach: by proof, case and figure (patterns), why not.
UNREACHED = {
    ("exit12", "exit codes", "rules.*"): _TWO_OUTPUTS,
    ("exit12", "exit codes", "witness.rules.*"): _TWO_OUTPUTS,
    ("stall", "each stage", "witness.*.unit"): _LOOKED_UP,
    ("sampling", "*", "ids_match"): _FIRST_ROWS,
    ("sampling", "sample_every drawn", "rows.sources.mock.missing"): _FIRST_ROWS,
    ("sampling", "*", "holes"): _FIRST_ROWS,
    ("sampling", "reloads", "witness.reloads"): _LOOKED_UP,
    ("crash", "SIGKILL", "kept"): _FIRST_ROWS,
    ("overload", "short lock", "books.id"): _LOOKED_UP,
    ("overload", "short lock", "newest_kept"): _FIRST_ROWS,
    ("storage", "full disk", "witness.last"): _LOOKED_UP,
    ("storage", "retention", "due.*"): _FIRST_ROWS,
    ("storage", "retention", "witness.old"): _FIRST_ROWS,
    **{("shadow", "risk caps", name): _FIRST_ROWS for name in ("vetoed", "reducing", "forced")},
    ("gate", "unarmed", "watched_s"): "the catalogue has another case watched, and this one not",
    ("pressure", "CPU", "ids_match"): _FIRST_ROWS,
}
Path_ = tuple[str | int, ...]


@pytest.fixture(autouse=True)
def parse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of recordings that differ in one output, all the others are read."""
    monkeypatch.setattr(trace, "entries_of", ENTRIES_OF)


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every figure that is no list or object of others, and where it stands."""
    if isinstance(value, dict) and value:
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list) and value:
        for number, one in enumerate(value):
            yield from leaves(one, (*path, number))
    else:
        yield path, value


def another(value: Any) -> Any:
    """A figure of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value + 10
    if isinstance(value, int):
        return value + (10_000 if abs(value) > 10**9 else 1)
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1") if re.fullmatch("[0-9a-f]{32,}", value) else f"{value}x"
    return {None: 1}.get(value, 1) if value is None else [1] if value == [] else {"x": 1}


def put(whole: Any, path: Path_, value: Any) -> None:
    for step in path[:-1]:
        whole = whole[step]
    whole[path[-1]] = value


def dotted(path: Path_) -> str:
    return ".".join(map(str, path))


def is_on_the_list(proof: str, path: Path_) -> bool:
    ends = range(1, len(path) + 1)
    return any(fnmatchcase(dotted(path[:end]), one) for end in ends for one in PROOFS[proof].host_word)


def forged(events: list[Event], path: Path_, value: Any) -> list[Event]:
    kind, inner = ("witness", path[1:]) if path[0] == "witness" else ("measured", path)
    number = next(number for number, event in enumerate(events) if event["kind"] == kind)
    event = copy.deepcopy(events[number])
    put(event, ("data", *inner), value)
    return [*events[:number], event, *events[number + 1 :]]


def kinds_not_recorded() -> dict[str, tuple[str, ...]]:
    """By proof, the cases or kinds of cases that no recording has."""
    result: dict[str, tuple[str, ...]] = {}
    for name, proof in PROOFS.items():
        each = [(case.name, type(case).__name__) for case in proof.cases(DEPLOYED)]
        named = [(case, kind if kind == KINDS.get(name) else case) for case, kind in each]
        there = {kind for case, kind in named if (name, case) in CASES}
        result[name] = tuple(dict.fromkeys(kind for _, kind in named if kind not in there))
    return {name: every for name, every in result.items() if every}


def test_each_kind_of_case_is_recorded() -> None:
    assert kinds_not_recorded() == {}


@pytest.mark.parametrize("key", CASES, ids=": ".join)
def test_recorded_figures_follow_from_outputs(key: Key) -> None:
    assert problems(key, CASES[key]) == []


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("key", CASES, ids=": ".join)
def test_forged_figure_is_denied_or_on_the_list(key: Key) -> None:
    believed = []
    for path, value in leaves(figures(CASES[key])):
        denied = problems(key, forged(CASES[key], path, another(value)))
        if not denied and not is_on_the_list(key[0], path):
            believed.append(dotted(path))
    assert believed == []


@pytest.mark.parametrize("proof", [name for name, proof in PROOFS.items() if proof.host_word])
def test_list_has_no_figure_that_outputs_show(proof: str) -> None:
    patterns = {one for one in PROOFS[proof].host_word if (proof, one) not in ONLY_REDACTED}
    seen, shown = set(), set()
    for key, events in CASES.items():
        for path, value in leaves(figures(events)) if key[0] == proof else ():
            own = {one for one in patterns for end in range(1, len(path) + 1) if fnmatchcase(dotted(path[:end]), one)}
            seen |= own
            if own and any(
                text.startswith(dotted(path)) for text in problems(key, forged(events, path, another(value)))
            ):
                shown |= own
    assert shown == set()
    assert seen == patterns


# What no change of a line makes of honest outputs, as there is nothing of the kind in them.
PLANTED = (
    "FAILED tests/verify/test_x.py::test_y",
    "PAMName=login",
    "SystemCallFilter=x",
    "/x/memory.max:max",
    'ingest_mode = "REAL_WS"\nurl = "wss://',
    '{"id": 1}',
    "/proc/7/net/tcp:  sl\n/proc/7/net/tcp:   0: 0100007F:1F90",
    "/proc/7/task/8/children:9",
    "NRestarts=7",
    f"InvocationID={'0' * 32}",
    "WATCHDOG_USEC=7",
    '{"kind": "stop", "count": 1}',
)
# Fields of an entry of the journal.
ENTRIES = (
    {"MESSAGE": "hybrid-engine.service: Main process exited, code=killed, status=11/SEGV"},
    {"MESSAGE": '{"fields": {"message": "ready"}}'},
    {"MESSAGE_ID": UNIT_STARTED},
)


def changes(event: Event) -> Iterator[Event]:
    """The event with its raw output changed in one place each time, with another moment, failed, and left out."""
    if event["kind"] in ("case", "witness", "measured"):
        return
    yield {**event, "kind": "left out"}
    for moved in (10**11, -(10**11)):
        yield {**event, "mono_ns": event["mono_ns"] + moved}
    if event["rc"] is not None:
        yield {**event, "rc": event["rc"] + 1}
    yield {**event, "argv": [re.sub(r"\d+", lambda match: str(int(match[0]) + 1), word) for word in event["argv"]]}
    lines = event["stdout"].splitlines()
    for line in PLANTED if event["kind"] not in ("intent", "waited") else ():
        yield {**event, "stdout": "\n".join([*lines, line])}
    for planted in ENTRIES if event["argv"][:1] == ["journalctl"] and lines else ():
        yield {**event, "stdout": "\n".join([*lines, json.dumps({**json.loads(lines[-1]), **planted})])}
    for number, line in enumerate(lines):
        for other in changed_lines(line):
            yield {**event, "stdout": "\n".join([*lines[:number], *other, *lines[number + 1 :]])}
    errors = event["stderr"].splitlines()
    for number, line in enumerate(errors):
        for other in changed_lines(line):
            yield {**event, "stderr": "\n".join([*errors[:number], *other, *errors[number + 1 :]])}
    for path, value in leaves(event["data"]) if event["data"] else ():
        data = copy.deepcopy(event["data"])
        put(data, path, another(value))
        yield {**event, "data": data}


def changed_lines(line: str) -> Iterator[list[str]]:
    yield []
    yield [line, line]
    try:
        row = json.loads(line)
    except ValueError:
        yield [re.sub(r"\d+", lambda match: str(int(match[0]) + 1), line)]
        yield [f"{line}x"]
        for word in {*re.findall(r"[A-Za-z]{2,}", line)}:
            yield [line.replace(word, f"{word}x")]
        return
    for path, value in leaves(row):
        other = copy.deepcopy(row)
        put(other, path, another(value))
        yield [json.dumps(other)]
        if isinstance(value, str) and path[-1:] == ("MESSAGE",):  # an engine's line is JSON in JSON
            for message in changed_lines(value):
                yield [json.dumps({**row, "MESSAGE": "".join(message)})]
        if isinstance(value, str) and value.isdigit():
            put(other, path, str(int(value) + 10**9))
            yield [json.dumps(other)]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("key", CASES, ids=": ".join)
def test_changed_output_is_denied_by_each_figure_on_it(key: Key) -> None:
    """A figure that stays right whatever the outputs say was read from none of them."""
    events = CASES[key]
    due = {dotted(path) for path, _ in leaves(figures(events)) if not is_on_the_list(key[0], path)}
    due -= {path for path in due if path.rpartition(".")[2] in FIXED}
    due -= {path for path in due if any(all(map(fnmatchcase, (*key, path), one)) for one in UNREACHED)}
    for number, event in enumerate(events):
        for changed in changes(event):
            if not due:
                return
            named = [
                text.partition(" is ")[0] for text in problems(key, [*events[:number], changed, *events[number + 1 :]])
            ]
            due = {
                path
                for path in due
                if not any(f"{path}.".startswith(f"{one}.") or one.startswith(f"{path}.") for one in named)
            }
    assert due == set()


def test_page_names_what_is_taken_on_the_hosts_word() -> None:
    page = (Path(__file__).parents[4] / "docs" / "evidence.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (`.+`) \| (.+) \|$", page, re.M)
    named = [(name, figure, why) for name, figures, why in rows for figure in re.findall(r"`([^`]+)`", figures)]
    assert named == [(name, figure, why) for name, proof in JUDGED.items() for figure, why in proof.host_word.items()]
