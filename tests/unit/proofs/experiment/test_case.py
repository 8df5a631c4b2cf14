"""The frame: a case that throws, never gets steady or never saw its fault cannot PASS; it always cleans up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from proofs.evidence.recorder import Recorder, read
from proofs.experiment.case import Case, Deployed, NotSteady, run_case
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Subject
from proofs.host.shell import Host, Interrupted, WaitTimeout
from proofs.verdict import Check, Json, Verdict

DEPLOYED = Deployed(10.0, 2.0, (0, 0))


class Script(Case):
    """A case whose steps do what the test says."""

    name = "scripted"
    fault = "none at all"

    def __init__(
        self, witness: Json = ..., ok: bool | None = True, raises: dict[str, BaseException] | None = None
    ) -> None:
        super().__init__(DEPLOYED)
        self._witness, self._ok, self._raises = {"seen": 1} if witness is ... else witness, ok, raises or {}
        self.steps: list[str] = []

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self._raises:
            raise self._raises[name]

    def steady(self, subject: Subject) -> None:
        self._step("steady")

    def inject(self, subject: Subject) -> None:
        self._step("inject")

    def witness(self, subject: Subject) -> Json:
        self._step("witness")
        return self._witness

    def measure(self, subject: Subject) -> dict[str, Json]:
        self._step("measure")
        return {"n": 1}

    def witnessed(self, seen: Figures) -> bool:
        return True

    def judge(self, measured: Figures) -> Sequence[Check]:
        self._step("judge")
        return [Check("c", 1, 1, self._ok)]

    def release(self, subject: Subject) -> None:
        self._step("release")


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    return Subject(host, "none.service", tmp_path / "scratch", (0, 0))


def test_steps_are_recorded_in_order(subject: Subject, tmp_path: Path) -> None:
    case = Script()
    assert run_case(case, subject).verdict is Verdict.PASS
    assert case.steps == ["steady", "inject", "witness", "measure", "judge", "release"]
    kinds = [event["kind"] for event in read(tmp_path / "events.jsonl")]
    assert kinds == ["case", "intent", "witness", "measured", "judged", "timeline"]


@pytest.mark.parametrize("step", ["steady", "inject", "witness", "measure", "judge"])
def test_exception_in_a_step_is_an_error(subject: Subject, step: str) -> None:
    case = Script(raises={step: ValueError("broken checker")})
    result = run_case(case, subject)
    assert result.verdict is Verdict.ERROR
    assert "broken checker" in result.reason
    assert case.steps[-1] == "release"


@pytest.mark.parametrize("error", [NotSteady("down"), WaitTimeout("ticks did not happen in 15 s")])
def test_no_steady_state_is_inconclusive(subject: Subject, error: Exception) -> None:
    case = Script(raises={"steady": error})
    assert run_case(case, subject).verdict is Verdict.INCONCLUSIVE
    assert "inject" not in case.steps


def test_timeout_of_the_witness_is_inconclusive(subject: Subject) -> None:
    result = run_case(Script(raises={"witness": WaitTimeout("the fault to bite did not happen in 5 s")}), subject)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "to bite" in result.reason


@pytest.mark.parametrize("witness", [None, {}, "", []])
def test_fault_without_witness_is_inconclusive(subject: Subject, witness: Json) -> None:
    result = run_case(Script(witness=witness), subject)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "witness" in result.reason


def test_interruption_is_no_verdict(subject: Subject) -> None:
    case = Script(raises={"measure": Interrupted("stop")})
    with pytest.raises(Interrupted):
        run_case(case, subject)
    assert case.steps[-1] == "release"
