"""Which mode the operator's engine is in, who holds the host, and which settings its unit gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proofs.evidence.recorder import Recorder
from proofs.host import deployed, lock
from proofs.host.shell import Host, Output
from proofs.host.unit import Unit
from proofs.runner.prerequisites import operators_mode

CASES = {
    "nothing": ({}, "", "SHADOW"),
    "the file": ({}, 'mode = "paper"', "PAPER"),
    "a file that is none": ({}, "mode = ", "?"),
    "the environment over the file": ({"Environment": "A=1 HYBRID_ENGINE__MODE=PAPER"}, 'mode = "SHADOW"', "PAPER"),
    "LIVE in the file, not in force": ({"Environment": "HYBRID_ENGINE__MODE=SHADOW"}, 'mode = "LIVE"', "SHADOW"),
    "the last of two": ({"Environment": "HYBRID_ENGINE__MODE=PAPER HYBRID_ENGINE__MODE=LIVE"}, "", "LIVE"),
    "the command line": ({"ExecStart": "{ argv[]=/x/hybrid-engine run --mode LIVE ; }"}, "", "LIVE"),
    "the command line, joined": ({"ExecStart": "{ argv[]=/x/hybrid-engine run --mode=live ; }"}, "", "LIVE"),
    "a file of variables": ({"EnvironmentFiles": "FILE (ignore_errors=no)"}, "", "LIVE"),
    "what runs, though the file was changed": (
        {"StatusText": "LIVE gemini: 5 ticks stored"},
        'mode = "SHADOW"',
        "LIVE",
    ),
    "what runs in shadow": ({"StatusText": "SHADOW gemini: 5 ticks stored"}, "", "SHADOW"),
    "what the next start would be": ({"StatusText": "SHADOW no source"}, 'mode = "LIVE"', "LIVE"),
}


@pytest.mark.parametrize("case", CASES)
def test_live_mode_is_found_everywhere(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    properties, text, mode = CASES[case]
    (tmp_path / "vars").write_text("# of the operator\nHYBRID_ENGINE__MODE='LIVE'\n")
    if text:
        (tmp_path / "config.toml").write_text(text)
    shown = "\n".join(f"{k}={v.replace('FILE', str(tmp_path / 'vars'))}" for k, v in properties.items())
    monkeypatch.setattr("proofs.host.shell._run", lambda argv: Output(0, shown, ""))
    unit = Unit(Host(Recorder(tmp_path / "events.jsonl")), "hybrid-engine.service")
    assert operators_mode(unit, tmp_path) == mode


def test_lock_holder_is_named_with_its_age(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    assert lock.holder(path) == ""
    with lock.locked(path, "run r1, pid 7"):
        assert lock.holder(path).startswith("run r1, pid 7, for ")
        with (
            pytest.raises(lock.Busy, match=r"another proof runs on this host: run r1, pid 7, for \d+ s"),
            lock.locked(path, "run r2"),
        ):
            pass
    assert lock.holder(path) == ""


def test_unit_settings_count_but_not_its_mode() -> None:
    shown = 'LANG=C "HYBRID_ENGINE__APP__SYMBOL=BTC / USD" HYBRID_ENGINE__MODE=LIVE HYBRID_ENGINE__APP__SYMBOL=X\n'
    assert deployed.settings(shown) == {"HYBRID_ENGINE__APP__SYMBOL": "X", "HYBRID_ENGINE__MODE": "SHADOW"}
