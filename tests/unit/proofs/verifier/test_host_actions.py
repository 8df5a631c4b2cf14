"""A recording whose host actions or mutants were falsified is denied, also when chain and statement agree with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.verifier import host_actions, verify
from proofs.verifier.host_actions import sections
from proofs.verifier.policy import Requirements
from tests.support import proof_run
from tests.support.proof_run import LIVE, events_of, put, rechained

Event = dict[str, Any]
Events = list[Event]
Edit = Callable[[Events], object]
MUTANT = "toy/mutant no-guard"
CONF = "/run/systemd/system/hybrid-proof-mutant-toy-no-guard.service.d/zz-proof.conf"
HARDENING = CONF.replace("zz-proof", "40-hardening")
COPY = "toy2/copy second"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = proof_run.record(tmp_path_factory.mktemp("proofs"))
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


def of(events: Events, kind: str, scope: str = "toy", words: str = "") -> Event:
    return next(
        e for e in events if e["kind"] == kind and e["scope"] == scope and words in " ".join(e["argv"]) + e["stdout"]
    )


def only(kind: str, scope: str = "toy", words: str = "") -> Edit:
    return lambda events: events.remove(of(events, kind, scope, words))


def unannounced(events: Events) -> None:
    for event in [e for e in events if e["kind"] == "intent" and e["argv"]]:
        events.remove(event)


def another_command(events: Events) -> None:
    for kind in ("intent", "command"):
        of(events, kind, words="systemctl kill")["argv"] = ["rm", "-rf", "/etc"]


def another_unit(events: Events) -> None:
    for kind in ("intent", "command"):
        of(events, kind, words="systemctl kill")["argv"][-1] = "ssh.service"


def shows(scope: str, edit: Callable[[str], str]) -> Edit:
    """What was in force, in both places that say it."""

    def change(events: Events) -> None:
        for event in events:
            if event["scope"] == scope and event["kind"] == "in force":
                event["data"]["cat"] = edit(event["data"]["cat"])
            if event["scope"] == scope and event["argv"][:2] == ["systemctl", "cat"]:
                event["stdout"] = edit(event["stdout"])

    return change


def operators_own(events: Events) -> None:
    own = of(events, "in force")["data"]["cat"]
    shows(MUTANT, lambda cat: own)(events)


def made(path: str, edit: Callable[[str], str]) -> Edit:
    """The mutant's file and what was in force of it."""

    def change(events: Events) -> None:
        data = of(events, "intent", MUTANT, "copy hybrid")["data"]
        before, data[path] = data[path].strip("\n"), edit(data[path])
        shows(MUTANT, lambda cat: cat.replace(before, data[path].strip("\n")))(events)

    return change


def patched(**data: str) -> Edit:
    return lambda events: of(events, "patched", MUTANT)["data"].update(data)


def more_than_scratch(events: Events) -> None:
    data = of(events, "intent", "toy", "write /run")["data"]
    data["text"] += "WatchdogSec=1\n"
    shows("toy", lambda cat: cat + "WatchdogSec=1\n")(events)


def of_another_run(events: Events) -> None:
    for scope in ("toy", MUTANT):
        for event in events:
            if event["scope"] == scope:
                event.update(json.loads(json.dumps(event).replace("/r1/toy/", "/r0/toy/")))


def put_back(events: Events) -> None:
    """The copy is made again without what takes the guard out."""
    copy = of(events, "intent", MUTANT, "copy hybrid")
    again = json.loads(json.dumps(copy))
    again["data"][CONF] = again["data"][CONF].replace("WatchdogSec=0\n", "")
    case = of(events, "case", MUTANT)
    events.insert(events.index(case) + 1, {**again, "mono_ns": case["mono_ns"], "utc": case["utc"]})


def copied_with(line: str) -> Edit:
    """The copy that a case runs on has one more line, in every place that says what it is."""

    def change(events: Events) -> None:
        data = of(events, "intent", COPY, "copy hybrid")["data"]
        path = next(path for path in data if path.endswith("/zz-proof.conf"))
        before, data[path] = data[path].strip("\n"), f"{data[path]}{line}\n"
        shows(COPY, lambda cat: cat.replace(before, data[path].strip("\n")))(events)

    return change


def without_case(events: Events) -> None:
    """All of a case on a copy is left out; the verdict is as it was."""
    for event in [event for event in events if event["scope"] == COPY]:
        events.remove(event)


ROWS: list[tuple[str, Edit, str]] = [
    ("commands without intents", unannounced, "toy: done without its intent: systemd-run"),
    ("one without its intent", only("intent", "toy", "systemctl kill"), "done without its intent: systemctl kill"),
    ("announced, no result", only("command", "toy", "systemctl kill"), "announced, but its result is missing"),
    ("undo without a result", only("command", "toy/undo", "daemon-reload"), "toy/undo: "),
    ("a command that no proof gives", another_command, "no command of a proof: rm -rf /etc"),
    ("on another unit", another_unit, "no command of a proof: systemctl kill --signal=STOP ssh.service"),
    ("nothing in force", only("in force"), "toy: what was in force is not what systemctl showed"),
    ("nothing shown", only("command", "toy", "systemctl cat"), "toy: what was in force is not what systemctl showed"),
    ("mutant never in force", only("in force", MUTANT), "no-guard: what was in force is not what systemctl showed"),
    ("more than scratch", more_than_scratch, "not put over the unit's own, or more was"),
    ("another unit in force", shows("toy", lambda cat: cat.replace("/x", "/y")), "toy: in force was another unit"),
    ("the operator's own as mutant", operators_own, "in force was something else than the copy"),
    ("never patched", only("patched", MUTANT), "the release was not patched as the catalogue does it"),
    ("patched otherwise", patched(new="guard = 1"), "the release was not patched as the catalogue does it"),
    ("never copied", only("copied", MUTANT), "it was not changed as the catalogue does it"),
    ("never made", only("intent", MUTANT, "copy hybrid"), "it was not made before it was put in force"),
    ("directive left out", made(CONF, lambda text: text.replace("WatchdogSec=0\n", "")), "it was not changed as"),
    (
        "drop-in left in",
        made(HARDENING, lambda text: "[Service]\nNoNewPrivileges=yes\n"),
        "no copy of the deployed unit",
    ),
    ("guard put back", put_back, "its guard was put back"),
    (
        "mutant of another name",
        lambda e: of(e, "mutant", MUTANT)["data"].update(what="?"),
        "not announced as the catalogue",
    ),
    (
        "a figure that no output has",
        lambda e: of(e, "measured")["data"].update(entries=2999),
        "first: entries is '2999'",
    ),
    ("no output for a figure", only("command", "toy", "--big"), "first: Untraced: there is no output of journalctl -u"),
    (
        "another health",
        lambda e: [o["data"].update(health_rc=1) for o in e if o["kind"] == "observed"],
        "health is not what the health command returned",
    ),
    ("copy with a directive more", copied_with("WatchdogSec=0"), "toy2/copy second: it was not changed as"),
    ("copy of another unit", shows(COPY, lambda cat: cat.replace("/x", "/y")), "copy second: in force was something"),
    ("copy never made", only("intent", COPY, "copy hybrid"), "second: it was not made before it was put in force"),
    ("copy never in force", only("in force", COPY), "second: what was in force is not what systemctl showed"),
    ("patch of a copy", lambda e: of(e, "in force", COPY).update(kind="patched"), "no events of the kind 'patched'"),
    ("no case on the copy", without_case, "toy2: only 1 of its cases were run"),
    (
        "a figure of the copy",
        lambda e: of(e, "measured", COPY)["data"].update(entries=2999),
        "second: entries is '2999'",
    ),
    ("of another run", of_another_run, "not put over the unit's own, or more was"),
]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(("edit", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_falsified_host_actions_are_denied(honest: Path, tmp_path: Path, edit: Edit, reason: str) -> None:
    events = events_of(honest)
    edit(events)
    there = tmp_path / "r1"
    there.mkdir()
    (there / "blobs").symlink_to(honest / "blobs")
    put(there, rechained(events))
    reasons = verify.verify(there, Requirements(None, lambda: LIVE)).reasons
    assert any(reason in line for line in reasons), reasons


@pytest.mark.parametrize(("sources", "wrong"), [(2, False), (1, True), (3, True)])
def test_configured_sources_are_counted(sources: int, wrong: bool) -> None:
    text = "[[source]]\n" * sources
    event = {
        "seq": 1,
        "scope": "x",
        "kind": "intent",
        "stdout": "write /run/x/etc/ws_sources.toml",
        "data": {"text": text},
    }
    assert bool(list(host_actions._sources([event], 2))) is wrong


@pytest.mark.parametrize(("cat", "wrong"), [("WatchdogSec=10\n", False), ("WatchdogSec=5\nWatchdogSec=2\n", True)])
def test_recorded_settings_are_those_of_the_unit(cat: str, wrong: bool) -> None:
    noted = {"seq": 1, "scope": "x", "kind": "deployed", "data": {"watchdog_s": 10.0, "restart_s": 2.0}}
    assert bool(list(host_actions._settings([noted], f"[Service]\n{cat}RestartSec=2s\n"))) is wrong


def test_sections_of_systemctl_cat() -> None:
    shown = "# /etc/a.service\n# a comment\n[Unit]\n\n# /etc/a.service.d/1.conf\n[Service]\nNice=1\n"
    assert sections(shown) == {
        "/etc/a.service": "# a comment\n[Unit]",
        "/etc/a.service.d/1.conf": "[Service]\nNice=1",
    }
