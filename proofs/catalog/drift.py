"""drift: verify names every change that was made on a host by hand, and deploy repairs it."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from proofs.catalog._checks import equal
from proofs.catalog._controller import answers, ask, check_deployed, exit_text, if_answered, in_place
from proofs.experiment.case import Case, Deployed, Mutant, NotSteady, Proof
from proofs.experiment.controller_requests import Answer
from proofs.experiment.measurements import Count, Invocation, figures_of
from proofs.experiment.subject import CONFIG_DIR, RELEASE, Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.kind import not_a_lab
from proofs.host.shell import read_text
from proofs.verdict import Check, Json, Result

UNITS = Path("/etc/systemd/system")
CONFIG = CONFIG_DIR / "config.toml"
MODULE = "lib/hybrid_engine/domain/events.py"
DESCRIPTION = "changed by hand"
MODE = 0o664  # of the config; deployed, nobody but root may write it
OOM = "200"  # more likely to be killed; raising it needs no capability


class Drift(NamedTuple):
    """One change by hand. assertion: verify's assertion for it; names: a pattern that its message must match."""

    assertion: str
    names: str


FILE_IS = r": sha256 [0-9a-f]{64} where [0-9a-f]{64} was deployed"
DRIFTS = {
    "the unit edited": Drift(
        "test_release.py::test_deployed_files_are_as_deployed", rf"{UNITS}/hybrid-engine\.service{FILE_IS}"
    ),
    "a drop-in added": Drift(
        "test_dropins.py::test_nobody_else_changes_the_unit",
        rf"AssertionError: unmanaged drop-ins are in force: {UNITS}/hybrid-engine\.service\.d/60-added\.conf",
    ),
    "WorkingDirectory emptied": Drift(
        "test_unit.py::test_works_in_its_canonical_directory",
        r"AssertionError: the process works elsewhere than in its state directory",
    ),
    "a file of the release changed": Drift(
        "test_release.py::test_release_is_what_its_name_says",
        rf"AssertionError: {re.escape(MODULE)} is not as it was built",
    ),
    "the mode of the config changed": Drift(
        "test_release.py::test_deployed_files_are_as_deployed",
        rf"{re.escape(str(CONFIG))}: mode {MODE:04o} where \d{{4}} was deployed",
    ),
    "a unit that systemd has not read": Drift(
        "test_unit.py::test_loaded_from_its_own_file",
        r"AssertionError: hybrid-engine\.service changed on the disk since systemd read it",
    ),
    "the config changed": Drift(
        "test_release.py::test_deployed_files_are_as_deployed", rf"{re.escape(str(CONFIG))}{FILE_IS}"
    ),
}
ASSERTIONS = sorted({f"tests/verify/{drift.assertion}" for drift in DRIFTS.values()})


@dataclass(frozen=True)
class ByHand:
    """files: by name, the beginnings of their digests before and after. invocation: before and after."""

    description: str = field(metadata={"key": "Description"})
    oom_score_adj: str
    cwd: str
    files: dict[str, tuple[str, str]]
    invocation: tuple[Invocation, Invocation]


@dataclass(frozen=True)
class Verified:
    """verify: its exit status; None where no controller answered. red: assertions that failed. named: each drift."""

    n: Count
    verify: int | None
    red: list[str]
    named: dict[str, bool]


@dataclass(frozen=True)
class Repaired:
    """rc: of deploy and verify; None where no controller answered. left: edited files that are not as before."""

    n: Count
    rc: int | None
    red: list[str]
    left: list[str]


class Changed(Case):
    """Everything changed by hand at once, and in force."""

    fault = f"by hand: {', '.join(DRIFTS)}; daemon-reload, restart"
    n_min = len(DRIFTS)

    def inject(self, subject: Subject) -> None:
        self._paths = unit, added, module, config = _paths(subject)
        texts = {path: read_text(path) for path in self._paths}
        self._before = _digests(self._paths)
        self._invocation = subject.unit.state().invocation
        changes = (
            (unit, r"^Description=.*$", f"Description={DESCRIPTION}"),
            (unit, r"^WorkingDirectory=.*$", "WorkingDirectory="),
            (config, r"^sample_every = (\d+)", r"sample_every = 1\1"),
        )
        for path, old, new in changes:
            texts[path], found = re.subn(old, new, texts[path], count=1, flags=re.M)
            if not found:
                raise ValueError(f"{path} has no line like {old}")
        texts[added] = f"[Service]\nOOMScoreAdjust={OOM}\n"
        texts[module] += "# changed by hand\n"
        unread = {added: f"{texts[added]}# not read yet\n"}
        in_place(subject).edit(texts, {config: MODE}, unread)

    def witness(self, subject: Subject) -> ByHand:
        """The changes as systemd, the process and the files show them."""
        state, after = subject.unit.state(), _digests(self._paths)
        return ByHand(
            description=subject.unit.properties("Description").get("Description", ""),
            oom_score_adj=read_text(f"/proc/{state.pid}/oom_score_adj").strip(),
            cwd=os.readlink(f"/proc/{state.pid}/cwd"),
            files={path.name: (self._before[path][:12], after[path][:12]) for path in self._paths},
            invocation=(self._invocation, state.invocation),
        )

    def witnessed(self, witness: ByHand) -> bool:
        in_force = (witness.description, witness.oom_score_adj, witness.cwd) == (DESCRIPTION, OOM, "/")
        changed = [before != after for before, after in [*witness.files.values(), witness.invocation]]
        return in_force and all(changed) and len(witness.files) == 4

    def release(self, subject: Subject) -> None:
        in_place(subject).put_back()


class Named(Changed):
    """verify names each change. without: assertions to leave out (the mutant)."""

    name = "named"

    def __init__(self, deployed: Deployed, without: Sequence[str] = ()) -> None:
        super().__init__(deployed)
        self._without = tuple(without)

    def steady(self, subject: Subject) -> None:
        """Verify is clean and a deploy would change nothing; else the deploy would change more than the drift."""
        if self._without:  # the mutant's turn comes after the proof, which ended as it began
            return
        check_deployed(subject)

    def measure(self, subject: Subject) -> Verified:
        answer = ask(subject, "verify", without=self._without)
        return _verified(answer)

    def traced(self, measured: Verified, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_verified(answers(trace, 1)[0]))

    def judge(self, measured: Verified) -> Sequence[Check]:
        checks = [
            Check(
                f"verify names {name}",
                "named" if measured.named[name] else "not named",
                drift.assertion.partition("::")[2],
                measured.named[name],
                guard=True,
            )
            for name, drift in DRIFTS.items()
        ]
        red = Check("verify", exit_text(measured.verify), "not 0", measured.verify != 0, guard=True)
        return if_answered(measured.verify, *checks, red)


class Healed(Changed):
    """A deployment repairs what was deployed. The added drop-in is removed first. plays: other ones for the mutant."""

    name = "healed"

    def __init__(self, deployed: Deployed, plays: Sequence[str] = ("deploy", "verify")) -> None:
        super().__init__(deployed)
        self._plays = tuple(plays)

    def steady(self, subject: Subject) -> None:
        """The case before found the host clean and edited files; every one of them has been put back."""
        place = in_place(subject)
        if not place.edited:
            raise NotSteady("verify was not seen to be clean here, or a deploy to change nothing")
        if changed := place.changed():
            raise NotSteady(f"{', '.join(changed)} is not what it was")

    def measure(self, subject: Subject) -> Repaired:
        place = in_place(subject)
        place.remove(self._paths[1])
        answer = ask(subject, *self._plays)
        return Repaired(len(DRIFTS), answer.rc, sorted(_failed_assertions(answer)), place.changed())

    def traced(self, measured: Repaired, trace: Trace) -> Mapping[str, Json | Between]:
        answer = answers(trace, 1)[0]
        return {"n": len(DRIFTS), "rc": answer.rc, "red": sorted(_failed_assertions(answer))}

    def judge(self, measured: Repaired) -> Sequence[Check]:
        return if_answered(
            measured.rc,
            equal("left by the deploy", ", ".join(measured.left) or "nothing", "nothing", guard=True),
            equal("red in the verify after it", ", ".join(measured.red) or "nothing", "nothing", guard=True),
            equal("deploy, then verify", exit_text(measured.rc), "exit 0", guard=True),
        )


def _paths(subject: Subject) -> tuple[Path, Path, Path, Path]:
    """The unit, the drop-in to come, a module of the live release by its real path, the config."""
    unit = UNITS / subject.unit.name
    return unit, unit.with_name(f"{unit.name}.d") / "60-added.conf", (RELEASE / MODULE).resolve(), CONFIG


def _digests(paths: Sequence[Path]) -> Mapping[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none" for path in paths}


def _verified(answer: Answer) -> Verified:
    return Verified(len(DRIFTS), answer.rc, sorted(_failed_assertions(answer)), _named_drifts(answer))


def _failed_assertions(answer: Answer) -> set[str]:
    """The assertions that failed, by verify's output."""
    return set(re.findall(r"\b(?:FAILED|ERROR) tests/verify/(\w+\.py::\w+)", answer.stdout))


def _named_drifts(answer: Answer) -> dict[str, bool]:
    """For each drift, whether its assertion failed with the expected message."""
    red, words = _failed_assertions(answer), re.sub(r"\s+", " ", answer.stdout)
    return {name: drift.assertion in red and bool(re.search(drift.names, words)) for name, drift in DRIFTS.items()}


def headline(results: Sequence[Result]) -> str:
    named = [check for result in results for check in result.checks if check.name.startswith("verify names")]
    healed = [result for result in results if result.case == Healed.name and result.verdict == "PASS"]
    summary = f"{sum(check.ok is True for check in named)} of {len(DRIFTS)} named by verify"
    return f"{summary}{', healed by deploy, verify clean' if healed else ''}"


PROOF = Proof(
    name="drift",
    claim="what is changed on the host by hand is named by verify, and healed by deploy",
    bound=f"{len(DRIFTS)} of {len(DRIFTS)} named; after the deploy every file as before, and verify clean",
    fault=Changed.fault,
    seconds=75,
    cases=lambda deployed: [Named(deployed), Healed(deployed)],
    mutants=[
        Mutant("blind", "verify without the assertions that see them", lambda deployed: [Named(deployed, ASSERTIONS)]),
        Mutant("idle", "no deploy before the verify", lambda deployed: [Healed(deployed, ["verify"])]),
    ],
    in_place=True,
    notes="the added drop-in is taken away by its owner, the proof: a deployment tells of what it did not install, and "
    "leaves it",
    not_applicable=not_a_lab,
    headline=headline,
    host_word={
        "left": "what the proof's own look at the edited files found",
        "witness.*": "what /proc, systemd and the edited files showed",
    },
)
