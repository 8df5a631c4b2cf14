"""A bundle and other answers that a host made up: one line, no terminal escapes, no page but what was meant."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from proofs import cli
from proofs.evidence import host_input
from proofs.evidence import recorder as evidence
from proofs.evidence.host_input import HostInputError
from proofs.evidence.recorder import Recorder
from proofs.host import diagnose
from proofs.host.diagnose import Output
from proofs.report import buglog
from tests.unit.proofs.host.test_diagnose import between

ROOT = Path(__file__).parents[4]
ESCAPE = "\x1b]0;owned\x07"
NO_TICKS = between().replace("@ticks\n100", "@ticks\n0")
UNKNOWN = dict.fromkeys(("git", "cat", "release_digest", "config_digest", "proofs_release"), "")
HEADER: dict[str, Any] = {"run": "r", "unit": "u", "kind": "nuc", "required": [], "required_of_host": []}
HEADER |= {"host": {}, "systemd": "252", "release_name": "n", **UNKNOWN}


def record(folder: Path, *events: dict[str, Any]) -> Path:
    recorder = Recorder(folder / "events.jsonl")
    for event in events:
        recorder.write(**event)
    recorder.close()
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    said = capsys.readouterr()
    return (said.out + said.err).splitlines()


@pytest.mark.parametrize(
    "events",
    [
        [{"kind": "proof", "data": {"name": {}}}],
        [{"kind": "proof", "data": {"name": "stall"}}, {"kind": "verdict", "data": {"name": "stall"}}],
        [{"kind": "proof", "data": None}],
        [{"kind": "run", "data": 5}],
        [{"kind": "run", "data": {**HEADER, "required": 5}}],
        [{"kind": "run", "data": HEADER}, {"kind": "observed", "data": {"when": 1, "health": {}, "psi": []}}],
        [{"kind": "decision", "data": {}}],
    ],
)
def test_events_of_another_shape_are_one_line(
    tmp_path: Path, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, *events)
    assert cli.main(["render", str(tmp_path)]) == 2
    said = lines(capsys)
    assert "cannot render" in said[-1]
    assert all(line.isprintable() for line in said)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "{}", "[]", '{"predicate": NaN}', '{"predicate": {"proofs": 5}}', "9" * 5000, "\ud800", '"\x1b"'],
)
def test_a_statement_of_another_shape_is_one_line(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "statement.json").write_bytes(text.encode(errors="surrogatepass"))
    assert cli.main(["show", str(tmp_path)]) == 2
    (said,) = lines(capsys)
    assert "the statement cannot be read" in said
    assert said.isprintable()


@pytest.mark.parametrize("command", ["show", "render", "diff"])
def test_a_bundle_of_an_earlier_release_is_refused_in_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, {"kind": "run", "data": HEADER})
    predicate = {"proofs": [], "missing": [], "required": [], "verdict": "PASS"}
    former = {"predicateType": "urn:hybrid-engine:proofs:v1", "predicate": predicate}
    (tmp_path / "statement.json").write_text(json.dumps(former))
    assert cli.main([command, *[str(tmp_path)] * (2 if command == "diff" else 1)]) == 2
    (said,) = lines(capsys)
    assert "earlier release" in said
    assert not (tmp_path / "BUGLOG.md").exists()


def test_a_statement_is_shown_without_escapes_and_without_making_every_row_as_wide_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof: dict[str, Any] = {"name": "x" * 100_000, "restored": True, "away_s": 1.0, "bound": "", "measured": ESCAPE}
    proof |= {"verdict": ESCAPE, "reason": f"{ESCAPE}\nrequired: PASS", "mutant": {"verdict": "", "each": []}}
    predicate = {"proofs": [proof], "missing": ["a"] * 100, "required": [], "verdict": "FAIL"}
    (tmp_path / "statement.json").write_text(json.dumps({"predicate": predicate}))
    assert cli.main(["show", str(tmp_path)]) == 1
    said = lines(capsys)
    assert all(line.isprintable() for line in said)
    assert sum(map(len, said)) < 50_000


def test_a_page_has_no_heading_element_or_link_of_the_hosts(tmp_path: Path) -> None:
    text = f"# PASS\n<script>x</script> [a](http://b) ![c](http://d) ```\n{ESCAPE} <= 3"
    header = {**HEADER, "unit": text, "git": text, "host": {"machine_id": text}}
    record(tmp_path, {"kind": "run", "data": header}, {"kind": "intent", "scope": text, "stdout": text})
    pages = buglog.render(tmp_path, evidence.read(tmp_path / "events.jsonl"))
    assert len(pages) >= 2
    for page in pages.values():
        outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", page)
        assert "<script" not in outside
        assert not re.search(r"(?<!\\)\]\(http", outside)
        assert "\n# PASS" not in outside
        assert "\x1b" not in page


def test_a_page_is_written_in_the_place_of_a_link(tmp_path: Path) -> None:
    folder, target = tmp_path / "bundle", tmp_path / "target"
    record(folder, {"kind": "run", "data": HEADER})
    target.write_text("untouched")
    for name in ("BUGLOG.md", "report.html"):
        (folder / name).symlink_to(target)
    assert cli.main(["render", str(folder)]) == 0
    assert target.read_text() == "untouched"


def test_an_event_nested_too_deep_is_a_broken_chain(tmp_path: Path) -> None:
    record(tmp_path, {"kind": "run", "data": HEADER})
    for depth in (500, 900, 980, 2000, 50_000):
        event = json.loads((tmp_path / "events.jsonl").read_text())
        raw = json.dumps(event).replace('"data": {', f'"data": {"[" * depth}{"]" * depth}, "x": {{').encode()
        with pytest.raises(evidence.ChainBroken):
            list(evidence.checked(raw + b"\n"))


def verify_conftest() -> Any:
    spec = importlib.util.spec_from_file_location("verify_conftest", ROOT / "tests/verify/conftest.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_verify_reads_has_its_parts_and_no_escapes() -> None:
    conftest = verify_conftest()
    look: dict[str, Any] = {key: kinds[0]() for key, kinds in conftest.SHAPE.items()}
    assert conftest.parse_state(json.dumps(look | {"journal": [ESCAPE]}))["journal"] == ["\\x1b]0;owned\\x07"]
    assert conftest.parse_state(json.dumps(look | {"dropins": {ESCAPE: "a\nb"}}))["dropins"] == {
        "\\x1b]0;owned\\x07": "a\nb"
    }
    wrongs: list[Any] = [[], {}, look | {"more": 1}, look | {"unit": []}, look | {"history": [5]}]
    wrongs += [look | {"history": [{"when": 5, "line": 1}]}, look | {"drift": [["rule"]]}]
    for wrong in wrongs:
        with pytest.raises(HostInputError):
            conftest.parse_state(json.dumps(wrong))
    for text in ("", "x", "[" * 100_000, json.dumps(look)[:-1], "9" * 5000, " " * (conftest.STATE_BYTES + 1)):
        with pytest.raises(HostInputError):
            conftest.parse_state(text)


@pytest.mark.parametrize("text", [NO_TICKS, "Environment='x", ESCAPE])
def test_a_diagnosis_of_anything_is_a_diagnosis(text: str) -> None:
    report, missing = diagnose.report(lambda *_: Output(0, text), lambda _: None, "nuc1")
    assert "\x1b" not in report
    assert all(entry.isprintable() for entry in missing)


def test_a_look_is_cut_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "SHOWN_CHARACTERS", 1000)
    report, missing = diagnose.report(lambda *_: Output(3, "x" * 5000), lambda _: None, "nuc1")
    assert len(report) < 5000 * len(missing)
    assert "uname -a: all but the first 1000 of 5000 characters" in missing


def test_what_a_look_said_last_is_told_without_escapes() -> None:
    _, missing = diagnose.report(lambda *_: Output(3, f"{ESCAPE}\u202e"), lambda _: None, "nuc1")
    assert missing
    assert all(entry.isprintable() for entry in missing)


def test_blobs_and_constants_belong_together() -> None:
    from proofs.evidence import blobs, statement

    names = (evidence.EVENTS, statement.STATEMENT, blobs.FOLDER)
    assert names == (host_input.EVENTS, host_input.STATEMENT, host_input.BLOBS)
    assert len(hashlib.sha256(b"").hexdigest()) == 64
