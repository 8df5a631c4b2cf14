"""The exit codes' home is hybrid_engine/runtime/errors.py; every other table of them must agree with it."""

from __future__ import annotations

import re

import pytest

from hybrid_engine import cli
from hybrid_engine.runtime.errors import EngineError, ExitCode
from proofs.soak.exit_table import EXITS
from tests.support.process import ROOT

NAMES = {int(code): code.name for code in ExitCode}
NOT_RESTARTED = {int(ExitCode.CONFIG)}
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|", re.MULTILINE)


def test_every_error_has_its_own_code() -> None:
    codes = [error.code for error in EngineError.__subclasses__()]
    assert sorted([ExitCode.COMPLETE, ExitCode.BUG, *codes]) == sorted(ExitCode)


def test_soak_table_matches() -> None:
    assert {code: name for code, (name, _) in EXITS.items()} == NAMES


def test_unit_prevents_restart_after_config_error_only() -> None:
    text = (ROOT / "templates/systemd/30-restart.conf.j2").read_text()
    lines = re.findall(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert [set(map(int, line.split())) for line in lines] == [NOT_RESTARTED]


def test_readme_table_matches() -> None:
    rows = [row for row in _ROW.findall((ROOT / "README.md").read_text()) if int(row[0]) in NAMES]
    assert sorted(int(code) for code, _, _ in rows) == sorted(NAMES)
    down = {int(code) for code, _, systemd in rows if "stays down" in systemd}
    assert down == NOT_RESTARTED


@pytest.mark.parametrize("code", ExitCode)
def test_help_lists_every_code(code: ExitCode, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    assert f"  {code:<2}  {code.name:<8}  {code.meaning}\n" in capsys.readouterr().out
