"""adoption: a service that somebody else put on the host is taken over as it is, and comes back byte for byte."""

import base64
import json
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proofs.catalog._checks import equal
from proofs.catalog._controller import answers, ask, check_deployed, exit_text, if_answered, in_place
from proofs.experiment.case import Case, Deployed, Mutant, NotSteady, Proof
from proofs.experiment.measurements import Count, Invocation
from proofs.experiment.subject import CONFIG_DIR, Subject
from proofs.experiment.trace import Between, Trace
from proofs.host import deployed as live
from proofs.host.kind import not_a_lab
from proofs.host.shell import read_text
from proofs.verdict import Check, Json, Result

UNITS = Path("/etc/systemd/system")
DRIFT_TIMER = UNITS / "hybrid-drift-check.timer"
REMEMBERED = Path("/var/lib/hybrid-deploy")
USER = "daemon"  # of Debian's base system; the field notes' engine ran as a user of its own
STAND_IN = "/usr/bin/sleep"
# The unit and the drop-in of the field notes, with a stand-in for their engine.
UNIT = f"""[Unit]
Description=Hybrid Trading Bot Engine
After=network.target

[Service]
Type=simple
User={USER}
WorkingDirectory=/
Environment=RUST_LOG=info
ExecStart=/opt/hybrid-trading-bot/engine-rust/target/debug/engine-rust
Restart=always
RestartSec=2
Nice=10

[Install]
WantedBy=multi-user.target
"""
OVERRIDE = f"""[Service]
# Phase 2.2.2: Switch to release binary (5.7MB vs 103MB debug)
ExecStart=
ExecStart={STAND_IN} infinity

# Phase 2.2.2: Honor typed exit codes (12=CONFIG should not restart)
Restart=on-failure
RestartPreventExitStatus=12
"""
FILES = ("the unit", "its drop-in")


@dataclass(frozen=True)
class SomebodyElses:
    """The service as systemd and its process show it. invocation: before and after."""

    description: str = field(metadata={"key": "Description"})
    program: str
    user: str
    invocation: tuple[Invocation, Invocation]


@dataclass(frozen=True)
class ThereAndBack:
    """adopt, back: exit status of the playbooks, None where no controller answered. dropin: the foreign one is there
    after the first. not_kept, not_back: of FILES, those whose kept copy, and those that afterwards, are not as they
    were. engine, stand_in: whether that ran after the first and after the second.
    """

    n: Count
    adopt: int | None
    engine: bool
    dropin: bool
    not_kept: list[str]
    back: int | None
    stand_in: bool
    not_back: list[str]


class TakenOver(Case):
    """The host as the first system left it; a deployment that takes it over, and a rollback. play, spoil: mutants."""

    name = "there and back"
    fault = "somebody else's unit, with a drop-in that overrides its program, in the place of the deployed one"
    n_min = len(FILES)

    def __init__(self, deployed: Deployed, play: str = "adopt", spoil: bool = False) -> None:
        super().__init__(deployed)
        self._play, self._spoil = play, spoil

    def steady(self, subject: Subject) -> None:
        """Verify is clean and a deploy would change nothing; else the host would not be left as it was."""
        if DRIFT_TIMER.exists():
            raise NotSteady(f"{DRIFT_TIMER.name} is installed, which a rollback removes: deploy without it")
        if not (
            self._spoil or self._play != "adopt"
        ):  # the mutants' turns come after the proof, which ended as it began
            check_deployed(subject)

    def inject(self, subject: Subject) -> None:
        unit, override, kept = _paths(subject)
        self._invocation = subject.unit.state().invocation
        record = REMEMBERED / "deployed" / f"{unit.name}.json"
        later = [kept, CONFIG_DIR / "config.toml", CONFIG_DIR / "ws_sources.toml", REMEMBERED / "releases.json"]
        in_place(subject).replace({unit: UNIT, override: OVERRIDE}, [*override.parent.glob("*.conf"), record], later)

    def witness(self, subject: Subject) -> SomebodyElses:
        subject.host.wait_for("the stand-in", 10.0, lambda: _runs_stand_in(subject))
        state = subject.unit.state()
        return SomebodyElses(
            description=subject.unit.properties("Description").get("Description", ""),
            program=os.readlink(f"/proc/{state.pid}/exe"),
            user=pwd.getpwuid(os.stat(f"/proc/{state.pid}").st_uid).pw_name,
            invocation=(self._invocation, state.invocation),
        )

    def witnessed(self, witness: SomebodyElses) -> bool:
        here = (witness.description, witness.user) == ("Hybrid Trading Bot Engine", USER)
        return here and witness.program.endswith("/sleep") and witness.invocation[0] != witness.invocation[1]

    def measure(self, subject: Subject) -> ThereAndBack:
        _, override, kept = _paths(subject)
        adopt = ask(subject, self._play)
        engine, dropin = _runs_engine(subject), override.exists()
        not_kept = [name for name, text in zip(FILES, _kept_texts(subject), strict=True) if text != _text(name)]
        if self._spoil and kept.exists():
            subject.announce(f"alter what {kept} keeps of {override}")
            kept.write_text(_spoiled(read_text(kept), override))
        back = ask(subject, "return")
        texts = [read_text(path) if path.exists() else "" for path in _paths(subject)[:2]]
        not_back = [name for name, text in zip(FILES, texts, strict=True) if text != _text(name)]
        stand_in = _runs_stand_in(subject)
        return ThereAndBack(len(FILES), adopt.rc, engine, dropin, not_kept, back.rc, stand_in, not_back)

    def traced(self, measured: ThereAndBack, trace: Trace) -> Mapping[str, Json | Between]:
        adopt, back = answers(trace, 2)
        return {"n": len(FILES), "adopt": adopt.rc, "back": back.rc}

    def judge(self, measured: ThereAndBack) -> Sequence[Check]:
        runs = {True: "the engine", False: "something else"}
        returned = {True: "what ran before", False: "something else"}
        answered = None if measured.back is None else measured.adopt
        return if_answered(
            answered,
            equal("deploy with engine_adopt", exit_text(measured.adopt), "exit 0", guard=True),
            equal("runs after it", runs[measured.engine], "the engine", guard=True),
            equal("the foreign drop-in after it", "there" if measured.dropin else "gone", "gone", guard=True),
            equal("not kept as it was", ", ".join(measured.not_kept) or "nothing", "nothing", guard=True),
            equal("rollback to what was taken over", exit_text(measured.back), "exit 0", guard=True),
            equal("runs after that", returned[measured.stand_in], "what ran before", guard=True),
            equal("not back as it was", ", ".join(measured.not_back) or "nothing", "nothing", guard=True),
        )

    def release(self, subject: Subject) -> None:
        in_place(subject).put_back()


def _paths(subject: Subject) -> tuple[Path, Path, Path]:
    """The unit, the foreign drop-in, and the record of what was taken over."""
    unit = UNITS / subject.unit.name
    return unit, unit.with_name(f"{unit.name}.d") / "override.conf", REMEMBERED / "adopted" / f"{unit.name}.json"


def _text(name: str) -> str:
    return {"the unit": UNIT, "its drop-in": OVERRIDE}[name]


def _kept_texts(subject: Subject) -> list[str]:
    """What the record keeps of FILES; empty where it keeps none."""
    unit, override, kept = _paths(subject)
    try:
        states = json.loads(read_text(kept))["states"]
        return [base64.b64decode(states[str(path)]["data"]).decode() for path in (unit, override)]
    except (OSError, ValueError, LookupError, TypeError):
        return [""] * len(FILES)


def _spoiled(text: str, path: Path) -> str:
    """The record with other contents of one file."""
    record = json.loads(text)
    record["states"][str(path)]["data"] = base64.b64encode(f"{OVERRIDE}# altered\n".encode()).decode()
    return json.dumps(record)


def _runs_engine(subject: Subject) -> bool:
    state = subject.unit.state()
    words = read_text(f"/proc/{state.pid}/cmdline") if state.running else ""
    return str(live.ENGINE.parents[2]) in words and subject.host.look(*live.HEALTH, quiet=True).rc == 0


def _runs_stand_in(subject: Subject) -> bool:
    state = subject.unit.state()
    return state.running and read_text(f"/proc/{state.pid}/cmdline").startswith(STAND_IN)


def headline(results: Sequence[Result]) -> str:
    whole = all(result.verdict == "PASS" for result in results)
    return "taken over, given back byte for byte, and running again" if whole else "not there and back"


PROOF = Proof(
    name="adoption",
    claim="somebody else's service is taken over when asked, and a rollback brings it back as it was",
    bound=f"the engine runs in its place; {len(FILES)} of {len(FILES)} files back byte for byte, and what ran before",
    fault=TakenOver.fault,
    seconds=60,
    cases=lambda deployed: [TakenOver(deployed)],
    mutants=[
        Mutant("unasked", "a deployment without engine_adopt", lambda deployed: [TakenOver(deployed, play="deploy")]),
        Mutant("forgetful", "another drop-in in what is kept", lambda deployed: [TakenOver(deployed, spoil=True)]),
    ],
    in_place=True,
    notes="the deployed unit, its drop-ins and their record are away while somebody else's unit is there; a deployment "
    "from the controller's checkout writes them again",
    not_applicable=not_a_lab,
    headline=headline,
    host_word={
        "engine": "what /proc and health said after the deployment",
        "stand_in": "what /proc showed after the rollback",
        "dropin": "whether the drop-in was there after the deployment",
        "not_kept": "what the proof's own look at the record of what was taken over found",
        "not_back": "what the proof's own look at the files found",
        "witness.*": "what systemd and /proc showed",
    },
)
