"""Text of a tested host on a page or a terminal: shown, never interpreted (longer: tests/fuzz/hostile_text.py)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from tests.support import proof_run
from tests.support.hostile import TEXTS, check_pages, check_terminal

ROOT = Path(__file__).parents[2]
# Programs of their own, whose output no host writes; and the home of printing.
PRINTS = ("mock_exchange/", "demo.py", "experiment/sandbox_probe.py", "evidence/terminal.py")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = proof_run.record(tmp_path_factory.mktemp("proofs"))
    with pytest.MonkeyPatch.context() as patch:
        proof_run.enlist(patch)
        yield directory


@pytest.mark.holds("EVIDENCE")
@settings(max_examples=12, deadline=None)
@example("# ALLOW")
@example("x\x1b[2K\r\u202e`*<img src=x>*`|[a](http://b)\n# ALLOW\n```\n")
@given(TEXTS)
def test_page_has_no_structure_by_a_hosts_text(recorded: Path, text: str) -> None:
    check_pages(recorded, text)


@pytest.mark.holds("EVIDENCE")
@settings(max_examples=3, deadline=None)
@example("\x1b[2K\r\x9b31m")
@given(TEXTS)
def test_terminal_gets_no_control_character(recorded: Path, text: str) -> None:
    check_terminal(recorded, text)


def test_every_print_of_the_proofs_is_escaped_or_json() -> None:
    found = []
    for path in sorted((ROOT / "proofs").rglob("*.py")):
        name = str(path.relative_to(ROOT / "proofs"))
        for call in ast.walk(ast.parse(path.read_text())) if not name.startswith(PRINTS) else ():
            if (
                isinstance(call, ast.Call)
                and ast.unparse(call.func)
                in (
                    "print",
                    "sys.stdout.write",
                    "sys.stderr.write",
                )
                and not ast.unparse(call).startswith("print(json.dumps(")
            ):
                found.append(f"{name}:{call.lineno}")
    assert found == []
