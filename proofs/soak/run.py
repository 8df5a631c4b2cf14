"""The soak as a case of the proofs' frame: its fault is time, its measurement is watching and deciding."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Case, Deployed, NotSteady, Proof
from proofs.experiment.measurements import Figures
from proofs.experiment.subject import Subject
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.host.shell import Host, Interrupted, Waited
from proofs.host.unit import Unit
from proofs.runner.run_proof import Run
from proofs.soak import criteria, health_gate, report
from proofs.soak.controller import Controller, Decision, Does
from proofs.soak.log import Log
from proofs.soak.observer import Watch
from proofs.soak.options import AS_CONFIGURED, BEATS, Asked
from proofs.soak.override import Override
from proofs.verdict import Check, Json

NAME = "soak"
_HEALTHY_S = 60.0
_SAY_EVERY_S = 60.0
_SETTLED_S = 6.0
_UNDECIDED = ("activating", "deactivating", "reloading")


Speaker = Callable[[Recorder], Callable[[str], None]]


class Soak(Case):
    """One soak. speaker: makes what prints a line of progress; none where there is only something to judge."""

    name = NAME
    fault = "none but time: the engine at its ordinary work"
    n_min = 1  # an end by a fault needs no more; a PASS does, which is a check
    watch: Watch
    override: Override
    log: Log
    _subject: Subject

    def __init__(self, deployed: Deployed, asked: Asked | None = None, speaker: Speaker | None = None) -> None:
        super().__init__(deployed)
        self.asked, self._speaker = asked or Asked(), speaker
        self.controller = Controller(self.asked.seconds, self.asked.stall_s, False, 1)
        self.spans: list[report.Span] = []
        self.interrupted = False

    def steady(self, subject: Subject) -> None:
        """The health gate: well as it is deployed, and well again with what was asked for."""
        host, unit = subject.host, subject.unit
        self._subject = subject
        host.note("asked", self.asked.as_json())
        settings = health_gate.settings(host)
        assert self._speaker
        self.log = Log(
            host, self._speaker(host.recorder), str(settings["engine.ingest_mode"]), str(settings["engine.psi_actions"])
        )
        self.controller.sample_every = int(settings["engine.sample_every"])
        self.watch = Watch(unit, Store(Path(str(settings["app.db_path"]))))
        self._decide(Decision("STARTUP", f"{unit.name}: {' '.join(self.asked.words())}"))
        least_s = BEATS * float(settings["engine.heartbeat_interval_secs"])
        if self.asked.stall_s < least_s:
            raise self._refused(f"--stall-threshold-sec {self.asked.stall_s:g}: the engine may be silent for longer, "
                                f"by its heartbeat_interval_secs; at least {least_s:g}")  # fmt: skip
        if not self.watch.state.running:
            raise self._refused(f"health gate: {unit.name} is {self.watch.state.active}")
        if why_not := health_gate.unwell(host):
            raise self._refused(f"health gate: {why_not}")
        subject._lease.at_work = True
        self.override = Override(host, unit, subject._lease, self.deployed.owner)
        try:
            self._put_what_was_asked(host, unit)
        except Interrupted:
            self._decide(Decision("STOP", "asked to stop before it had begun"))
            raise
        self.watch = Watch(unit, self.watch.store)  # what came before was the gate
        self.spans.append(report.span_from_here(self.watch.store))
        self.controller.began(self.watch.state.invocation)

    def inject(self, subject: Subject) -> None:
        """Nothing is broken."""

    def witness(self, subject: Subject) -> Json:
        """It is at work: a tick is stored that had not been there."""
        first = self.watch.store.last_tick()

        def newer() -> int:
            last = self.watch.store.last_tick()
            return last if last > first else -int(subject.host.stop.asked)  # then there is none to wait for

        last = subject.host.wait("a new tick", self.asked.stall_s, newer, every=0.2)
        return {"from": first, "to": last, "invocation": self.watch.state.invocation}

    def witnessed(self, seen: Figures) -> bool:
        return seen.count("to") > seen.count("from") and bool(seen.text("invocation"))

    def measure(self, subject: Subject) -> dict[str, Json]:
        """Watch until it is over, and do what is decided."""
        host, watch, controller = subject.host, self.watch, self.controller
        say_at_s = _SAY_EVERY_S
        while not controller.over:
            due = time.monotonic() + self.asked.look_s
            seen = watch.look(host.stop.asked)
            for decision in controller.look(seen):
                self._decide(decision)
                self._do(host, decision)
            if seen.at_s >= say_at_s and not controller.over:
                say_at_s += _SAY_EVERY_S
                self._progress(seen.at_s)
            while not (controller.over or host.stop.asked) and (left_s := due - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.2))
        watched_s = round(time.monotonic() - watch.began_s, 3)
        self.interrupted = host.stop.asked
        host.stop.asked = False  # heard; what is left is to put the host back
        self._leave_as_found()
        entries = subject.unit.journal(watch.cursor)  # once more, in whole: what the verifier reads
        measured: dict[str, Json] = {
            **report.figures(watch, controller, self.spans, watched_s),
            **report.of_journal(entries, round(watch.began_s, 3), watched_s),
            "by_operator": controller.over == "STOP" or seen.abort,
            "on_the_exchange_asked_for": self.log.mode == "MOCK_WS" or self.override.exchange is None,
            "settings": self.override.told, "stopped": self.override.in_force, "exit_code": self._stop_ours(host),
        }  # fmt: skip
        for line in report.lines(measured):
            self.log.say(line)
        return measured

    def judge(self, measured: Figures) -> Sequence[Check]:
        return criteria.checks(measured)

    def traced(self, measured: Figures, trace: Trace) -> Mapping[str, Json | Between]:
        return report.of_journal(trace.journal(), measured.number("began_s"), measured.number("watched_s"))

    def release(self, subject: Subject) -> None:
        if hasattr(self, "override"):
            self.override.end()

    def _refused(self, reason: str) -> NotSteady:
        self._decide(Decision("ABORT", reason))
        self._leave_as_found()
        return NotSteady(reason)

    def _put_what_was_asked(self, host: Host, unit: Unit) -> None:
        """Where that is another psi_actions or another market than the operator's. Raises NotSteady, Interrupted."""
        asked, override, log = self.asked, self.override, self.log
        if asked.psi_actions not in (AS_CONFIGURED, log.psi_actions):
            log.psi_actions = asked.psi_actions
            override.set("engine.psi_actions", asked.psi_actions)
        if asked.mode not in (AS_CONFIGURED, log.mode):
            log.mode = asked.mode
            self.watch.over_to(override.onto_scratch())
            override.set("engine.ingest_mode", asked.mode)
            if asked.mode == "MOCK_WS":
                override.onto_mock()
        self.controller.mock = log.mode == "MOCK_WS"
        if override.in_force:
            override.put()
            self._decide(Decision("ENGINE_RESTART", f"to begin with {override.told}"))
            host.do("systemctl", "restart", unit.name)
            try:
                host.wait("the engine healthy with what was asked", _HEALTHY_S, lambda: self._healthy(host, unit))
            except Waited as error:
                raise self._refused(f"health gate: {error}") from None

    def _healthy(self, host: Host, unit: Unit) -> bool:
        given = {**self.override.settings, "HYBRID_ENGINE__APP__DB_PATH": str(self.watch.store.path)}
        words = [f"{name}={value}" for name, value in given.items()]
        return unit.state().running and host.look("env", *words, *Run.HEALTH, quiet=True).rc == 0

    def _decide(self, decision: Decision) -> None:
        self.log.write(decision, self.controller.sample_every, self.watch)

    def _progress(self, at_s: float) -> None:
        restarts = ", ".join(f"{cause} {n}" for cause, n in self.controller.restarts.items()) or "no restarts"
        self.log.say(f"{at_s:.0f} of {self.asked.seconds:g} s, newest tick {self.watch.tick}, {restarts}")

    def _do(self, host: Host, decision: Decision) -> None:
        does, unit = decision.does, self.watch.unit
        if does is Does.SAMPLE:
            self.override.set("engine.sample_every", self.controller.sample_every)
        elif does is Does.MOCK:
            if self.override.scratch is None:
                self.watch.over_to(self.override.onto_scratch())
                self.spans.append(report.Span(self.watch.store, 0, 0))
            self.override.onto_mock()
            self.log.mode = "MOCK_WS"
        elif does is not Does.RESTART:
            return
        if does is not Does.RESTART:
            self.override.put()
        state = unit.state()
        if does is Does.SAMPLE:
            if not state.pid:
                return  # systemd starts it in a moment, with what is in force by then
            self._decide(Decision("ENGINE_RESTART", f"to put {self.override.told} in force"))
        self.controller.ended_it(state.invocation)
        host.do("systemctl", "restart", unit.name, check=False)

    def _leave_as_found(self) -> None:
        """An engine that the soak did nothing to is left in the state that it got into by itself."""
        lease, host, unit = self._subject._lease, self._subject.host, self._subject.unit
        if lease.disturbed_mono:
            return
        try:  # between two tries it is neither up nor down
            host.wait("an end of its starting", _SETTLED_S, lambda: unit.state().active not in _UNDECIDED)
        except Waited:
            pass
        if (active := unit.state().active) != lease.before["active"]:
            lease.will_find(host, active)

    def _stop_ours(self, host: Host) -> int | None:
        """Where settings of the soak are in force its engine is stopped as an operator would; its exit code."""
        if not self.override.in_force:
            return None
        self._decide(Decision("ENGINE_STOP", f"its work with {self.override.told} is over"))
        host.do("systemctl", "stop", self.watch.unit.name, check=False)
        runs = report.tried(lambda: self.watch.store.rows("SELECT exit_code FROM runs ORDER BY id DESC LIMIT 1"))
        return runs[0]["exit_code"] if runs else None


def cases(deployed: Deployed) -> Sequence[Case]:
    return [Soak(deployed)]


PROOF = Proof(
    name=NAME,
    claim="the engine does its ordinary work for as long as was asked, and is not ended by a fault of its own",
    bound=(
        f"no fault ends it, up {criteria.UP:g} %, "
        f"memory {criteria.RSS_ONCE_KB >> 10} MB + {criteria.RSS_KB_H >> 10} MB/h"
    ),
    fault=Soak.fault,
    seconds=7200,
    cases=cases,
    mutants=[],
    in_place=True,
    headline=criteria.headline,
)
