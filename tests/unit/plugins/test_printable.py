"""What a host has a say in reaches no terminal raw, wherever Ansible shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import clean_environment

ROOT = Path(__file__).parents[3]
HOSTILE = "A\x1b[31mB\x9b2JC\u202eD\x1b]0;owned\x07\r"


def _tasks(folder: Path) -> list[dict[str, Any]]:
    file = {"dest": str(folder / "file")}
    return [
        {"name": "prints", "ansible.builtin.debug": {"msg": "{{ hostile }}"}},
        {"name": "fails", "ansible.builtin.fail": {"msg": "{{ hostile }}"}, "ignore_errors": True},
        {"name": "{{ hostile }}", "ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": ["{{ hostile }}"]},
        {"name": "has", "ansible.builtin.copy": {"content": "{{ hostile }}", **file}, "diff": False},
        {"name": "differs", "ansible.builtin.copy": {"content": "new", **file}, "diff": True},
    ]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("coloured", [False, True])
def test_output_of_a_playbook_has_no_escapes_of_a_host(tmp_path: Path, coloured: bool) -> None:
    values = {"hostile": HOSTILE, "ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": values}
    (tmp_path / "play.json").write_text(json.dumps([{**play, "tasks": _tasks(tmp_path)}]))
    result = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(tmp_path / "play.json")],
        cwd=ROOT,
        env=clean_environment({"ANSIBLE_FORCE_COLOR": "1"} if coloured else {"ANSIBLE_NOCOLOR": "1"}),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    output = result.stdout + result.stderr
    assert output.count("31mB") >= 6
    for raw in ("A\x1b[31m", "\x9b", "\u202e", "\x1b]", "\x07", "\r"):
        assert raw not in output
    assert ("\x1b[0;32mok: [localhost]" in output) is coloured
    assert ("\x1b" in output) is coloured
