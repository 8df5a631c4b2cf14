"""Watches the street: signals, heartbeat, watchdog, reload, and how the run ends.

The main thread does nothing but watch. Signal handlers set flags and wake it. What ends the run early is raised here,
after the street was drained as for a stop.
"""

import faulthandler
import gc
import queue
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hybrid_engine.config.load import KEYS, Config
from hybrid_engine.pipeline import Pipeline
from hybrid_engine.pressure import Pressure
from hybrid_engine.runtime import log as journal
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import ConfigError, EngineError, Exit, OverloadError, StorageError
from hybrid_engine.runtime.log import Logger
from hybrid_engine.runtime.release import this_release
from hybrid_engine.runtime.systemd import Notifier
from hybrid_engine.stages.adapter import ExecutionAdapter
from hybrid_engine.stages.channel import BEAT_S
from hybrid_engine.stages.strategy import load
from hybrid_engine.storage.database import Locked
from hybrid_engine.storage.store import RunInfo, Store

PING_EVERY_S = 0.5

log = Logger("hybrid_engine")


class Engine:
    """One run. `adapter` executes its orders; `reload` re-reads the configuration (SIGHUP), may raise ConfigError."""

    def __init__(self, config: Config, adapter: ExecutionAdapter, reload: Callable[[], Config]) -> None:
        self._config = config
        self._adapter = adapter
        self._reload = reload
        self._pressure = Pressure(config.settings.engine)
        # Not an Event: a signal handler runs in the thread that waits, which may hold the Event's lock just then.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop_asked = False
        self._reload_asked = False
        self._notifier = Notifier()
        self._next_ping = 0.0
        self._ping_every_s = min(PING_EVERY_S, (self._notifier.watchdog_s or PING_EVERY_S) / 3)

    def run(self) -> None:
        """Until a stop, `run_seconds`, or the end of a replay. Raises EngineError, or a bug's own exception."""
        faulthandler.enable()  # systemd's watchdog sends SIGABRT: the journal gets every thread's stack
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        settings = self._config.settings
        journal.set_level(settings.engine.log_level)
        release = this_release()
        info = RunInfo(
            release.version,
            release.digest,
            self._config.digest,
            settings.mode,
            settings.engine.ingest_mode,
            settings.engine.sample_every,
        )
        log.info("engine starting", **info._asdict(), release_name=release.name, config=str(self._config.path))
        strategy = load(settings.engine)
        began = time.monotonic()
        store = self._open_store(info)
        if store is None:
            return
        pipeline: Pipeline | None = None
        failure: BaseException | None = None
        try:
            pipeline = Pipeline(self._config, store, strategy, self._adapter, self._wake)
            # A hand-over makes more than the 700 objects after which Python looks for garbage, and none of it is cyclic
            # (measured: an eighth of the CPU).
            gc.freeze()
            gc.set_threshold(20_000)
            log.info("ready", run_id=store.run_id, after_s=round(time.monotonic() - began, 3))
            self._notifier.ready("running")
            self._watch(pipeline)
        except BaseException as error:  # noqa: BLE001 - raised again below, when the street is drained
            failure = error
        self._notifier.stopping()
        if pipeline is not None:
            log.info("stopping", reason=str(failure) if failure else "asked to stop")
            unstored = pipeline.drain(lambda: self._ping(pipeline))
            if unstored is not None:
                log.error(str(unstored))
            late = pipeline.failure
            failure = failure or (unstored or late if late is None or isinstance(late, StorageError) else late)
        self._finish(store, pipeline, failure)
        if failure is not None:
            raise failure

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload_asked = True
        else:
            self._stop_asked = True
        self._wake()

    def _wake(self) -> None:
        self._wakes.put(None)

    def _sleep(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._wakes.get(timeout=seconds)

    def _open_store(self, info: RunInfo) -> Store | None:
        """Open the store, paced: a lock is waited for, other trouble is retried. None when a stop was asked for."""
        engine = self._config.settings.engine
        path = Path(self._config.settings.app.db_path)
        began = time.monotonic()
        complained = False
        while not self._stop_asked:
            store: Store | None = None
            error: Exception
            try:
                store = Store(path, engine.durability)
                store.begin_run(info, now_ms())
                log.info("store verified", path=str(path), run_id=store.run_id, **store.pragmas)
                return store
            except Locked as locked:
                error, deadline_s = locked, engine.overload_after_s
                final: EngineError = OverloadError(f"{locked}; since {deadline_s:g} s")
            except StorageError as storage:
                error, deadline_s = storage, engine.storage_deadline_s
                final = StorageError(f"{storage}; since {deadline_s:g} s")
            if store is not None:
                store.close()
            if not complained:
                log.warn("cannot open the database, trying again", error=str(error), deadline_s=deadline_s)
                complained = True
            if time.monotonic() - began >= deadline_s:
                raise final from error
            self._sleep(BEAT_S)
        return None

    def _watch(self, pipeline: Pipeline) -> None:
        """Returns when the run is over; raises what ended it early."""
        engine = self._config.settings.engine
        now = time.monotonic()
        next_heartbeat = now + engine.heartbeat_interval_secs
        ends = now + engine.run_seconds if engine.run_seconds else float("inf")
        while True:
            now = time.monotonic()
            self._ping(pipeline)
            pipeline.one_cpu.gather()
            self._look_at_pressure(pipeline, now)
            if now >= next_heartbeat:
                self._heartbeat(pipeline)
                next_heartbeat = max(next_heartbeat + engine.heartbeat_interval_secs, now)
            if self._reload_asked:
                self._reload_asked = False
                self._apply_reload(pipeline)
            if pipeline.failure is not None:
                raise pipeline.failure
            # A replay ends by itself: then the street runs dry in its own time, since nobody asked it to hurry.
            if self._stop_asked or now >= ends or not pipeline.persist.is_alive():
                return
            self._check_overload(pipeline)
            self._sleep(max(0.0, min(BEAT_S, ends - now, next_heartbeat - now)))

    def _ping(self, pipeline: Pipeline) -> None:
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = now + self._ping_every_s
        stuck = pipeline.stuck
        if stuck:
            # No ping: if it lasts, systemd kills the process, and SIGABRT prints every thread's stack.
            self._notifier.status(f"stuck: {', '.join(stuck)}")
        else:
            self._notifier.watchdog()

    def _heartbeat(self, pipeline: Pipeline) -> None:
        pipeline.admission.close_gaps(now_ms())
        fields = pipeline.report()
        log.info("HEARTBEAT", **fields, **self._pressure.report())
        source, stored, dropped = fields["source"] or "no source", fields["ticks_stored"], fields["dropped"]
        self._notifier.status(f"{self._config.settings.mode} {source}: {stored} ticks stored, {dropped} dropped")

    def _look_at_pressure(self, pipeline: Pipeline, now: float) -> None:
        before = self._pressure.sample_every
        decision = self._pressure.look(now)
        if decision is None:
            return
        in_force, received = self._pressure.sample_every, None
        if in_force != before:
            # No tick is lost: the count starts anew with the next trade, at this `received`.
            received = pipeline.admission.resample(in_force, self._config.settings.engine.admit_wait_ms, now_ms())
        write = log.error if decision["action"] == "ABORT" else log.warn
        write("pressure decision", **decision, current_sample_every=in_force, received=received)

    def _check_overload(self, pipeline: Pipeline) -> None:
        limit_s = self._config.settings.engine.overload_after_s
        if pipeline.blocked_s() >= limit_s:
            raise OverloadError(f"commits were blocked by a lock on the database for {limit_s:g} s")
        if pipeline.persist.failing_since is not None:
            return  # a full or broken disk fills the house too; it has its own deadline and its own code
        if pipeline.stuck and self._notifier.watchdog_s is not None:
            return  # so does a hang: the watchdog ends it, with every thread's stack
        if pipeline.admission.evicting_for() >= limit_s:
            raise OverloadError(f"the house was full: ticks were dropped in every second of {limit_s:g} s")

    def _apply_reload(self, pipeline: Pipeline) -> None:
        self._notifier.reloading()
        try:
            new = self._reload()
        except ConfigError as error:
            log.error("reload refused, the old configuration stays in force", error=str(error))
            self._notifier.ready("running; the last reload was refused")
            return
        old, values = self._config.values, new.values
        changed = [name for name in KEYS if old[name] != values[name]]
        now = [name for name in changed if KEYS[name].metadata["reloadable"]]
        later = [name for name in changed if name not in now]
        if new.sources != self._config.sources:
            later.append(self._config.settings.engine.sources_file)
        taken = {name.removeprefix("engine."): values[name] for name in now}
        engine = replace(self._config.settings.engine, **taken)
        self._config = replace(self._config, settings=replace(self._config.settings, engine=engine))
        journal.set_level(engine.log_level)
        self._pressure.reload(engine)
        in_force = self._pressure.sample_every
        received = pipeline.reload(engine, in_force)
        log.info("reloaded", received=received, sample_every=in_force, changed=now)
        if later:
            log.warn("these changes need a restart", keys=later)
        self._notifier.ready("running")

    def _finish(self, store: Store, pipeline: Pipeline | None, failure: BaseException | None) -> None:
        code = failure.code if isinstance(failure, EngineError) else Exit.BUG if failure else Exit.COMPLETE
        if pipeline is not None:
            log.info("FINAL METRICS", **pipeline.report(), **self._pressure.report(), exit_code=int(code))
            if pipeline.persist.is_alive():
                return  # it still holds the connection; the process ends without it
        for tries_left in (2, 1, 0):
            try:
                store.end_run(int(code), now_ms())
                break
            except (Locked, StorageError) as error:
                if tries_left and isinstance(error, Locked):
                    continue  # it has waited for the lock already
                log.warn("the run's end could not be written; the next start will call it a crash", error=str(error))
                break
        try:
            store.close()
        except (Locked, StorageError) as error:
            log.warn("the database did not close", error=str(error))
