"""exit12: an operator's mistake stops the unit and leaves it stopped; everything else is restarted."""

import hashlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from proofs.catalog._checks import at_least, at_most, equal
from proofs.catalog._config_check import SOUND, WRONG, ConfigCheck
from proofs.catalog._steady import GOOD, UP_S, steady
from proofs.catalog.mutations import with_directives
from proofs.experiment.case import Case, Deployed, Proof
from proofs.experiment.measurements import Count, Invocation, Pid, Seconds, Sha256, figures_of
from proofs.experiment.subject import CONFIG_DIR, Subject
from proofs.experiment.trace import Between, Trace, Untraced
from proofs.host.unit import (
    UNIT_STARTING,
    UNIT_SUCCESS,
    Entry,
    State,
    Unit,
    exits,
    seconds,
    starts,
    state_of,
    values_of,
)
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
        bound = unit.properties("BindReadOnlyPaths", quiet=False).get("BindReadOnlyPaths", "")
        digest = hashlib.sha256((subject.etc / "config.toml").read_bytes()).hexdigest()
        return ConfigInForce(unit.state(quiet=False).invocation, bound if str(subject.etc) in bound else "", digest)

    def traced_witness(self, witness: ConfigInForce, trace: Trace) -> Mapping[str, Json | Between]:
        return {
            "invocation": trace.shown(-3)["InvocationID"],
            "bound": trace.shown(-4)["BindReadOnlyPaths"],
            "config_sha256": hashlib.sha256(trace.written("config.toml").encode()).hexdigest(),
        }

    def witnessed(self, witness: ConfigInForce) -> bool:
        return f"/etc:{CONFIG_DIR}" in witness.bound

    def measure(self, subject: Subject) -> StayedDown:
        unit, host = subject.unit, subject.host
        end = host.wait_for(_END, UP_S, lambda: _end_of(subject.unit.state()), every=0.05)
        watch_s = 3 * self.deployed.restart_s
        at_end = unit.state(quiet=False)
        stayed_down = False
        if end == "failed":
            host.note("measuring", {"watching for a restart for seconds": watch_s})
            stayed_down = host.assert_never("a restart", watch_s + 0.1, lambda: _came_back(subject, at_end.restarts))
        last = unit.state(quiet=False)
        entries = unit.journal(self._cursor)
        return _stayed_down(end, at_end, last, entries, watch_s if stayed_down else 0.0)

    def traced(self, measured: StayedDown, trace: Trace) -> Mapping[str, Json | Between]:
        watch_s = 3 * self.deployed.restart_s
        end = _end_of(state_of(values_of(trace.whole(trace.waits(_END)[-1]))))
        waits = [wait for wait in trace.waits("a restart") if wait["data"]["came"] is False] if end == "failed" else []
        watched_s = watch_s if any(wait["data"]["seconds"] >= watch_s for wait in waits) else 0.0
        return figures_of(_stayed_down(end, trace.state(-2), trace.state(-1), trace.journal(), watched_s))

    def judge(self, measured: StayedDown) -> Sequence[Check]:
        watch_s = 3 * self.deployed.restart_s
        return (
            equal("ExecMainStatus", measured.exec_main_status, 12, guard=True),  # 0 while it starts once more
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
        return {"n": 1, "restarts": trace.restarts(), "active": trace.shown(-1)["ActiveState"]}

    def traced_witness(self, witness: Gone, trace: Trace) -> Mapping[str, Json | Between]:
        return {"pid": trace.state(0).pid, "invocation": trace.state(0).invocation}

    def judge(self, measured: Restarted) -> Sequence[Check]:
        return (
            equal("restarts after SIGKILL", measured.restarts, 1),
            equal("state after SIGKILL", measured.active, "active"),
        )


# What stands in for the engine: it is ready, then ends as its argument says, at its first start alone.
_PROGRAM = '''"""Be ready, then end with an exit code, or by a signal (negative); stay up when started again."""
import os
import pathlib
import signal
import socket
import sys

number, before = int(sys.argv[1]), pathlib.Path("/var/lib/hybrid-engine/ended" + sys.argv[1])
again = before.exists()
before.touch()
address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
    systemd.connect(address.replace("@", chr(0), 1) if address.startswith("@") else address)
    systemd.sendall(b"READY=1")
if again:
    while True:
        signal.pause()
if number < 0:
    os.kill(os.getpid(), -number)
sys.exit(number)
'''
# The exit codes of the README, and the signals by which a process ends that was not asked to; True: restarted.
ENDS = {0: False, 1: True, 10: True, 11: True, 12: False, 13: True, 14: True, -6: True, -9: True, -11: True}
RULES = {
    "Restart": "on-failure",
    "RestartPreventExitStatus": "12",
    "RestartForceExitStatus": "",
    "SuccessExitStatus": "",
    "StartLimitIntervalUSec": "0",
    "StartLimitAction": "none",
    "FailureAction": "none",
    "SuccessAction": "none",
}
# Of systemd 254 and later; before, what they change did not exist.
_LATER_RULES = {"RestartSteps": "0", "RestartMode": "normal"}
RESTART_S = 5.0  # RestartSec= may not be longer, whatever the unit says
_LATE_S = 1.0  # on top of RestartSec=
_TEMPLATE = "ends@"
_END = "its end"


@dataclass(frozen=True)
class EndsSeen:
    """ended: the status of each first end by the number in its unit's name, 0 for one that systemd takes as clean.

    rules: those that the copies are under.
    """

    ended: dict[str, int]
    rules: dict[str, str]


@dataclass(frozen=True)
class Restarts:
    """rules: of the unit under test. after_s: from each end to the next start, None where none came."""

    n: Count
    rules: dict[str, str]
    restart_s: Seconds
    after_s: dict[str, Seconds | None]
    active: dict[str, str]


class Ends(Case):
    """Every exit code on copies of the unit, side by side, whose program ends with it; and the rules word for word."""

    name = "exit codes"
    fault = f"a program in the engine's place ends with each of {', '.join(map(str, ENDS))} (negative: by that signal)"
    n_min = len(ENDS)

    def steady(self, subject: Subject) -> None:
        self._copy = copy = subject.copied_as(_TEMPLATE)
        self._units = {str(number): Unit(subject.host, _instance(copy.unit, number)) for number in ENDS}
        self._all = Unit(subject.host, _instance(copy.unit, "*"))

    def inject(self, subject: Subject) -> None:
        copy = self._copy
        copy.directives += ["ExecStart=", f"ExecStart=/usr/bin/python3 -ISB {CONFIG_DIR}/end.py %i"]
        copy.install()
        copy.put("end.py", _PROGRAM)
        self._cursor = self._all.cursor()
        subject.host.do("systemctl", "restart", *(unit.name for unit in self._units.values()), check=False)

    def witness(self, subject: Subject) -> EndsSeen:
        """Each has ended as it had to, under the restart rules of the unit under test."""

        def ended() -> dict[str, int]:
            first = {name: status for name, (status, _) in _ends(self._all.journal(self._cursor, quiet=True)).items()}
            return first if len(first) == len(ENDS) else {}

        first = subject.host.wait_for("the end of each", UP_S, ended, every=0.1)
        return EndsSeen(first, _rules_of(self._units["12"].properties(*_NAMES, quiet=False)))

    def traced_witness(self, witness: EndsSeen, trace: Trace) -> Mapping[str, Json | Between]:
        ended = {name: status for name, (status, _) in _ends(trace.journal()).items()}
        return {"ended": ended, "rules": _rules_of(trace.shown(0))}

    def witnessed(self, witness: EndsSeen) -> bool:
        statuses = witness.ended.items()
        each = witness.ended.keys() == set(_NUMBERS) and bool(witness.rules)
        return each and all(status in (0, int(name)) for name, status in statuses)

    def measure(self, subject: Subject) -> Restarts:
        stays = [self._units[str(number)] for number, restarted in ENDS.items() if not restarted]
        seconds_ = min(self.deployed.restart_s, RESTART_S) + _LATE_S
        subject.host.assert_never("a start of those that stay down", seconds_, lambda: _any_running(stays))
        after = {name: after_s for name, (_, after_s) in _ends(self._all.journal(self._cursor)).items()}
        active = {name: unit.state(quiet=False).active for name, unit in self._units.items()}
        shown = subject.unit.properties(*_NAMES, quiet=False)
        return Restarts(len(after), _rules_of(shown), seconds(shown["RestartUSec"]), after, active)

    def traced(self, measured: Restarts, trace: Trace) -> Mapping[str, Json | Between]:
        shown, ends = trace.shown(-1), _ends(trace.journal())
        rules, states = _rules_of(shown), [trace.shown(number - len(ENDS) - 1) for number in range(len(ENDS))]
        if _rules_of(trace.shown(0)) != rules:
            raise Untraced("the copies had other restart rules than the unit")
        return {
            "n": len(ends),
            "rules": rules,
            "restart_s": seconds(shown["RestartUSec"]),
            "after_s": {name: after_s for name, (_, after_s) in ends.items()},
            "active": {name: state["ActiveState"] for name, state in zip(_NUMBERS, states, strict=True)},
        }

    def judge(self, measured: Restarts) -> Sequence[Check]:
        promised = {**RULES, **{name: value for name, value in _LATER_RULES.items() if name in measured.rules}}
        others = {name: value for name, value in measured.rules.items() if promised.get(name) != value}
        missing = sorted(promised.keys() - measured.rules.keys())
        restarted = sorted(int(name) for name, after_s in measured.after_s.items() if after_s is not None)
        latest = max((after_s for after_s in measured.after_s.values() if after_s is not None), default=None)
        down = {str(number): measured.active.get(str(number)) for number, again in ENDS.items() if not again}
        return (
            equal("restart rules other than promised", others or missing or "none", "none", guard=True),
            at_most("RestartSec in force (s)", measured.restart_s, RESTART_S, guard=True),
            equal("restarted after", restarted, sorted(n for n, again in ENDS.items() if again), guard=True),
            at_most("seconds to the next start", latest, min(self.deployed.restart_s, RESTART_S) + _LATE_S, guard=True),
            equal("state after 0 and 12", down, {"0": "inactive", "12": "failed"}, guard=True),
        )

    def release(self, subject: Subject) -> None:
        subject.host.do("systemctl", "stop", self._all.name, check=False)


_NUMBERS = [str(number) for number in ENDS]
_NAMES = (*RULES, *_LATER_RULES, "RestartUSec")


def _instance(template: Unit, what: int | str) -> str:
    return template.name.replace("@", f"@{what}")


def _rules_of(shown: Mapping[str, str]) -> dict[str, str]:
    return {name: shown[name] for name in (*RULES, *_LATER_RULES) if name in shown}


def _any_running(units: Sequence[Unit]) -> bool:
    return any(unit.state().active not in ("failed", "inactive") for unit in units)


def _ends(entries: Sequence[Entry]) -> dict[str, tuple[int, float | None]]:
    """By the number in a unit's name: how its first run ended, and after how many seconds the next one began."""
    result: dict[str, tuple[int, float | None]] = {}
    for name in _NUMBERS:
        own = [entry for entry in entries if f"{_TEMPLATE}{name}." in entry.unit]
        clean = [(entry.mono_s, 0) for entry in own if entry.message_id == UNIT_SUCCESS]
        for at_s, status in sorted(exits(own) + clean)[:1]:
            later = [entry.mono_s for entry in own if entry.message_id == UNIT_STARTING and entry.mono_s > at_s]
            result[name] = status, round(later[0] - at_s, 3) if later else None
    return result


def _end_of(now: State) -> str:
    """ "failed": it stays down, so far. "auto-restart": systemd is about to try again, which is an answer too."""
    if now.active == "failed" or now.running:
        return now.active
    return now.sub if now.sub == "auto-restart" else ""


def _stayed_down(end: str, at_end: State, last: State, entries: Sequence[Entry], watched_s: float) -> StayedDown:
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
        watched_s=watched_s,
        said=messages[:3],
    )


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
    bad = [result for result in results if result.case not in (ConfigCheck.name, Control.name, Ends.name)]
    held = sum(result.verdict == "PASS" for result in bad)
    return f"{held} of {len(bad)} bad configs ended 12 and stayed down; SIGKILL restarted: " + (
        "yes" if any(r.case == "control" and r.verdict == "PASS" for r in results) else "no"
    )


PROOF = Proof(
    name="exit12",
    claim="a config mistake ends the engine with 12 and the unit stays down; any other end is restarted",
    bound="ExecMainStatus=12, failed, 0 restarts in 3 x RestartSec; of all exit codes 0 and 12 alone stay down, the"
    f" others are restarted in RestartSec (at most {RESTART_S:g} s) + {_LATE_S:g} s, by the promised rules;"
    " `config check` says in a line what is wrong and what is allowed",
    fault="invalid TOML, an unknown key, an unknown mode, LIVE; control: SIGKILL; each exit code on a copy;"
    f" {len(WRONG)} wrong and {len(SOUND)} sound configurations for `config check`",
    seconds=18,
    cases=lambda deployed: [*bad_configs(deployed), ConfigCheck(deployed), Control(deployed), Ends(deployed)],
    on_copies=[*(name for name, *_ in _BAD[1:]), ConfigCheck.name],
    mutants=[
        with_directives(
            "restarts-on-12", "RestartPreventExitStatus= emptied", bad_configs, "RestartPreventExitStatus="
        ),
        with_directives("stays-down-on-11", "RestartPreventExitStatus=11", Ends.alone),
    ],
    headline=headline,
    host_word={"witness.gone": "what /proc showed of the killed process"},
)
