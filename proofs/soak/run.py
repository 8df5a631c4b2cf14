"""Runs a soak: from the command line into a unit, and there, under a lease, from the health gate to the verdict."""

import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from proofs.evidence.recorder import EVENTS, Recorder, utc_now
from proofs.evidence.terminal import complain, show
from proofs.experiment.case import NotSteady, Proof, judge
from proofs.experiment.in_place import InPlace
from proofs.experiment.timeline import Timeline
from proofs.host import deployed
from proofs.host.database import Store
from proofs.host.shell import Host, Interrupted, WaitTimeout
from proofs.restore.lease import SOAK_UNIT, unit_of
from proofs.runner import progress
from proofs.runner import run as runner
from proofs.runner.prerequisites import prerequisites
from proofs.runner.run_proof import Entry, Run, Session, run_leased
from proofs.soak import health_gate, log, statistics
from proofs.soak.controller import Controller, Decision, Effect, Observation
from proofs.soak.criteria import NAME, PROOF, SoakRules
from proofs.soak.exit_table import step_name
from proofs.soak.observer import ABORT_FILE, Observer
from proofs.soak.options import AS_CONFIGURED, HEARTBEATS, Options
from proofs.soak.override import Override, variables
from proofs.verdict import Json, Result, Verdict

_GRACE_S = 300.0  # how long a soak may take to end, after its time is over, before the lease ends it
_HEALTHY_S = 60.0
_PROGRESS_S = 60.0
_SETTLED_S = 6.0
_CHANGING = ("activating", "deactivating", "reloading")


def by_hand(options: Options, unit: str, git: str) -> int:
    """Run a soak in a transient unit and wait for its end; Ctrl-C stops it cleanly."""
    words = [NAME, "--inside", *options.words(), f"--git={git}", f"--unit={unit}"]
    return runner.in_a_unit(runner.new_run_id(), f"soak for {options.seconds:g} s", words, True)


def as_installed(unit: str) -> int:
    """Start hybrid-soak.service, with the options it was installed with, and print the run's id, for `follow`."""
    started = subprocess.run(["systemctl", "start", SOAK_UNIT], capture_output=True, text=True, check=False)
    argv = ["systemctl", "show", SOAK_UNIT, "--property=InvocationID", "--value"]
    invocation = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    if started.returncode != 0 or not invocation:
        reason = (started.stderr or "it has no invocation").strip()
        complain(f"{SOAK_UNIT} did not start: {reason}")
        return 2
    show(f"{NAME}-{invocation}")
    return 0


def inside(options: Options, unit: str, run_id: str, git: str) -> int:
    """What the unit runs: the soak. run_id: "" in hybrid-soak.service, whose invocation is part of the run's id."""
    if not run_id:
        run_id = f"{NAME}-{os.environ.get('INVOCATION_ID', '')}"
        if unit_of(run_id) != SOAK_UNIT:
            complain(f"--inside is for {SOAK_UNIT} alone; leave it out")
            return 2
        if refused(unit):
            return 2
        sys.stdout = _Tee(sys.stdout, progress.EVIDENCE_ROOT / run_id / progress.PROGRESS)
    soak, proof = Soak(options), replace(PROOF, seconds=options.seconds)
    code = runner.inside([proof], unit, run_id, runner.Origin(git), options.seconds + _GRACE_S, soak.run)
    return 130 if soak.interrupted else code


def refused(unit: str) -> bool:
    """Whether this host cannot be soaked now, with a line on stderr for each reason. Changes nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        items = prerequisites(Host(Recorder(Path(scratch) / EVENTS)), unit)
    reasons = [f"{item.name}: {item.found}: {item.remedy}" for item in items if not item.ok]
    if ABORT_FILE.exists():
        reasons.append(f"{ABORT_FILE} exists, with which the operator ends soaks: remove it first")
    for reason in reasons:
        complain(f"refused: {reason}")
    return bool(reasons)


class Soak:
    """One soak. interrupted: the operator asked it to stop."""

    interrupted = False
    mock_requested = False  # by the configuration or the options

    def __init__(self, options: Options) -> None:
        self.options = options
        self.spans: list[statistics.Span] = []

    def run(self, proof: Proof, run: Run) -> Entry:
        """Soak under a lease. Returns the entry of the statement, and raises Interrupted, as `run_proof` does."""
        return run_leased(proof, run, self._work)

    def _work(self, session: Session) -> list[Result]:
        """Soak, and judge what was measured. Raises Interrupted before the watch has begun, not later."""
        host, unit, owner, rules = session.host, session.unit, session.deployed.owner, SoakRules(session.deployed)
        self.host, self.unit, self.lease, self._print = host, unit, session.lease, session.run.say
        self.override = Override(host, unit, session.lease, owner)
        host.note("in force", {"cat": unit.cat()})
        self._say(f"{rules.name}: {rules.fault}")
        host.note("case", {"case": rules.name, "fault": rules.fault, "unit": unit.name, "n_min": rules.n_min})
        timeline = Timeline(InPlace(host, unit.name, session.lease, owner))
        try:
            result = self._watch_and_judge(rules)
            host.note("judged", result.as_json())
        finally:
            timeline.note(rules.name)
            if self.override.exchange:
                self.override.exchange.end()
        self._say(f"{rules.name}: {result.verdict}{': ' if result.reason else ''}{result.reason}")
        return [result]

    def _watch_and_judge(self, rules: SoakRules) -> Result:
        witness: Json = None
        try:
            self._begin()
            self.host.recorder.intent(f"fault: {rules.fault}", scope=self.host.scope)
            witness = self.host.note("witness", self._await_tick())
            return judge(rules, witness, self.host.note("measured", self._watch()))
        except NotSteady as error:
            return Result(rules.name, Verdict.INCONCLUSIVE, f"no steady state: {error}")
        except WaitTimeout as error:
            return Result(rules.name, Verdict.INCONCLUSIVE, f"no witness that the fault took place: {error}")
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - a checker that throws could not tell: never a PASS
            return Result(rules.name, Verdict.ERROR, f"{type(error).__name__}: {error}", witness=witness)

    def _begin(self) -> None:
        """The health gate: the engine is healthy as it is deployed, and again with the options in force.

        Raises:
            NotSteady: it is not, or cannot be watched with these options.
            Interrupted: the soak was asked to stop meanwhile.
        """
        host, unit, options = self.host, self.unit, self.options
        host.note("asked", asdict(options))
        settings = self.override.configured = health_gate.read_settings(host)
        self.controller = Controller(options.seconds, options.stall_s, False, int(settings["engine.sample_every"]))
        self.observer = Observer(unit, Store(Path(str(settings["app.db_path"]))))
        self._record(Decision("STARTUP", f"{unit.name}: {' '.join(options.words())}"))
        least_s = HEARTBEATS * float(settings["engine.heartbeat_interval_secs"])
        if options.stall_s < least_s:
            silence = f"the engine may be silent for longer, by its heartbeat_interval_secs; at least {least_s:g}"
            raise self._refuse(f"--stall-threshold-sec {options.stall_s:g}: {silence}")
        if not self.observer.state.running:
            raise self._refuse(f"health gate: {unit.name} is {self.observer.state.active}")
        if failing := health_gate.failing_checks(host):
            raise self._refuse(f"health gate: {failing}")
        self.lease.at_work = True
        try:
            self._apply_options()
        except Interrupted:
            self._record(Decision("STOP", "asked to stop before it had begun"))
            raise
        self.observer = Observer(unit, self.observer.store)  # what the gate observed is no part of the watch
        self.spans.append(statistics.span_from_now(self.observer.store))
        self.controller.newest = self.observer.state.invocation

    def _apply_options(self) -> None:
        """Restart the engine with psi_actions and mode where they are not the configured ones."""
        options, override = self.options, self.override
        if options.psi_actions not in (AS_CONFIGURED, override.value("engine.psi_actions")):
            override.settings["engine.psi_actions"] = options.psi_actions
        if options.mode not in (AS_CONFIGURED, override.value("engine.ingest_mode")):
            self.observer.switch_store(override.use_scratch_database())
            override.settings["engine.ingest_mode"] = options.mode
            if options.mode == "MOCK_WS":
                override.use_mock_exchange()
        self.controller.mock = self.mock_requested = override.value("engine.ingest_mode") == "MOCK_WS"
        if override.settings:
            override.install()
            self._record(Decision("ENGINE_RESTART", f"to begin with {override.description}"))
            self.host.do("systemctl", "restart", self.unit.name)
            try:
                self.host.wait_for("the engine healthy with what was asked", _HEALTHY_S, self._is_healthy)
            except WaitTimeout as error:
                raise self._refuse(f"health gate: {error}") from None

    def _is_healthy(self) -> bool:
        words = variables({**self.override.settings, "app.db_path": str(self.observer.store.path)})
        return self.unit.state().running and self.host.look("env", *words, *deployed.HEALTH, quiet=True).rc == 0

    def _refuse(self, reason: str) -> NotSteady:
        self._record(Decision("ABORT", reason))
        self._accept_state()
        return NotSteady(reason)

    def _await_tick(self) -> Json:
        """The witness that the engine is at work: a new tick is stored. Raises WaitTimeout."""
        first = self.observer.store.last_tick()

        def newer() -> int:
            last = self.observer.store.last_tick()
            return last if last > first else -int(self.host.stop.asked)  # a soak that is to stop waits no longer

        last = self.host.wait_for("a new tick", self.options.stall_s, newer, every=0.2)
        return {"from": first, "to": last, "invocation": self.observer.state.invocation}

    def _watch(self) -> dict[str, Json]:
        """Observe, decide and act until the soak has an outcome. Returns the figures, as JSON."""
        stop, observer, controller = self.host.stop, self.observer, self.controller
        progress_s = _PROGRESS_S
        while not controller.outcome:
            due = time.monotonic() + self.options.look_s
            observation = observer.look(stop.asked)
            for decision in controller.decide(observation):
                self._record(decision)
                self._act_on(decision)
            if observation.at_s >= progress_s and not controller.outcome:
                progress_s += _PROGRESS_S
                restarts = ", ".join(f"{cause} {n}" for cause, n in controller.restarts.items()) or "no restarts"
                at = f"{observation.at_s:.0f} of {controller.seconds:g} s"
                self._say(f"{at}, newest tick {observer.tick}, {restarts}")
            while not (controller.outcome or stop.asked) and (left_s := due - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.2))
        watched_s = round(time.monotonic() - observer.began_s, 3)
        self.interrupted = stop.asked
        stop.asked = False  # it has stopped; a set flag would interrupt the clean-up
        self._accept_state()
        figures = self._figures(observation, watched_s)
        for line in statistics.lines(figures):
            self._say(line)
        return figures

    def _figures(self, last: Observation, watched_s: float) -> dict[str, Json]:
        entries = self.unit.journal(self.observer.cursor)  # the whole of it again, recorded: the verifier reads that
        return {
            **statistics.figures(self.observer, self.controller, self.spans, watched_s),
            **statistics.of_journal(entries, round(self.observer.began_s, 3), watched_s),
            "by_operator": self.controller.outcome == "STOP" or last.abort,
            "on_the_exchange_asked_for": self.mock_requested or self.override.exchange is None,
            "settings": self.override.description,
            "stopped": bool(self.override.settings),
            "exit_code": self._stop_engine(),
        }

    def _record(self, decision: Decision) -> None:
        """Record a decision with what is in force; the pressure is the engine's own, or that of the last look."""
        observer, folder = self.observer, self.host.recorder.path.parent
        raw = decision.pressure or {"psi": observer.pressure_lines("unit "), "host_psi": observer.pressure_lines()}
        every = max(self.controller.sample_every, observer.sample_every or 1)
        line = {
            "timestamp": utc_now(),
            "run_id": folder.name,
            "ingest_mode": self.override.value("engine.ingest_mode"),
            "psi_actions": self.override.value("engine.psi_actions"),
            "state": step_name(every),
            "current_sample_every": every,
            "action": decision.action,
            "reason": decision.reason,
            "psi": raw["psi"],
            "host_psi": raw["host_psi"],
        }
        log.append(folder, self.host.note("decision", line))
        self._say(f"{decision.action}: {decision.reason}")

    def _say(self, text: str) -> None:
        self._print(f"soak: {text}")

    def _act_on(self, decision: Decision) -> None:
        effect, override = decision.effect, self.override
        if effect in (Effect.NOTHING, Effect.END):
            return
        if effect is Effect.SAMPLE:
            override.settings["engine.sample_every"] = str(self.controller.sample_every)
            override.install()
        elif effect is Effect.MOCK:
            if override.scratch is None:
                self.observer.switch_store(override.use_scratch_database())
                self.spans.append(statistics.Span(self.observer.store, 0, 0))
            override.use_mock_exchange()
            override.install()
        state = self.unit.state()
        if effect is Effect.SAMPLE:
            if not state.pid:
                return  # systemd is about to start it, with the settings that are in force now
            self._record(Decision("ENGINE_RESTART", f"to put {override.description} in force"))
        self.controller.expected.add(state.invocation)
        self.host.do("systemctl", "restart", self.unit.name, check=False)

    def _accept_state(self) -> None:
        """Have the undo leave an engine that the soak did not touch in the state that it reached by itself."""
        if self.lease.disturbed_mono:
            return
        with suppress(WaitTimeout):  # between two tries of systemd's it is neither up nor down
            self.host.wait_for("an end of its starting", _SETTLED_S, lambda: self.unit.state().active not in _CHANGING)
        if (active := self.unit.state().active) != self.lease.before["active"]:
            self.lease.will_find(self.host, active)

    def _stop_engine(self) -> int | None:
        """Stop an engine that runs with the soak's settings as an operator would; its exit code, None for any other."""
        if not self.override.settings:
            return None
        self._record(Decision("ENGINE_STOP", f"its work with {self.override.description} is over"))
        self.host.do("systemctl", "stop", self.unit.name, check=False)
        runs = statistics.rows_or_none(self.observer.store, "SELECT exit_code FROM runs ORDER BY id DESC LIMIT 1")
        return runs[0]["exit_code"] if runs else None


class _Tee(io.TextIOBase):
    """Writes to the journal and to a file, which `follow` reads."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._streams = (stream, path.open("a"))

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)
