"""hardening's rules, and the attempts themselves: each is tried here, where nothing confines it but the user."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog.hardening import EXPOSURE, NO_MODULES, PROOF, TRIED, Sandbox
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Deployed, judge
from proofs.verdict import Result
from tests.support.witnesses import genuine

CASE = Sandbox(Deployed(10.0, 2.0, (0, 0)))
REFUSED = dict.fromkeys(TRIED, "EPERM")
DONE = dict.fromkeys(TRIED, "")


def of(inside: dict[str, str], outside: dict[str, str], no_modules: str = "", exposure: float | None = 0.9) -> Result:
    measured: dict[str, Any] = {
        "refused_inside": REFUSED | inside,
        "refused_outside": DONE | outside,
        "no_modules": no_modules,
        "exposure": exposure,
        "n": len(TRIED),
    }
    return judge(CASE, genuine(CASE), measured)


def test_attempts_refused_only_inside_pass() -> None:
    result = of({}, {})
    assert result.verdict == "PASS"
    assert PROOF.headline([result]) == f"exposure 0.9; {len(TRIED)} of {len(TRIED)} attempts refused"


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("outside", ["", "EPERM"])
def test_permitted_attempt_fails_at_the_guard(name: str, outside: str) -> None:
    assert of({name: ""}, {name: outside}, no_modules=NO_MODULES[0]).failed_at_guard


@pytest.mark.parametrize("name", TRIED)
def test_attempt_that_root_cannot_make_is_inconclusive(name: str) -> None:
    assert of({}, {name: "EPERM"}).verdict == "INCONCLUSIVE"


def test_module_loading_is_not_applicable_where_root_cannot() -> None:
    result = of({}, {"load a module": "EPERM"}, no_modules=NO_MODULES[0])
    assert result.verdict == "PASS"
    assert PROOF.headline([result]).endswith("9 of 9 attempts refused; not applicable here: load a module")


def test_only_module_loading_may_be_left_out() -> None:
    assert of({}, {"see another process": "ENOENT"}, no_modules=NO_MODULES[0]).verdict == "INCONCLUSIVE"


def test_exposure_threshold() -> None:
    assert of({}, {}, exposure=EXPOSURE).verdict == "PASS"
    assert of({}, {}, exposure=EXPOSURE + 0.1).failed_at_guard
    assert of({}, {}, exposure=None).verdict == "INCONCLUSIVE"


def test_write_attempt_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    before = path.stat()
    assert sandbox_probe.attempt(f"write={path}") == ""
    assert path.read_text() == "text"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert sandbox_probe.attempt(f"write={tmp_path}/none") == "ENOENT"
    assert list(tmp_path.iterdir()) == [path]


def test_every_attempt_reports_success_or_errno() -> None:
    words = ["see=1", "see=0", *(name for name in sandbox_probe.ATTEMPTS if name not in ("write", "see"))]
    done = subprocess.run([sys.executable, sandbox_probe.__file__, *words], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.removeprefix(sandbox_probe.MARK))
    assert found["refused"].keys() == set(words)
    assert found["refused"]["see=0"] == "ENOENT"
    assert all(said == "" or said in errno.errorcode.values() for said in found["refused"].values())
    assert found["status"]["Uid"]
    assert "lo" in found["interfaces"]


def test_probe_knows_every_attempt() -> None:
    assert {word.partition("=")[0] for word in TRIED.values()} | {"inet-socket"} == sandbox_probe.ATTEMPTS.keys()
