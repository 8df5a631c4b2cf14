"""What a recording amounts to: the statement, the page for people, and what a run that was cut short says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proofs.cli import main
from proofs.evidence import statement as bundle
from proofs.evidence.recorder import EVENTS, Recorder, read
from proofs.report import buglog
from proofs.verdict import Verdict

HEADER = {
    "run": "r1",
    "unit": "hybrid-engine.service",
    "kind": "lab",
    "required": ["exit12", "stall"],
    "git": "abc",
    "host": {"hostname": "nuc", "os": "Debian", "kernel": "6.1", "boot_id": "b", "machine_id": "m"},
    "cat": "[Unit]",
    "systemd": "systemd 252",
    "release_name": "0.1.0-aa",
    "release_digest": "aa",
    "config_digest": "bb",
    "proofs_release": "0.1.0-cc",
}
OBSERVED = {"health": "healthy", "health_rc": 0, "psi": {"cpu": "some avg10=1.00\nfull avg10=0.00"}, "host": {}}


def entry(name: str, verdict: Verdict) -> dict[str, Any]:
    check = {"name": "state | of it", "measured": "failed", "bound": "failed", "ok": True, "guard": True}
    case = {
        "case": "invalid TOML",
        "verdict": str(verdict),
        "reason": "",
        "checks": [check],
        "witness": {"a": 1},
        "n": 1,
    }
    mutant = {"name": "m", "what": "no guard", "verdict": "FAIL", "reason": "caught", "cases": [case]}
    return {
        "name": name,
        "verdict": str(verdict),
        "reason": "",
        "measured": "4 of 4",
        "bound": "4",
        "n": 4,
        "witness": {"x": 1},
        "restored": True,
        "away_s": 1.25,
        "mutant": {"verdict": "FAIL", "each": [mutant]},
        "cases": [case],
    }


def record(folder: Path, verdicts: dict[str, Verdict | None]) -> Path:
    recorder = Recorder(folder / EVENTS)
    recorder.write("run", data=HEADER)
    for name, verdict in verdicts.items():
        recorder.write("proof", scope=name, data={"name": name})
        recorder.write("observed", scope=name, data={"when": "before", **OBSERVED})
        recorder.intent("", scope=name, argv=["systemctl", "daemon-reload"])
        recorder.write("command", scope=name, argv=["echo", "```"], rc=0, stdout="```\nfence\n")
        recorder.write("waited", scope=name, data={"for": "x", "seconds": 1, "tries": 2, "came": False})
        never = {"verb": "assert_never", "for": "a restart", "seconds": 6, "tries": 25, "came": False}
        recorder.write("waited", scope=name, data=never)
        if verdict:
            recorder.write("observed", scope=name, data={"when": "after", **OBSERVED})
            recorder.write("verdict", scope=name, data=entry(name, verdict))
        else:
            recorder.write("undone", scope=f"{name}/undo", data={"restored": True, "away_s": 2.0})
    recorder.close()
    return folder


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ({"exit12": Verdict.PASS, "stall": Verdict.PASS}, "PASS"),
        ({"exit12": Verdict.PASS, "stall": Verdict.FAIL}, "FAIL"),
        ({"exit12": Verdict.PASS, "stall": Verdict.INCONCLUSIVE}, "INCONCLUSIVE"),
        ({"exit12": Verdict.PASS, "stall": Verdict.NOT_APPLICABLE}, "NOT APPLICABLE"),
        ({"exit12": Verdict.PASS, "stall": None}, "ERROR"),
        ({"exit12": Verdict.PASS}, "INCONCLUSIVE"),
        ({}, "INCONCLUSIVE"),
    ],
    ids=[
        "all",
        "one failed",
        "one could not tell",
        "one not applicable",
        "one was cut short",
        "one is missing",
        "none",
    ],
)
def test_run_passes_only_with_every_required_proof(
    tmp_path: Path, verdicts: dict[str, Verdict | None], whole: str
) -> None:
    statement = bundle.write(record(tmp_path, verdicts))
    assert statement["predicate"]["verdict"] == whole
    assert json.loads((tmp_path / bundle.STATEMENT).read_text()) == statement
    assert (main(["show", str(tmp_path)]) == 0) == (whole == "PASS")


def test_proof_without_verdict_is_an_error(tmp_path: Path) -> None:
    statement = bundle.write(record(tmp_path, {"stall": None}))
    (proof,) = statement["predicate"]["proofs"]
    assert (proof["verdict"], proof["restored"], proof["away_s"]) == ("ERROR", True, 2.0)


def test_render_writes_verdicts_and_commands(tmp_path: Path) -> None:
    record(tmp_path, {"exit12": Verdict.PASS, "stall": None})
    assert main(["render", str(tmp_path)]) == 0
    page = (tmp_path / buglog.BUGLOG).read_text()
    assert "| exit12 | **PASS** | 4 of 4 | 4 | 4 | FAIL | yes | 1.2 s |" in page
    assert "| stall | **ERROR** |" in page
    assert "state \\| of it" in page
    log = (tmp_path / "log" / "exit12.md").read_text()
    assert "$ systemctl daemon-reload" in log
    assert "````text\n$ echo '```'\n```\nfence\n````" in log
    assert "waited 1 s (2 tries) for x: it did not come" in log
    assert "watched 6 s (25 tries) that a restart does not happen: it did not" in log


def test_broken_recording_is_not_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, {"exit12": Verdict.FAIL}) / EVENTS
    path.write_text(path.read_text().replace('"FAIL"', '"PASS"', 1))
    assert main(["render", str(tmp_path)]) == 2
    assert "cannot render: ChainBroken: line " in capsys.readouterr().err
    assert not (tmp_path / buglog.BUGLOG).exists()


def test_show_says_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(tmp_path)]) == 2
    assert "the statement cannot be read" in capsys.readouterr().err


def test_list_describes_each_proof(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for word in ("exit12  (about", "stall  (about", "claim", "bound", "fault", "must FAIL"):
        assert word in said


def test_plan_looks_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever this runs, no host of ours is under it: plan tells what is missing, and changes nothing."""
    done: list[object] = []
    monkeypatch.setattr("proofs.host.shell.Host.do", lambda *args, **_: done.append(args))
    monkeypatch.setattr("proofs.restore.lease.RUN_ROOT", tmp_path / "run")
    code = main(["plan", "stall", "exit12"])
    said = capsys.readouterr().out
    assert code == 2
    assert "prerequisites:" in said
    assert "NO " in said
    assert "Nothing was done." in said
    assert not done
    assert not (tmp_path / "run").exists()


def test_a_proof_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nonsense"]) == 2
    assert "no proof is called 'nonsense': there are exit12, stall, sampling, failover" in capsys.readouterr().err


def test_statement_is_rebuilt_from_the_recording(tmp_path: Path) -> None:
    record(tmp_path, {"exit12": Verdict.PASS, "stall": Verdict.PASS})
    assert bundle.build(read(tmp_path / EVENTS)) == bundle.write(tmp_path)
