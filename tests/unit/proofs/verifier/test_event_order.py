"""A recording that no run of proofs writes is denied, also when its chain is whole and its statement agrees with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.verifier import event_order, verify
from proofs.verifier.policy import Requirements
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


def event_of(kind: str, scope: str) -> Edit:
    def edit(events: Events) -> None:
        event = of(events, "measured")
        events.insert(
            events.index(event), copied(event, kind=kind, scope=scope, data={"name": scope, "verdict": "PASS"})
        )

    return edit


def observed_on_another(key: str) -> Edit:
    return lambda events: of(events, "observed")["data"]["host"].update({key: "f" * 32})


def announced_with_another(key: str) -> Edit:
    return lambda events: of(events, "proof")["data"].update({key: "the moon"})


def leased(key: str) -> Edit:
    return lambda events: of(events, "intent")["data"].update({key: "another"})


def another_unit(events: Events) -> None:
    at_both_ends(cat="[Service]\nUser=root\n")(events)


def part_of_another_text(events: Events) -> None:
    """Another digest of the drop-in than of the text that systemctl cat showed."""
    parts = of(events, "run", "")["data"]["unit_parts"]
    at_both_ends(unit_parts=[f"{'f' * 64} {p[65:]}" if p.endswith("40-hardening.conf") else p for p in parts])(events)


def another_authority(events: Events) -> None:
    parts = of(events, "run", "")["data"]["unit_parts"]
    at_both_ends(unit_parts=[f"{'f' * 64} {p[65:]}" if " ca_file " in p else p for p in parts])(events)


def environment(variable: str, at_end: bool = True) -> Edit:
    """Other parts of the environment at the end of the run; none for no variable."""

    def edit(events: Events) -> None:
        header = of(events, "run ended" if at_end else "run", "")["data"]
        rest = [part for part in header["unit_parts"] if " environment " not in part]
        header["unit_parts"] = [*rest, *([f"{'f' * 64} environment {variable}"] if variable else [])]

    return edit


def late_event(events: Events) -> None:
    events.append(copied(of(events, "progress", ""), utc=events[-1]["utc"], mono_ns=events[-1]["mono_ns"]))


def long_wait(events: Events) -> None:
    next(event for event in events if event["kind"] == "waited")["data"]["seconds"] = 100.0


def at_one_instant(events: Events) -> None:
    for event in events:
        event["mono_ns"] = 1
        if event["kind"] == "waited":
            event["data"]["seconds"] = 1.0


def overlapping(events: Events) -> None:
    """toy2 begins while toy runs."""
    event = of(events, "proof", "toy2")
    events.remove(event)
    events.insert(events.index(of(events, "verdict", "toy")), event)


ROWS: list[tuple[str, Edit, str]] = [
    ("no beginning", lambda e: e.remove(of(e, "begun", "")), "does not open with the event of its beginning"),
    ("two beginnings", twice("begun", "", nonce="1"), "does not open with the event of its beginning, or has another"),
    ("begun before a boot", lambda e: of(e, "begun", "")["data"].update(boot_id="f" * 32), "another boot began it"),
    ("two verdicts", twice("verdict", "toy", verdict="FAIL"), "toy: a second 'verdict', after line"),
    ("two verdicts of a mutant", twice("mutant judged", MUTANT, verdict="PASS"), "a second 'mutant judged'"),
    ("two deployed settings", twice("deployed", "toy", watchdog_s=99.0), "a second 'deployed'"),
    ("undone by the timer too", twice("undone", "toy/undo", by="timer", restored=False), "undone by timer beside"),
    ("undone after it", twice("undone", "toy/undo", False, by="ExecStopPost", restored=False), "by ExecStopPost"),
    ("undone twice by itself", twice("undone", "toy/undo", False), "undone by the proof itself beside"),
    ("not observed before", lambda e: e.remove(of(e, "observed")), "not observed before and after"),
    ("not observed after", lambda e: e.remove(of(e, "observed", number=1)), "not observed before and after"),
    ("another boot", observed_on_another("boot_id"), "boot_id ffff"),
    ("another kernel", observed_on_another("kernel"), "kernel ffff"),
    ("another machine", observed_on_another("machine_id"), "machine_id ffff"),
    ("a drop-in of another text", part_of_another_text, "systemctl cat does not show the proven text of /etc/"),
    ("another authority", another_authority, "config check names other files than the unit's parts"),
    ("another environment at the end", environment("HTTPS_PROXY"), "unit_parts is another at the end"),
    ("event after the end", late_event, "after the end of the run"),
    ("undone after the end", lambda e: e.append(copied(of(e, "undone", "toy/undo"))), "after the end of the run"),
    ("no time of the day", lambda e: e[9].update(utc="yesterday"), "line 10: no time of the day: 'yesterday'"),
    ("a time without a zone", lambda e: e[-1].update(utc=e[-1]["utc"][:-1]), "no time of the day"),
    ("from the future", lambda e: e[9].update(utc="2031-01-01T00:00:00.000000Z"), "line 10: its two clocks disagree"),
    ("at one instant", at_one_instant, "1.0 s of waiting in 0.000 s"),
    ("waited longer than it took", long_wait, "100.0 s of waiting in"),
    ("unknown kind", event_of("lie", "toy"), "toy has no events of the kind 'lie'"),
    ("verdict of the run itself", event_of("verdict", ""), "the run itself has no events of the kind 'verdict'"),
    ("verdict of a mutant", event_of("verdict", MUTANT), "toy/mutant no-guard has no events of the kind 'verdict'"),
    ("witness of an undo", event_of("witness", "toy/undo"), "toy/undo has no events of the kind 'witness'"),
    ("unknown scope", event_of("measured", "toy/other"), "no proof has a scope 'toy/other'"),
    ("a mutant without a name", event_of("measured", "toy/mutant "), "no proof has a scope 'toy/mutant '"),
    ("an undo of something", event_of("undone", "toy/undo x"), "no proof has a scope 'toy/undo x'"),
    ("verdict of a copy", event_of("verdict", "toy2/copy second"), "second has no events of the kind 'verdict'"),
    ("a proof never begun", event_of("verdict", "stall"), "an event of stall, which is not running"),
    ("two at once", overlapping, "toy2 begins while toy runs"),
    ("another claim", announced_with_another("claim"), "toy is not announced as the catalogue has it"),
    ("another bound", announced_with_another("bound"), "toy is not announced as the catalogue has it"),
    ("another fault", announced_with_another("fault"), "toy is not announced as the catalogue has it"),
    ("release by another name", at_both_ends(release_name="9.9.9-feed"), "is not named by its digest"),
    ("another unit", another_unit, "the unit was another than line"),
    ("lease of another run", leased("run"), "the lease is of another run: another"),
    ("lease of another unit", leased("unit"), "the lease is of another unit: another"),
]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(("edit", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_wrong_event_order_is_denied(honest: Path, tmp_path: Path, edit: Edit, reason: str) -> None:
    events = events_of(honest)
    edit(events)
    events = rechained(events)
    there = tmp_path / "r1"
    there.mkdir()
    (there / "blobs").symlink_to(honest / "blobs")
    put(there, events)
    reasons = verify.verify(there, Requirements(None, lambda: LIVE)).reasons
    assert any(reason in line for line in reasons), reasons


def test_unproven_kind_of_host_requires_the_proofs_of_every_kind(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REQUIRED, "nuc", ("toy",))
    monkeypatch.setitem(REQUIRED, "lab", ("toy", "stall"))
    events = events_of(honest)
    at_both_ends(kind="nuc")(events)
    (tmp_path / "blobs").symlink_to(honest / "blobs")
    put(tmp_path, rechained(events))
    reasons = verify.verify(tmp_path, Requirements(None, lambda: LIVE)).reasons
    assert {"required: stall was not run", "required: it says that the host is a nuc, and shows a lab"} <= set(reasons)


def test_recorded_order_has_no_problems(honest: Path) -> None:
    events = events_of(honest)
    assert event_order.problems(events, PROOFS) == []
    assert event_order.kind_shown(events) == "lab"


def test_environment_of_a_unit_that_does_not_run_is_not_compared(honest: Path) -> None:
    events = events_of(honest)
    environment("")(events)
    assert event_order.problems(events, PROOFS) == []


@pytest.mark.parametrize(
    ("virt", "marked", "kind"), [("systemd-nspawn", 0, "lab"), ("systemd-nspawn", 1, "nuc"), ("none", 0, "nuc")]
)
def test_kind_of_host_follows_from_the_recorded_commands(honest: Path, virt: str, marked: int, kind: str) -> None:
    events = events_of(honest)
    for event in events:
        if event["argv"][:1] == ["systemd-detect-virt"]:
            event["stdout"] = f"{virt}\n"
        if event["argv"][:1] == ["grep"]:
            event["rc"] = marked
    assert event_order.kind_shown(events) == kind
    assert event_order.kind_shown([event for event in events if event["argv"][:1] != ["systemd-detect-virt"]]) == ""


def test_small_step_of_the_wall_clock_is_accepted(honest: Path) -> None:
    events = events_of(honest)
    for event in events[20:]:
        event["mono_ns"] += 30 * 10**9
    assert event_order.problems(events, PROOFS) == []
