"""pressure: short of CPU in its own cgroup the engine keeps fewer trades, step by step, and all again when calm."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from proofs.catalog._checks import Counters, at_least, at_most, equal, figures, imbalance
from proofs.catalog._steady import OnExchanges, await_ticks
from proofs.catalog.mutations import patched, with_directives
from proofs.experiment.case import Deployed, NotSteady, Proof
from proofs.experiment.cpu_load import Burners, cgroup, some_avg10
from proofs.experiment.measurements import Count, Seconds, encode
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace, mono_s
from proofs.host import shell
from proofs.host.database import Row
from proofs.host.shell import Host, pressure, read_text
from proofs.host.unit import Entry, engine_lines
from proofs.verdict import Check, Json, Result

RATE = 100  # trades a second: few enough that their own traffic is no pressure on a busy host
LEAST = 1500  # trades sent over the whole case
AFTER = 100  # trades sent when all is over
LIMIT = 50.0  # percent of the last 10 s: above what a busy host alone makes of the engine's own cgroup
UP, DOWN = [5, 10, 20], [10, 5, 1]
FIRST_S = 5.0  # psi_trip_s and two looks, on a host that is busy
PAUSE_S = 3.0  # psi_cooldown_s
SOONER_S = 0.5  # how much less may be between two log lines, which are stamped a little after the decision
STEPS_S = FIRST_S + 4 * PAUSE_S  # three steps, on a host that is busy
_OVER_S, _CALM_S = 30.0, 60.0
_KINDS = ("cpu", "memory", "io")
_DECISION = "pressure decision"
_OVER, _CALM = "pressure over the limit", "calm again"  # what is waited for
_LASTING = 3  # spacings that are equal; at a boundary between two samplings stands another, once
# The engine's log lines that report a new sampling, with the `received` that it begins at; and their field for it.
_FIELDS = {"reloaded": "sample_every", _DECISION: "current_sample_every"}


@dataclass(frozen=True)
class Stalled:
    """burning: pids of what burns CPU in the cgroup. cpu_pressure: the kernel's lines of that cgroup."""

    burning: list[Count]
    cgroup: str
    cpu_pressure: list[str] = field(metadata={"key": "cpu.pressure"})


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One line of the engine's: so long after the fault, with the kernel's lines that it decided by.

    would: the action, where the engine only logs. received: where it took effect; None where nothing changed.
    """

    after_s: float
    sample_every: Count | None
    action: str
    would: str | None
    state: str | None
    received: Count | None
    reason: str | None
    psi: dict[str, list[str] | None] | None
    host_psi: dict[str, list[str] | None] | None

    def is_borne_out(self) -> bool:
        """Its raw lines are there, the unit's and the host's, and the unit's say what it decided by."""
        psi, host = self.psi or {}, self.host_psi or {}
        if not all(psi.get(kind) and host.get(kind) for kind in _KINDS):
            return False
        cpu = avg10_of(psi["cpu"] or []) or 0.0
        down = "THROTTLE_DOWN" in (self.action, self.would)
        return cpu < LIMIT / 2 if down else cpu > LIMIT


@dataclass(frozen=True, kw_only=True)
class Throttled:
    """kept: each how many-th trade was stored, step by step. spans: the same by the engine's lines, with the trade that
    each begins after. after_reload: sample_every in force then. over_s, calm_s: when pressure was over the limit, and
    calm again. pressed_again: the most pressure after that, in percent."""

    n: Count
    stored: Count
    ids_match: bool
    kept: list[Count]
    spans: list[tuple[Count, Count]]
    decisions: list[Decision]
    after_reload: list[Count]
    over_s: Seconds
    calm_s: Seconds | None
    pressed_again: Seconds
    restarted: bool
    exit_code: int | None
    store: Counters


class Pressed(OnExchanges):
    name = "CPU"
    fault = "processes that burn CPU in the unit's own cgroup, more than there are CPUs for, and later their end"
    n_min = LEAST

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(deployed)
        self.burners: Burners | None = None

    def steady(self, subject: Subject) -> None:
        """Every trade is kept, and what the kernel says of the unit's cgroup is calm."""
        ladder = {
            "psi_actions": "on",
            "psi_cpu_limit": LIMIT,
            "psi_trip_s": 1,
            "psi_calm_s": 1,
            "psi_cooldown_s": PAUSE_S,
        }
        self.start(subject, {"rate": RATE}, heartbeat_interval_secs=0.5, flush_interval_ms=200, **ladder)
        await_ticks(subject)
        self.old = subject.unit.state(quiet=False)
        folder = cgroup(self.old.control_group)
        if folder is None or some_avg10(folder) is None:
            raise NotSteady(f"the pressure of {self.old.control_group} cannot be read")
        self.folder: Path = folder
        subject.host.wait_for("calm", 30, self._calm, every=0.2)
        if self._lines(subject, _DECISION):
            raise NotSteady("the host alone presses the unit: it throttled before there was a fault")

    def inject(self, subject: Subject) -> None:
        self.t0 = time.monotonic()
        self.burners = Burners(subject.host, self.folder)

    def witness(self, subject: Subject) -> Stalled | None:
        """The kernel's word, read from outside: they run in the unit's cgroup, and it is stalled over the limit."""
        assert self.burners
        subject.host.wait_for(_OVER, _OVER_S, lambda: self._avg10() > LIMIT, every=0.1)
        self.over = time.monotonic()
        running = self.burners.running()
        if len(running) < len(self.burners.pids):
            return None
        lines = subject.host.look("grep", "", str(self.folder / "cpu.pressure")).stdout.splitlines()
        return Stalled(running, str(self.folder), lines)

    def traced_witness(self, witness: Stalled, trace: Trace) -> Mapping[str, Json | Between]:
        return {"cgroup": trace.event("burners")["data"]["cgroup"], "cpu.pressure": trace.text("grep").splitlines()}

    def witnessed(self, witness: Stalled) -> bool:
        over = (avg10_of(witness.cpu_pressure) or 0.0) > LIMIT
        return over and bool(witness.burning and witness.cgroup)

    def measure(self, subject: Subject) -> Throttled:
        host, unit = subject.host, subject.unit
        assert self.burners
        host.poll("the top step", STEPS_S, lambda: self._spans(subject)[-1][1] == UP[-1], every=0.2)
        host.note("pressure", pressure(self.old.control_group))
        self.burners.end()
        # It takes seconds for an average to be calm again. A reload meanwhile does not undo the step.
        host.do("systemctl", "reload", unit.name)
        host.poll("the reload", 5, lambda: self._lines(subject, "reloaded"), every=0.1)
        calm = time.monotonic() if host.poll(_CALM, _CALM_S, self._calm, every=0.1) else None
        pressed_again = [0.0]  # pressure after that: no fault of ours

        def all_kept() -> bool:
            pressed_again.append(self._avg10())
            return self._spans(subject)[-1][1] == DOWN[-1]

        if calm is not None:
            host.poll("all trades kept", STEPS_S, all_kept, every=0.2)
        until = self.counted("sent") + AFTER
        host.wait_for("trades after it", 20, lambda: self.counted("sent") >= until, every=0.1)
        self.exchange.tell("pause")
        sent = int(self.exchange.stats()["sent"])
        self.await_counted(subject, sent)
        state = unit.state(quiet=False)
        host.do("systemctl", "stop", unit.name)
        run = subject.recorded().runs()[-1]
        ids = subject.recorded().exchange_ids(int(run["id"]))
        entries, restarted = unit.journal(self.cursor), state.invocation != self.old.invocation
        over_s, calm_s = round(self.over - self.t0, 3), round(calm - self.t0, 3) if calm else None
        return Throttled(
            **_throttled(sent, run, ids, entries, self.old.invocation, self.t0),
            over_s=over_s,
            calm_s=calm_s,
            pressed_again=max(pressed_again),
            restarted=restarted,
        )

    def traced(self, measured: Throttled, trace: Trace) -> Mapping[str, Json | Between]:
        began = mono_s(trace.intent("fault: ")), mono_s(trace.intent("burn CPU"))
        run, old = trace.store().runs()[-1], trace.state(0)
        ids = trace.store().exchange_ids(int(run["id"]))
        entries, calm = trace.journal(), trace.waits(_CALM)[-1]
        again = _throttled(trace.stats("mock")["sent"], run, ids, entries, old.invocation, 0.0)
        decisions = [{**encode(one), "after_s": Between.since(began, one.after_s)} for one in again.pop("decisions")]
        return {
            **{name: encode(figure) for name, figure in again.items()},
            "decisions": decisions,
            "restarted": trace.state(-1).invocation != old.invocation,
            "over_s": Between.since(began, *trace.around(trace.waits(_OVER)[-1])),
            "calm_s": Between.since(began, *trace.around(calm)) if calm["data"]["came"] else None,
        }

    def judge(self, measured: Throttled) -> Sequence[Check]:
        store, decisions, stored, sent = measured.store.known(), measured.decisions, measured.stored, measured.n
        applied = [one for one in decisions if one.received is not None]
        ups, downs = ([one for one in applied if one.action == f"THROTTLE_{way}"] for way in ("UP", "DOWN"))
        up, down = ([one.sample_every for one in steps] for steps in (ups, downs))
        first, last = _after(ups[:1], measured.over_s), _after(downs[-1:], measured.calm_s)
        pauses = [later.after_s - earlier.after_s for earlier, later in pairwise(applied)]
        losses = [store[name] for name in ("dropped", "rejected", "duplicate")]
        unproven = [one.after_s for one in decisions if not one.is_borne_out()]
        spans_text = [list(span) for span in measured.spans]
        # Without calm, or with somebody else's pressure after it, nothing can be said of the way down.
        calm = measured.calm_s is not None and measured.pressed_again <= LIMIT
        way_down = (
            equal("steps down", down, DOWN, guard=True),
            at_most("last step down (s)", last, STEPS_S, guard=True),
            equal("kept one of", measured.kept, [1, *UP, *DOWN], guard=True),
        )
        return (
            equal("steps up", up, UP, guard=True),
            at_most("first step (s)", first, FIRST_S, guard=True),
            at_least(
                "shortest pause between steps (s)",
                round(min(pauses), 3) if pauses else None,
                PAUSE_S - SOONER_S,
                guard=True,
            ),
            equal("in force after a reload", measured.after_reload, UP[-1:], guard=True),
            *(check if calm else replace(check, ok=None) for check in way_down),
            Check("which trades", f"{stored} of {sent}", f"by {spans_text}", measured.ids_match, guard=True),
            equal("decisions without their pressure", unproven, []),
            at_least("decisions", len(decisions), len(UP)),
            equal("received", store["received"], sent),
            equal("dropped, rejected, duplicate", losses, [0, 0, 0]),
            equal("accounting balances", imbalance(store) == 0, True),
            equal("restarted", measured.restarted, False),
            equal("exit code", measured.exit_code, 0),
        )

    def release(self, subject: Subject) -> None:
        if self.burners:
            self.burners.end()
        super().release(subject)

    def _avg10(self) -> float:
        return some_avg10(self.folder) or 0.0

    def _calm(self) -> bool:
        value = some_avg10(self.folder)
        return value is not None and value < LIMIT / 2

    def _lines(self, subject: Subject, message: str) -> list[tuple[Entry, dict[str, Json]]]:
        return engine_lines(subject.unit.journal(self.cursor, quiet=True), message, self.old.invocation)

    def _spans(self, subject: Subject) -> list[tuple[int, int]]:
        return spans(subject.unit.journal(self.cursor, quiet=True), self.old.invocation, 1)


def _throttled(
    sent: int, run: Row, ids: Sequence[int | None], entries: Sequence[Entry], invocation: str, t0: float
) -> dict[str, Any]:
    """The figures of a Throttled that come from the exchange, the store and the journal. t0: of the fault."""
    numbers, steps = [number for number in ids if number is not None], spans(entries, invocation, 1)
    lines = {name: engine_lines(entries, name, invocation) for name in _FIELDS}
    return {
        "n": sent,
        "stored": len(ids),
        "ids_match": ids == due(steps, sent),
        "kept": spacings(numbers),
        "spans": steps,
        "decisions": [_decision(entry, fields, t0) for entry, fields in lines[_DECISION]],
        "after_reload": [fields["sample_every"] for _, fields in lines["reloaded"]],
        "exit_code": run["exit_code"],
        "store": Counters.of(run),
    }


def _decision(entry: Entry, fields: dict[str, Json], t0: float) -> Decision:
    logged = {key: fields.get(key) for key in ("would", "state", "received", "reason", "psi", "host_psi")}
    every, after_s = fields.get("current_sample_every"), round(entry.mono_s - t0, 3)
    return Decision(after_s=after_s, sample_every=every, action=fields["action"], **logged)


def spans(entries: Iterable[Entry], invocation: str, at_first: int) -> list[tuple[int, int]]:
    """(received at its beginning, each how many-th trade is kept from there), by the lines of that run."""
    spans = [(0, at_first)]
    for entry in entries:
        fields = entry.fields() if entry.invocation == invocation else {}
        key = _FIELDS.get(str(fields.get("message")))
        if key and fields.get("received") is not None:
            spans.append((int(fields["received"]), int(fields[key])))
    return spans


def due(spans: Sequence[tuple[int, int]], sent: int) -> list[int]:
    """The trades, numbered from 1, that are kept when each span keeps each N-th from its beginning on.

    >>> due([(0, 1), (3, 5), (15, 2)], 20)
    [1, 2, 3, 8, 13, 17, 19]
    """
    ends = [start for start, _ in spans[1:]] + [sent]
    return [
        number
        for (start, every), end in zip(spans, ends, strict=True)
        for number in range(start + every, end + 1, every)
    ]


def spacings(ids: Sequence[int]) -> list[int]:
    """How far apart stored trades are, in order of time; what only stands at a boundary is left out.

    >>> spacings([1, 2, 3, 4, 5, 12, 17, 22, 27, 28, 29, 30, 31])
    [1, 5, 1]
    """
    steps = [later - earlier for earlier, later in pairwise(ids)]
    lasting = [step for step, run in groupby(steps) if len(list(run)) >= _LASTING]
    return [step for step, _ in groupby(lasting)]


def avg10_of(lines: Sequence[str]) -> float | None:
    """Of the kernel's lines of a pressure file: `some`, in percent of the last 10 s."""
    return shell.some_avg10("\n".join(lines))


def _after(step: Sequence[Decision], since_s: float | None) -> float | None:
    """Seconds from then to that step; None when either was not."""
    return None if since_s is None or not step else round(step[0].after_s - since_s, 3)


def _not_applicable(host: Host) -> str:
    return "" if read_text("/proc/pressure/cpu") else "the kernel of this host knows no pressure (CONFIG_PSI, psi=1)"


def headline(results: Sequence[Result]) -> str:
    measured = figures(results)
    kept = " ".join(f"1/{every}" for every in measured.get("kept one of") or ["?"])
    first, last = measured.get("first step (s)"), measured.get("last step down (s)")
    return f"kept {kept}; first step {first} s after the limit, all kept {last} s after calm"


_LOGONLY = "Environment=HYBRID_ENGINE__ENGINE__PSI_ACTIONS=logonly"
PROOF = Proof(
    name="pressure",
    claim="pressure of the unit's own cgroup thins the trades out step by step, exactly, and lets go when it is over",
    bound=f"first step in {FIRST_S:g} s, one of {', '.join(map(str, UP))} exactly, all again {STEPS_S:g} s after calm",
    fault=Pressed.fault,
    seconds=55,
    cases=Pressed.alone,
    mutants=[
        with_directives("logonly", "psi_actions = logonly: it says what it would do", Pressed.alone, _LOGONLY),
        patched("pressure/latched", Pressed.alone),
    ],
    notes=f"psi_cpu_limit is {LIMIT:g} and the ladder's times are 1 s, its pause {PAUSE_S:g} s, in the scratch config",
    not_applicable=_not_applicable,
    headline=headline,
    host_word={
        "pressed_again": "pressure while nothing was to press, by the proof's own looks",
        "witness.burning": "which of the programs ran, by /proc",
    },
)
