"""Recordings that no run of proofs would have made, each made whole and believed by its statement: all are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.verifier import event_order, verify
from proofs.verifier.policy import Asked
from tests.support import proof_run
from tests.support.proof_run import LIVE, events_of, put, rechained

Event = dict[str, Any]
Events = list[Event]
Edit = Callable[[Events], object]
MUTANT = "toy/mutant no-guard"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = proof_run.record(tmp_path_factory.mktemp("proofs"))
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


def of(events: Events, kind: str, scope: str = "toy", number: int = 0) -> Event:
    return [event for event in events if event["kind"] == kind and event["scope"] == scope][number]


def copied(event: Event, **changes: Any) -> Event:
    return {**json.loads(json.dumps(event)), **changes}


def twice(kind: str, scope: str, before: bool = True, **data: Any) -> Edit:
    """Another of this kind beside it, its data changed."""

    def edit(events: Events) -> None:
        event = of(events, kind, scope)
        events.insert(events.index(event) + (not before), copied(event, data={**event["data"], **data}))

    return edit


def at_both_ends(**header: Any) -> Edit:
    return lambda events: [of(events, kind, "")["data"].update(header) for kind in ("run", "run ended")]


def said_by(kind: str, scope: str) -> Edit:
    def edit(events: Events) -> None:
        event = of(events, "measured")
        events.insert(
            events.index(event), copied(event, kind=kind, scope=scope, data={"name": scope, "verdict": "PASS"})
        )

    return edit


def elsewhere(key: str) -> Edit:
    return lambda events: of(events, "observed")["data"]["host"].update({key: "f" * 32})


def told_otherwise(key: str) -> Edit:
    return lambda events: of(events, "proof")["data"].update({key: "the moon"})


def leased(key: str) -> Edit:
    return lambda events: of(events, "intent")["data"].update({key: "another"})


def another_unit(events: Events) -> None:
    at_both_ends(cat="[Service]\nUser=root\n")(events)


def later_word(events: Events) -> None:
    events.append(copied(of(events, "progress", ""), utc=events[-1]["utc"], mono_ns=events[-1]["mono_ns"]))


def long_wait(events: Events) -> None:
    next(event for event in events if event["kind"] == "waited")["data"]["seconds"] = 100.0


def at_one_instant(events: Events) -> None:
    for event in events:
        event["mono_ns"] = 1
        if event["kind"] == "waited":
            event["data"]["seconds"] = 1.0


def by_hand(events: Events) -> None:
    """A toy2 that begins while toy goes on."""
    event = of(events, "proof", "toy2")
    events.remove(event)
    events.insert(events.index(of(events, "verdict", "toy")), event)


ROWS: list[tuple[str, Edit, str]] = [
    ("two verdicts", twice("verdict", "toy", verdict="FAIL"), "toy: a second 'verdict', after line"),
    ("two words on a mutant", twice("mutant judged", MUTANT, verdict="PASS"), "a second 'mutant judged'"),
    ("promised twice", twice("deployed", "toy", watchdog_s=99.0), "a second 'deployed'"),
    ("undone by the timer too", twice("undone", "toy/undo", by="timer", restored=False), "undone by timer beside"),
    ("undone after it", twice("undone", "toy/undo", False, by="ExecStopPost", restored=False), "by ExecStopPost"),
    ("undone twice by itself", twice("undone", "toy/undo", False), "undone by the proof itself beside"),
    ("not observed before", lambda e: e.remove(of(e, "observed")), "not observed before and after"),
    ("not observed after", lambda e: e.remove(of(e, "observed", number=1)), "not observed before and after"),
    ("another boot", elsewhere("boot_id"), "boot_id ffff"),
    ("another kernel", elsewhere("kernel"), "kernel ffff"),
    ("another machine", elsewhere("machine_id"), "machine_id ffff"),
    ("a word after the end", later_word, "after the end of the run"),
    ("undone after the end", lambda e: e.append(copied(of(e, "undone", "toy/undo"))), "after the end of the run"),
    ("no time of the day", lambda e: e[9].update(utc="yesterday"), "line 10: no time of the day: 'yesterday'"),
    ("a time without a zone", lambda e: e[-1].update(utc=e[-1]["utc"][:-1]), "no time of the day"),
    ("from the future", lambda e: e[9].update(utc="2031-01-01T00:00:00.000000Z"), "line 10: its two clocks have gone"),
    ("at one instant", at_one_instant, "1.0 s of waiting in 0.000 s"),
    ("waited longer than it took", long_wait, "100.0 s of waiting in"),
    ("unknown kind", said_by("lie", "toy"), "'lie' is nothing that toy would say"),
    ("verdict of the run itself", said_by("verdict", ""), "'verdict' is nothing that the run itself would say"),
    ("verdict of a mutant", said_by("verdict", MUTANT), "'verdict' is nothing that toy/mutant"),
    ("witness of an undo", said_by("witness", "toy/undo"), "'witness' is nothing that toy/undo would say"),
    ("unknown scope", said_by("measured", "toy/other"), "no proof has a scope 'toy/other'"),
    ("a proof never begun", said_by("verdict", "stall"), "stall speaks outside of its time"),
    ("two at once", by_hand, "toy2 begins while toy goes on"),
    ("another claim", told_otherwise("claim"), "toy is not told as the catalogue has it"),
    ("another bound", told_otherwise("bound"), "toy is not told as the catalogue has it"),
    ("another fault", told_otherwise("fault"), "toy is not told as the catalogue has it"),
    ("release by another name", at_both_ends(release_name="9.9.9-feed"), "is not named by its digest"),
    ("another unit", another_unit, "the unit was another than line"),
    ("lease of another run", leased("run"), "the lease is of another run: another"),
    ("lease of another unit", leased("unit"), "the lease is of another unit: another"),
]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(("edit", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_course_that_no_run_takes_is_refused(honest: Path, tmp_path: Path, edit: Edit, reason: str) -> None:
    events = events_of(honest)
    edit(events)
    events = rechained(events)
    there = tmp_path / "r1"
    there.mkdir()
    (there / "blobs").symlink_to(honest / "blobs")
    put(there, events)
    said = verify.verify(there, Asked(None, lambda: LIVE)).reasons
    assert any(reason in line for line in said), said


def test_a_kind_that_nothing_shows_has_to_show_what_any_kind_does(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REQUIRED, "nuc", ("toy",))
    monkeypatch.setitem(REQUIRED, "lab", ("toy", "stall"))
    events = events_of(honest)
    at_both_ends(kind="nuc")(events)
    (tmp_path / "blobs").symlink_to(honest / "blobs")
    put(tmp_path, rechained(events))
    said = verify.verify(tmp_path, Asked(None, lambda: LIVE)).reasons
    assert {"required: stall was not run", "required: it says that the host is a nuc, and shows a lab"} <= set(said)


def test_an_honest_course_has_nothing_against_it(honest: Path) -> None:
    events = events_of(honest)
    assert event_order.problems(events, PROOFS) == []
    assert event_order.kind_shown(events) == "lab"


@pytest.mark.parametrize(
    ("virt", "marked", "kind"), [("systemd-nspawn", 0, "lab"), ("systemd-nspawn", 1, "nuc"), ("none", 0, "nuc")]
)
def test_the_kind_of_host_is_what_was_seen_of_it(honest: Path, virt: str, marked: int, kind: str) -> None:
    events = events_of(honest)
    for event in events:
        if event["argv"][:1] == ["systemd-detect-virt"]:
            event["stdout"] = f"{virt}\n"
        if event["argv"][:1] == ["grep"]:
            event["rc"] = marked
    assert event_order.kind_shown(events) == kind
    assert event_order.kind_shown([event for event in events if event["argv"][:1] != ["systemd-detect-virt"]]) == ""


def test_a_clock_that_is_set_by_a_little_is_none_of_a_liar(honest: Path) -> None:
    events = events_of(honest)
    for event in events[20:]:
        event["mono_ns"] += 30 * 10**9
    assert event_order.problems(events, PROOFS) == []
