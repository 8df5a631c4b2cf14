"""The frame: a case that throws, never gets steady or never saw its fault cannot PASS; it always cleans up."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proofs.catalog import PROOFS, REQUIRED
from proofs.evidence.recorder import Recorder, read
from proofs.experiment.case import Case, Deployed, Mutant, NotSteady, run_case
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import CannotMutate, MutantCopy, Subject, config
from proofs.host.shell import Host, Interrupted, Output, Stop, WaitTimeout
from proofs.host.unit import seconds
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


def test_wait_ends_by_condition_deadline_or_stop(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"))
    answers = iter([0, 0, 7])
    assert host.wait_for("seven", 5, lambda: next(answers), every=0.001) == 7
    with pytest.raises(WaitTimeout, match="never did not happen in 0"):
        host.wait_for("never", 0.01, lambda: 0, every=0.001)
    stop = Stop()
    stop.ask()
    for wait in (Host.wait_for, Host.poll, Host.assert_never):
        with pytest.raises(Interrupted):
            wait(Host(host.recorder, "", stop), "nothing", 5, lambda: 0)


def test_poll_and_assert_never_record_their_verb(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"))
    assert host.poll("a tick", 5, lambda: 7) == 7
    assert host.poll("a tick", 0, lambda: 0) is None
    assert host.assert_never("a restart", 0, lambda: 0) is True
    assert host.assert_never("a restart", 5, lambda: 7) is False
    data = [event["data"] for event in read(tmp_path / "events.jsonl")]
    assert [(one["verb"], one["for"], one["came"]) for one in data] == [
        ("poll", "a tick", True),
        ("poll", "a tick", False),
        ("assert_never", "a restart", False),
        ("assert_never", "a restart", True),
    ]


def test_command_is_announced_before_it_runs(tmp_path: Path) -> None:
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    assert host.do("sh", "-c", "echo out; echo err >&2; exit 3", check=False) == Output(3, "out\n", "err\n")
    intent, command = read(tmp_path / "events.jsonl")
    assert (intent["kind"], command["kind"]) == ("intent", "command")
    assert intent["argv"] == command["argv"]
    assert (command["rc"], command["stdout"], command["stderr"]) == (3, "out\n", "err\n")
    assert host.look("no-such-program-anywhere").rc == 127


def test_patch_needs_exactly_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "release" / "lib" / "hybrid_engine"
    package.mkdir(parents=True)
    (package / "one.py").write_text("guard = True\nother = 1\n")
    (package / "two.py").write_text("other = 1\n")
    monkeypatch.setattr("proofs.experiment.subject.RELEASE", tmp_path / "release")
    host = Host(Recorder(tmp_path / "events.jsonl"), "test")
    copy = MutantCopy(host, Subject(host, "x.service", tmp_path, (0, 0)).unit, "m", _lease(tmp_path), (0, 0))
    for text in ("nowhere", "other = 1"):
        with pytest.raises(CannotMutate):
            copy.patch(text, "")
    copy.patch("guard = True", "guard = False")
    assert (copy.scratch / "lib" / "hybrid_engine" / "one.py").read_text() == "guard = False\nother = 1\n"
    assert (package / "one.py").read_text() == "guard = True\nother = 1\n"
    assert any(line.startswith("BindReadOnlyPaths=") for line in copy.directives)


@pytest.mark.parametrize(
    ("name", "mutant"), [(name, m) for name, p in PROOFS.items() for m in p.mutants if not p.in_place]
)
def test_every_mutant_fits_this_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mutant: Mutant
) -> None:
    """A patch whose text is gone from the engine, or that makes no Python of it, is found here, not on a host."""
    lib = tmp_path / "release" / "lib"
    lib.mkdir(parents=True)
    shutil.copytree(Path(__file__).parents[4] / "hybrid_engine", lib / "hybrid_engine")
    monkeypatch.setattr("proofs.experiment.subject.RELEASE", tmp_path / "release")
    host = Host(Recorder(tmp_path / "events.jsonl"), name)
    copy = MutantCopy(host, Subject(host, "x.service", tmp_path, (0, 0)).unit, mutant.name, _lease(tmp_path), (0, 0))
    mutant.make(copy)
    assert copy.directives or copy.instead or copy.pick_sources([{"name": "a"}, {"name": "b"}]) == [{"name": "a"}]
    for path in copy.scratch.rglob("*.py"):
        compile(path.read_text(), path.name, "exec")


def _lease(tmp_path: Path) -> Any:
    class Fake:
        scratch = tmp_path / "scratch"

    return Fake()


def test_catalogue_is_complete() -> None:
    assert {"exit12", "stall", "sampling", "failover", "shadow", "gate", "rollback", "hardening"} <= PROOFS.keys()
    assert {"crash", "overload", "network", "parse", "storage", "stop"} <= PROOFS.keys()
    playbooks = Path(__file__).parents[4] / "playbooks"
    assert {path.stem.removeprefix("prove_") for path in playbooks.glob("prove_*.yml")} >= PROOFS.keys()
    for required in REQUIRED.values():
        assert set(required) <= PROOFS.keys()
    for proof in PROOFS.values():
        assert proof.claim
        assert proof.bound
        assert proof.fault
        assert proof.mutants
        assert proof.cap_s > 2 * proof.seconds
        names = [case.name for case in proof.cases(DEPLOYED)]
        assert len(set(names)) == len(names) > 0
        for mutant in proof.mutants:
            assert {case.name for case in mutant.cases(DEPLOYED)} <= set(names)


@pytest.mark.parametrize(
    ("span", "value"),
    [("2s", 2.0), ("1min 30s", 90.0), ("100ms", 0.1), ("0", 0.0), ("infinity", float("inf")), ("1h 500us", 3600.0005)],
)
def test_systemctl_time_spans(span: str, value: float) -> None:
    assert seconds(span) == pytest.approx(value)


def test_scratch_config_is_toml() -> None:
    import tomllib

    assert tomllib.loads(config(ingest_mode="SYNTHETIC", tick_interval_ms=5)) == {
        "mode": "SHADOW",
        "engine": {"ingest_mode": "SYNTHETIC", "tick_interval_ms": 5, "psi_actions": "off"},
    }
