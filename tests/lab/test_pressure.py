"""Pressure on a host: the deployed engine can read its own, and the ladder is proven with real load."""

from __future__ import annotations

import json

import pytest

from tests.lab.deployment import UNIT
from tests.lab.labs import Lab
from tests.lab.proof_runs import EVIDENCE, PROGRAM, picture

pytestmark = pytest.mark.lab
MUTANTS = {"logonly", "latched"}


def test_pressure_is_readable_inside_the_sandbox(installed: Lab) -> None:
    """The same lines that root reads outside it: ProtectControlGroups= hides nothing that has to be read."""
    state = "--property=MainPID,ControlGroup"
    output = dict(
        line.split("=", 1) for line in installed.root("systemctl", "show", UNIT, state).stdout.split() if "=" in line
    )
    result = installed.root("journalctl", "-u", UNIT, "-o", "cat", "_PID=" + output["MainPID"]).stdout
    assert '"message":"ready"' in result
    assert "pressure is unknown" not in result
    mount = "awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo"
    inside = ("nsenter", "-t", output["MainPID"], "-m", "setpriv", "--reuid=nobody", "--clear-groups", "sh", "-c")
    for kind in ("cpu", "memory", "io"):
        read = f'cat "$({mount}){output["ControlGroup"]}/{kind}.pressure"'
        assert installed.root(*inside, read).stdout.startswith("some avg10="), kind


@pytest.mark.holds("G2")
def test_pressure_proof_with_real_load_restores_the_host(installed: Lab) -> None:
    before = picture(installed)
    process = installed.root(PROGRAM, "run", "pressure", "--run", "pressed", check=False, timeout=400)
    assert process.returncode == 0, process.stdout + process.stderr
    (proof,) = json.loads(installed.root("cat", f"{EVIDENCE}/pressed/statement.json").stdout)["predicate"]["proofs"]
    assert (proof["verdict"], proof["mutant"]["verdict"]) == ("PASS", "FAIL")
    assert {mutant["name"] for mutant in proof["mutant"]["each"] if mutant["verdict"] == "FAIL"} == MUTANTS
    assert proof["restored"]
    assert picture(installed) == before
