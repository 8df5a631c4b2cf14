"""BUGLOG.md and the files of log/: readable, complete, deterministic, escaped, and what `verify` compares them with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.cli import main
from proofs.report import buglog
from proofs.verifier import verify
from proofs.verifier.policy import Requirements
from tests.support import proof_run
from tests.support.proof_run import LIVE, events_of, rechained

Event = dict[str, Any]
HOSTILE = "x\x1b[2K\r\u202e`*<img src=x>*`|[a](http://b)\n# ALLOW\n```\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = proof_run.record(tmp_path_factory.mktemp("proofs"))
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


@pytest.fixture
def rendered(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the bundle with its pages."""
    shutil.copytree(recorded, tmp_path / "r1")
    buglog.write(tmp_path / "r1")
    return tmp_path / "r1"


def verify_buglog(directory: Path) -> list[str]:
    report = verify.verify(directory, Requirements(None, lambda: LIVE))
    assert set(report.reasons) == {f"buglog: {reason}" for reason in report.steps["buglog"]}
    return report.steps["buglog"]


def test_buglog_shows_each_proof_in_short(rendered: Path) -> None:
    text = (rendered / "BUGLOG.md").read_text()
    for line in (
        "| host | nuc (lab), Debian, machine " + LIVE.machine_id + " |",
        "| toy | **PASS** |  | value 1 | 6 | FAIL | yes |",
        "### toy2",
        "- Fault: two of them",
        "- Bound: value 1",
        "- Mutant **no-guard** (the guard is gone): **FAIL**, caught in 2 of 2: first: value: 0 (bound 1) ([line ",
        "| first | value | 1 | 1 | yes |",
        '| PASS | the first fault | {"state": "T"} |',
        "  $ systemctl kill --signal=STOP hybrid-engine.service",
        "  entry 2999",  # the end of an output that is a blob
        "  [2995 lines]",
        "[log/toy.md](log/toy.md)",
    ):
        assert line in text
    assert len(text.splitlines()) < 150


def test_every_event_is_in_one_log_file_and_can_be_linked_to(rendered: Path) -> None:
    logs = {path.stem: path.read_text() for path in (rendered / "log").iterdir()}
    assert set(logs) == {"run", "toy", "toy2"}
    for event in events_of(rendered):
        name = event["scope"].partition("/")[0] or "run"
        anchor = f'<a id="line-{event["seq"] + 1}"></a>'
        assert [key for key, text in logs.items() if anchor in text] == [name]
        block = logs[name].partition(anchor)[2].partition("<a id=")[0]
        for text in (*event["stdout"].splitlines(), *event["argv"]):
            assert text in block
        for blob in event["blobs"].values():
            assert f"blobs/{blob['sha256']}" in block
    assert "ExecStart=/x\nEnvironment=" in logs["run"]  # the unit as it was deployed
    for target in _links(rendered / "BUGLOG.md"):
        path, _, anchor = target.partition("#")
        assert not anchor or f'<a id="{anchor}"></a>' in (rendered / path).read_text()


def _links(path: Path) -> list[str]:
    parts = path.read_text().split("](")[1:]
    assert len(parts) > 10
    return [part.partition(")")[0] for part in parts]


def test_rendering_is_deterministic(rendered: Path, recorded: Path) -> None:
    before = {path: path.read_bytes() for path in rendered.rglob("*.md")}
    assert len(before) == 4
    assert main(["render", str(rendered)]) == 0
    assert (rendered / "report.html").exists()
    assert {path: path.read_bytes() for path in rendered.rglob("*.md")} == before
    assert buglog.render(recorded, events_of(recorded)) == {
        str(path.relative_to(rendered)): content.decode() for path, content in before.items()
    }


def test_verify_allows_the_pages_of_these_events(rendered: Path) -> None:
    assert verify_buglog(rendered) == []


def _link(path: Path) -> None:
    """Have it outside of the bundle, and a link to it in its place."""
    path.symlink_to(path.rename(path.parents[2] / "elsewhere"))


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda there: (there / "BUGLOG.md").write_text("PASS"), "BUGLOG.md is not what these events render to"),
        (lambda there: (there / "BUGLOG.md").unlink(), "BUGLOG.md cannot be read: No such file"),
        (lambda there: (there / "log" / "toy.md").write_text("# Log"), "log/toy.md is not what these events render to"),
        (lambda there: (there / "log" / "run.md").unlink(), "log/run.md cannot be read: No such file"),
        (lambda there: _link(there / "log" / "toy.md"), "log/toy.md cannot be read"),
        (lambda there: (there / "log" / "stall.md").touch(), "log/stall.md is no page of these events"),
        (lambda there: (there / "log" / "more").mkdir(), "log/more is no page of these events"),
        (lambda there: shutil.rmtree(there / "log"), "log cannot be read: No such file"),
        (lambda there: _link(there / "log"), "log is no folder"),
    ],
    ids=["edited", "missing", "log edited", "log missing", "link", "extra", "folder", "no logs", "linked folder"],
)
def test_verify_denies_pages_of_other_events(rendered: Path, spoil: Callable[[Path], object], reason: str) -> None:
    spoil(rendered)
    assert any(reason in line for line in verify_buglog(rendered))


def hostile(events: list[Event]) -> list[Event]:
    """The events with hostile text wherever a host's text ends up on a page."""
    for event in events:
        data = event["data"]
        if event["kind"] in ("command", "progress"):
            event["stdout"] += HOSTILE
            event["stderr"] += HOSTILE
        if event["kind"] == "case":
            data["fault"] += HOSTILE
        if event["kind"] == "waited":
            data["for"] += HOSTILE
        if event["kind"] == "witness":
            data["state"] += HOSTILE
        if event["kind"] == "run":
            data["host"]["os"] = data["release_name"] = HOSTILE
        if event["kind"] == "observed":
            data["health"] = HOSTILE
        if event["kind"] == "verdict":
            data["reason"] = data["measured"] = data["cases"][0]["checks"][0]["measured"] = HOSTILE
            data["mutant"]["each"][0]["what"] = HOSTILE
    return rechained(events)


@pytest.mark.holds("EVIDENCE")
def test_text_of_the_host_is_shown_and_never_interpreted(recorded: Path) -> None:
    for name, page in buglog.render(recorded, hostile(events_of(recorded))).items():
        assert all(character.isprintable() or character in "\n\t" for character in page), name
        assert "\\x1b" in page
        assert "\\u202e" in page
        fence = ""
        for line in page.splitlines():
            if line.startswith("```"):
                fence = "" if fence == line else fence or line.removesuffix("text")
            elif not fence:
                assert "<img" not in line
                assert not re.search(r"(?<!\\)\]\(http", line)
                assert not line.startswith("# ALLOW")
        assert not fence, f"{name}: a code block is not closed"


def test_scope_that_is_no_file_name_gets_no_file(recorded: Path) -> None:
    events = events_of(recorded)
    for number, scope in enumerate(("../../etc/cron", "/etc", "..", "Toy", "a b", "\x1b")):
        events[number]["scope"] = scope
    assert set(buglog.render(recorded, rechained(events))) == {"BUGLOG.md", "log/run.md", "log/toy.md", "log/toy2.md"}


def test_render_never_writes_through_a_link(rendered: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "toy.md").write_text("mine")
    (rendered / "log" / "toy.md").unlink()
    (rendered / "log" / "toy.md").symlink_to(outside / "toy.md")
    buglog.write(rendered)
    assert (outside / "toy.md").read_text() == "mine"
    shutil.rmtree(rendered / "log")
    (rendered / "log").symlink_to(outside)
    assert main(["render", str(rendered)]) == 2
    assert [path.name for path in outside.iterdir()] == ["toy.md"]


def test_failed_case_is_the_one_that_is_quoted(recorded: Path) -> None:
    events = events_of(recorded)
    for event in events:
        if event["kind"] == "verdict":
            event["data"]["cases"][1].update(verdict="FAIL", reason="value: 0 (bound 1)")
    text = buglog.render(recorded, rechained(events))["BUGLOG.md"]
    assert 'The case "second" in short' in text
    assert "| FAIL: value: 0 (bound 1) | the second fault |" in text


def test_proof_that_was_cut_short_has_its_section(recorded: Path) -> None:
    events = [event for event in events_of(recorded) if (event["kind"], event["scope"]) != ("verdict", "toy2")]
    text = buglog.render(recorded, rechained(events))["BUGLOG.md"]
    assert "| toy2 | **ERROR** |" in text
    assert "**ERROR**: the proof did not live to its verdict." in text


def test_soak_has_its_last_decision_in_short(recorded: Path) -> None:
    events = [{**event, "scope": event["scope"].replace("toy2", "soak")} for event in events_of(recorded)]
    for event in events:
        if event["kind"] in ("proof", "verdict") and event["scope"] == "soak":
            event["data"]["name"] = "soak"
    measured = next(event for event in events if event["kind"] == "measured" and event["scope"] == "soak")
    decision = {"action": "COMPLETE", "reason": "its time is over", "psi": {}}
    events.insert(events.index(measured), {**measured, "kind": "decision", "data": decision})
    pages = buglog.render(recorded, rechained(events))
    assert '  action="COMPLETE"  reason="its time is over"  psi=...' in pages["BUGLOG.md"]
    assert "· soak · decision" in pages["log/soak.md"]


def test_missing_blob_is_reported_and_no_page_is_compared(rendered: Path) -> None:
    next((rendered / "blobs").iterdir()).unlink()
    report = verify.verify(rendered, Requirements(None, lambda: LIVE))
    assert any(reason.startswith("buglog: it cannot be compared: blobs/") for reason in report.reasons)
    assert main(["render", str(rendered)]) == 2


def test_health_is_summarised() -> None:
    report = '{"healthy": false, "checks": [{"name": "unit", "ok": true}, {"name": "frames", "ok": false}]}'
    assert buglog.health(report) == "not healthy: 1 of 2 checks, not frames"
    assert buglog.health("not asked: inactive") == "not asked: inactive"
    assert buglog.health("[" * 100_000)[:3] == "[[["
