"""rollback's rules, and the reading of what a drop-in changed."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

from proofs.catalog.rollback import CHANGES, NOT_ROLLED_BACK, PROOF, SHOWN_AT_START, Installed, OutOfForce, look
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Deployed, judge
from proofs.experiment.subject import Subject
from proofs.host.shell import Host
from proofs.host.unit import State
from proofs.verdict import Result
from tests.support.witnesses import genuine

DEPLOYED = Deployed(10.0, 2.0, (0, 0))
OF_OTHER_UNITS = {"40-hardening-snapshot.conf", "60-journald.conf"}
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
BEFORE: dict[str, dict[str, Any]] = {
    "20-resources.conf": {"nice": 10, "open files": 4096},
    "30-restart.conf": {"after SIGKILL": "restarted"},
    "40-hardening.conf": {"NoNewPrivs": "1", "CapBnd": "0", "Seccomp_filters": "39"},
    "50-watchdog.conf": {"WATCHDOG_USEC": "10000000"},
}


def of(name: str, masked: dict[str, Any] | None = None, **measured: Any) -> Result:
    plain = dict.fromkeys(CHANGES[name], "another")
    found = {"before": BEFORE[name], "masked": plain | (masked or {}), "after": BEFORE[name], "n": 1}
    case = OutOfForce(DEPLOYED, name)
    return judge(case, genuine(case), found | {"cat_sha256": [A, B, A]} | measured)


@pytest.mark.parametrize("name", CHANGES)
def test_masked_and_restored_behaviour_passes(name: str) -> None:
    assert of(name).verdict == "PASS"


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in CHANGES.items() for key in keys])
def test_unchanged_behaviour_fails_at_the_guard(name: str, key: str) -> None:
    assert of(name, {key: BEFORE[name][key]}).failed_at_guard


@pytest.mark.parametrize(
    "measured",
    [
        {"cat_sha256": [A, B, C]},
        {"cat_sha256": [A, A, A]},
        {"after": {"WATCHDOG_USEC": None}},
    ],
)
def test_incomplete_rollback_fails_elsewhere(measured: dict[str, Any]) -> None:
    result = of("50-watchdog.conf", **measured)
    assert result.verdict == "FAIL"
    assert not result.failed_at_guard


def test_cases_are_the_drop_ins() -> None:
    assert [case.name for case in PROOF.cases(DEPLOYED)] == [*CHANGES, "every installed drop-in"]


OUT: dict[str, Any] = {
    "before": {"Nice": "10"},
    "masked": {"Nice": "0"},
    "after": {"Nice": "10"},
    "cat_sha256": [A, B, A],
    "alone": True,
}


def of_installed(name: str, changes: dict[str, Any]) -> Result:
    case = Installed(DEPLOYED)
    drop_ins = {one: OUT | (changes if one == name else {}) for one in [*CHANGES, name]}
    return judge(case, genuine(case), {"n": len(drop_ins), "drop_ins": drop_ins})


@pytest.mark.parametrize("name", [*CHANGES, *NOT_ROLLED_BACK, "99-by-hand.conf"])
def test_every_installed_drop_in_counts(name: str) -> None:
    assert of_installed(name, {}).verdict == "PASS"
    assert of_installed(name, {"masked": OUT["before"]}).failed_at_guard == (name not in SHOWN_AT_START)
    assert of_installed(name, {"alone": False}).failed_at_guard
    for changes in ({"after": OUT["masked"]}, {"cat_sha256": [A, B, C]}):
        assert of_installed(name, changes).verdict == "FAIL"


def test_setting_shown_at_start_has_a_case_of_its_own() -> None:
    assert SHOWN_AT_START.keys() <= CHANGES.keys()


def test_promised_drop_in_that_is_not_installed_fails() -> None:
    case = Installed(DEPLOYED)
    drop_ins = {name: OUT for name in CHANGES if name != "50-watchdog.conf"}
    assert judge(case, genuine(case), {"n": 4, "drop_ins": drop_ins}).verdict == "FAIL"


def test_drop_ins_match_the_deployment() -> None:
    repository = Path(__file__).parents[4]
    defaults = yaml.safe_load((repository / "roles/engine/defaults/main.yml").read_text())
    deployed = {f"{drop_in['name']}.conf" for drop_in in defaults["engine_dropins"]}
    assert CHANGES.keys() | NOT_ROLLED_BACK.keys() == deployed
    assert not CHANGES.keys() & NOT_ROLLED_BACK.keys()
    templates = {path.name.removesuffix(".j2") for path in (repository / "templates/systemd").glob("*.conf.j2")}
    assert templates - OF_OTHER_UNITS == deployed
    assert templates >= OF_OTHER_UNITS


def test_behaviour_is_read_from_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(Host(Recorder(tmp_path / "events.jsonl"), "test"), "none.service", tmp_path, (0, 0))
    fields = dict.fromkeys(State.__annotations__, 0)
    monkeypatch.setattr(subject.unit, "state", lambda: State(**(fields | {"pid": os.getpid()})))  # type: ignore[arg-type]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert look(subject, "20-resources.conf") == {"nice": os.nice(0), "open files": limit}
    assert look(subject, "40-hardening.conf").keys() == set(CHANGES["40-hardening.conf"])
    assert all(look(subject, "40-hardening.conf").values())
    assert look(subject, "50-watchdog.conf") == {"WATCHDOG_USEC": os.environ.get("WATCHDOG_USEC")}
