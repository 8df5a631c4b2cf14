"""exit12: an operator's mistake stops the unit and leaves it stopped; everything else is restarted."""

import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proofs.catalog._checks import at_least, equal
from proofs.catalog._steady import GOOD, UP_S, steady
from proofs.catalog.mutations import with_directives
from proofs.experiment.case import Case, Deployed, Proof
from proofs.experiment.measurements import Count, Invocation, Pid, Seconds, Sha256
from proofs.experiment.subject import CONFIG_DIR, Subject
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import starts
from proofs.verdict import Check, Json, Result


@dataclass(frozen=True)
class ConfigInForce:
    """bound: the unit's BindReadOnlyPaths."""

    invocation: Invocation
    bound: str
    config_sha256: Sha256


@dataclass(frozen=True)
class StayedDown:
    """first_seen: the state in which the engine's end was seen. watched_s: 0 when it did not stay down."""

    n: Count
    exec_main_status: Count
    active: str
    sub: str
    result: str
    restarts: Count
    starts: Count
    first_seen: str
    watched_s: Seconds
    said: list[str]


class BadConfig(Case):
    """One wrong config: the unit must end with 12 and stay down for 3 x RestartSec."""

    def __init__(self, deployed: Deployed, name: str, text: str, fault: str) -> None:
        super().__init__(deployed)
        self.name, self._text, self.fault = name, text, fault

    def steady(self, subject: Subject) -> None:
        # The cases follow one another on a unit that the case before left failed: only a unit that never ran this
        # scratch state needs to be brought up, the control at the end shows that it still can be.
        if not subject.store.last_tick():
            steady(subject)

    def inject(self, subject: Subject) -> None:
        self._old = subject.unit.state().invocation
        self._cursor = subject.unit.cursor()
        subject.put("config.toml", self._text)
        subject.restart(check=False)

    def witness(self, subject: Subject) -> ConfigInForce:
        """The process ran anew, with a directory bound over its config that holds the bad file."""
        unit = subject.unit
        subject.host.wait_for("a new invocation", 5, lambda: unit.state().invocation not in (self._old, ""))
        bound = unit.properties("BindReadOnlyPaths").get("BindReadOnlyPaths", "")
        digest = hashlib.sha256((subject.etc / "config.toml").read_bytes()).hexdigest()
        return ConfigInForce(unit.state().invocation, bound if str(subject.etc) in bound else "", digest)

    def witnessed(self, witness: ConfigInForce) -> bool:
        return f"/etc:{CONFIG_DIR}" in witness.bound

    def measure(self, subject: Subject) -> StayedDown:
        unit, host = subject.unit, subject.host
        end = host.wait_for("its end", UP_S, lambda: _ended(subject), every=0.05)
        watch_s = 3 * self.deployed.restart_s
        at_end = unit.state(quiet=False)
        stayed_down = False
        if end == "failed":
            host.note("measuring", {"watching for a restart for seconds": watch_s})
            stayed_down = host.assert_never("a restart", watch_s + 0.1, lambda: _came_back(subject, at_end.restarts))
        last = unit.state(quiet=False)
        entries = unit.journal(self._cursor)
        messages = [entry.message for entry in entries if "config.toml" in entry.message or "ERROR" in entry.message]
        return StayedDown(
            n=1,
            exec_main_status=at_end.exec_status,
            active=last.active,
            sub=last.sub,
            result=last.result,
            restarts=last.restarts - at_end.restarts,
            starts=len(starts(entries)),
            first_seen=end,
            watched_s=watch_s if stayed_down else 0.0,
            said=messages[:3],
        )

    def traced(self, measured: StayedDown, trace: Trace) -> Mapping[str, Json | Between]:
        digest = hashlib.sha256(trace.written("config.toml").encode()).hexdigest()
        if digest != trace.witness(ConfigInForce).config_sha256:
            raise Untraced("the configuration that was witnessed is not the one that was written")
        watch_s = 3 * self.deployed.restart_s
        failed = measured.first_seen == "failed"
        waits = [wait for wait in trace.waits("a restart") if wait["data"]["came"] is False] if failed else []
        return {
            "exec_main_status": int(trace.shown(0)["ExecMainStatus"]),
            "active": trace.shown(-1)["ActiveState"],
            "restarts": trace.restarts(),
            "starts": len(starts(trace.journal())),
            "watched_s": watch_s if any(wait["data"]["seconds"] >= watch_s for wait in waits) else 0.0,
        }

    def judge(self, measured: StayedDown) -> Sequence[Check]:
        watch_s = 3 * self.deployed.restart_s
        return (
            equal("ExecMainStatus", measured.exec_main_status, 12),
            equal("state", measured.active, "failed", guard=True),
            equal(f"restarts in {watch_s:g} s", measured.restarts, 0, guard=True),
            equal("starts", measured.starts, 1, guard=True),
            at_least("seconds watched", measured.watched_s, watch_s, guard=True),
        )


@dataclass(frozen=True)
class Gone:
    pid: Pid
    gone: Literal[True]
    invocation: Invocation


@dataclass(frozen=True)
class Restarted:
    n: Count
    restarts: Count
    active: str


class Control(Case):
    """The same unit does restart when the end was not the operator's mistake."""

    name = "control"
    fault = "SIGKILL of the main process of a healthy run: this one must be restarted"

    def steady(self, subject: Subject) -> None:
        steady(subject)

    def inject(self, subject: Subject) -> None:
        self._state = subject.unit.state(quiet=False)
        subject.host.send_signal(self._state.pid, signal.SIGKILL)

    def witness(self, subject: Subject) -> Gone:
        pid = self._state.pid
        subject.host.wait_for("the end of the process", 5, lambda: not os.path.exists(f"/proc/{pid}"), every=0.02)
        return Gone(pid, True, self._state.invocation)

    def measure(self, subject: Subject) -> Restarted:
        def back() -> bool:
            now = subject.unit.state()
            return now.running and now.invocation != self._state.invocation

        subject.host.poll("a restart", self.deployed.restart_s + 5, back)
        now = subject.unit.state(quiet=False)
        return Restarted(1, now.restarts - self._state.restarts, now.active)

    def traced(self, measured: Restarted, trace: Trace) -> Mapping[str, Json | Between]:
        return {"restarts": trace.restarts(), "active": trace.shown(-1)["ActiveState"]}

    def judge(self, measured: Restarted) -> Sequence[Check]:
        return (
            equal("restarts after SIGKILL", measured.restarts, 1),
            equal("state after SIGKILL", measured.active, "active"),
        )


def _ended(subject: Subject) -> str:
    """ "failed": it stays down, so far. "auto-restart": systemd is about to try again, which is an answer too."""
    now = subject.unit.state()
    if now.active == "failed" or now.running:
        return now.active
    return now.sub if now.sub == "auto-restart" else ""


def _came_back(subject: Subject, restarts: int) -> bool:
    now = subject.unit.state()
    return now.active != "failed" or now.restarts != restarts


_BAD = (
    ("invalid TOML", "mode = SHADOW (\n", "config.toml is not TOML"),
    ("unknown key", f"{GOOD}tick_intervall_ms = 5\n", "an unknown key, engine.tick_intervall_ms"),
    ("unknown mode", GOOD.replace("SHADOW", "SHADOWY"), 'mode = "SHADOWY"'),
    ("LIVE", GOOD.replace("SHADOW", "LIVE"), 'mode = "LIVE" without its gate'),
)


def bad_configs(deployed: Deployed) -> list[Case]:
    return [BadConfig(deployed, *each) for each in _BAD]


def headline(results: Sequence[Result]) -> str:
    bad = [result for result in results if result.case != "control"]
    held = sum(result.verdict == "PASS" for result in bad)
    return f"{held} of {len(bad)} bad configs ended 12 and stayed down; SIGKILL restarted: " + (
        "yes" if any(r.case == "control" and r.verdict == "PASS" for r in results) else "no"
    )


PROOF = Proof(
    name="exit12",
    claim="a config mistake ends the engine with 12 and the unit stays down; any other end is restarted",
    bound="ExecMainStatus=12, failed, 0 restarts in 3 x RestartSec",
    fault="invalid TOML, an unknown key, an unknown mode, LIVE; control: SIGKILL",
    seconds=32,
    cases=lambda deployed: [*bad_configs(deployed), Control(deployed)],
    mutants=[
        with_directives("restarts-on-12", "RestartPreventExitStatus= emptied", bad_configs, "RestartPreventExitStatus=")
    ],
    headline=headline,
)
