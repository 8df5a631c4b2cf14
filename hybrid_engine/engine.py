"""The main thread of a run: signals, heartbeat, watchdog, reload, overload, and how the run ends.

The stages do the work in their own threads; this thread only watches them. Signal handlers set flags and wake it. What
ends the run early is raised here, after the pipeline was drained as for a stop.
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
from hybrid_engine.pressure import PressureMonitor
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.runtime.errors import ConfigError, EngineError, ExitCode, OverloadError, StorageError
from hybrid_engine.runtime.log import Logger, set_level
from hybrid_engine.runtime.release import read_release
from hybrid_engine.runtime.systemd import Notifier
from hybrid_engine.stages.adapter import ExecutionAdapter
from hybrid_engine.stages.channel import HEARTBEAT_S
from hybrid_engine.stages.strategy import load_strategy
from hybrid_engine.storage.database import DatabaseLocked
from hybrid_engine.storage.store import RunInfo, Store

PING_EVERY_S = 0.5

log = Logger("hybrid_engine")


class Engine:
    """One run. `adapter` executes its orders; `reload` re-reads the configuration (SIGHUP), or raises ConfigError."""

    def __init__(self, config: Config, adapter: ExecutionAdapter, reload: Callable[[], Config]) -> None:
        self._config = config
        self._adapter = adapter
        self._reload = reload
        self._pressure = PressureMonitor(config.settings.engine)
        # Not an Event: a signal handler runs in the waiting thread, which may hold the Event's lock at that moment.
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stop_requested = False
        self._reload_requested = False
        self._notifier = Notifier()
        self._next_ping = 0.0
        self._checked_at = self._measured_from = time.monotonic()  # of the evictions, see _check_overload
        self._ping_every_s = min(PING_EVERY_S, (self._notifier.watchdog_s or PING_EVERY_S) / 3)

    def run(self) -> None:
        """Run until a stop, `run_seconds`, or the end of a replay. Raises EngineError, or the exception of a bug."""
        faulthandler.enable()  # systemd's watchdog sends SIGABRT: every thread's stack is printed to the journal
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        mode, engine, digest = self._config.settings.mode, self._config.settings.engine, self._config.digest
        set_level(engine.log_level)
        release = read_release()
        info = RunInfo(release.version, release.digest, digest, mode, engine.ingest_mode, engine.sample_every)
        log.info("engine starting", **info._asdict(), release_name=release.name, config=str(self._config.path))
        strategy = load_strategy(engine)
        start = time.monotonic()
        store = self._open_store(info)
        if store is None:
            return
        pipeline: Pipeline | None = None
        failure: BaseException | None = None
        try:
            pipeline = Pipeline(self._config, store, strategy, self._adapter, self._wake)
            # One batch creates more than the 700 objects after which Python collects garbage, and none of them is in a
            # cycle (measured: an eighth of the CPU time).
            gc.freeze()
            gc.set_threshold(20_000)
            log.info("ready", run_id=store.run_id, after_s=round(time.monotonic() - start, 3))
            self._notifier.ready("running")
            self._watch(pipeline)
        except BaseException as error:  # noqa: BLE001 - raised again below, once the pipeline is drained
            failure = error
        self._notifier.stopping()
        if pipeline is not None:
            log.info("stopping", reason=str(failure) if failure else "asked to stop")
            unstored = pipeline.drain(lambda: self._ping(pipeline))
            if unstored is not None:
                log.error(str(unstored))
            # A stage may have failed during the drain. Of a storage failure, `unstored` says more.
            late = pipeline.failure
            failure = failure or (unstored or late if late is None or isinstance(late, StorageError) else late)
        self._finish(store, pipeline, failure)
        if failure is not None:
            raise failure

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload_requested = True
        else:
            self._stop_requested = True
        self._wake()

    def _wake(self) -> None:
        self._wakeups.put(None)

    def _sleep(self, seconds: float) -> None:
        with suppress(queue.Empty):
            self._wakeups.get(timeout=seconds)

    def _open_store(self, info: RunInfo) -> Store | None:
        """Open the store. A lock is waited for, other failures are retried. None when a stop was requested meanwhile.

        Raises OverloadError after `overload_after_s` of locks, StorageError after `storage_deadline_s` of failures.
        """
        engine = self._config.settings.engine
        path = Path(self._config.settings.app.db_path)
        ends: dict[type[Exception], tuple[type[EngineError], float]] = {
            DatabaseLocked: (OverloadError, engine.overload_after_s),
            StorageError: (StorageError, engine.storage_deadline_s),
        }
        start = time.monotonic()
        logged = False
        while not self._stop_requested:
            store: Store | None = None
            try:
                store = Store(path, engine.durability)
                store.begin_run(info, now_ms())
                log.info("store verified", path=str(path), run_id=store.run_id, **store.pragmas)
                return store
            except (DatabaseLocked, StorageError) as error:
                end, deadline_s = ends[type(error)]
                if store is not None:
                    store.close()
                if not logged:
                    log.warn("cannot open the database, trying again", error=str(error), deadline_s=deadline_s)
                    logged = True
                if time.monotonic() - start >= deadline_s:
                    raise end(f"{error}; since {deadline_s:g} s") from error
            self._sleep(HEARTBEAT_S)
        return None

    def _watch(self, pipeline: Pipeline) -> None:
        """Return when the run is over; raise what ends it early."""
        engine = self._config.settings.engine
        now = time.monotonic()
        next_heartbeat = now + engine.heartbeat_interval_secs
        ends = now + engine.run_seconds if engine.run_seconds else float("inf")
        while True:
            now = time.monotonic()
            self._ping(pipeline)
            pipeline.cpu_affinity.pin_threads()
            self._check_pressure(pipeline, now)
            if now >= next_heartbeat:
                self._heartbeat(pipeline)
                next_heartbeat = max(next_heartbeat + engine.heartbeat_interval_secs, now)
            if self._reload_requested:
                self._reload_requested = False
                self._apply_reload(pipeline)
            if pipeline.failure is not None:
                raise pipeline.failure
            # At the end of a replay the stages end by themselves, and there is no deadline for that.
            if self._stop_requested or now >= ends or not pipeline.persist.is_alive():
                return
            self._check_overload(pipeline)
            self._sleep(max(0.0, min(HEARTBEAT_S, ends - now, next_heartbeat - now)))

    def _ping(self, pipeline: Pipeline) -> None:
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = now + self._ping_every_s
        stuck_stages = pipeline.stuck_stages
        if stuck_stages:
            # No ping: if this lasts, systemd ends the process with SIGABRT, which prints every thread's stack.
            self._notifier.status(f"stuck: {', '.join(stuck_stages)}")
        else:
            self._notifier.watchdog()

    def _heartbeat(self, pipeline: Pipeline) -> None:
        pipeline.admission.close_gaps(now_ms())
        fields = pipeline.heartbeat_fields()
        log.info("HEARTBEAT", **fields, **self._pressure.heartbeat_fields())
        source, stored, dropped = fields["source"] or "no source", fields["ticks_stored"], fields["dropped"]
        self._notifier.status(f"{self._config.settings.mode} {source}: {stored} ticks stored, {dropped} dropped")

    def _check_pressure(self, pipeline: Pipeline, now: float) -> None:
        before = self._pressure.sample_every
        decision = self._pressure.check(now)
        if decision is None:
            return
        in_force, received = self._pressure.sample_every, None
        if in_force != before:
            # No tick is lost: the sampling count restarts with the next trade, at this `received`.
            received = pipeline.admission.set_sampling(in_force, self._config.settings.engine.admit_wait_ms, now_ms())
        write = log.error if decision["action"] == "ABORT" else log.warn
        write("pressure decision", **decision, current_sample_every=in_force, received=received)

    def _check_overload(self, pipeline: Pipeline) -> None:
        limit_s = self._config.settings.engine.overload_after_s
        blocked_since = pipeline.persist.blocked_since
        if blocked_since is not None and time.monotonic() - blocked_since >= limit_s:
            raise OverloadError(f"commits were blocked by a lock on the database for {limit_s:g} s")
        now = time.monotonic()
        since_check_s, self._checked_at = now - self._checked_at, now
        began = max(self._measured_from, now - pipeline.admission.dropping_for_s())
        if pipeline.persist.failing_since is not None:
            # A full or broken disk fills the tick buffer too, but has its own deadline and exit code. Once it works
            # again, the buffer may need a while: the measure begins anew.
            self._measured_from = now
        elif pipeline.stuck_stages and self._notifier.watchdog_s is not None:
            # So does a stage that hangs: the watchdog ends that, and every thread's stack is printed. Of a stage that
            # hangs again and again, the time between counts.
            self._measured_from = began + since_check_s
        elif now - began >= limit_s:
            raise OverloadError(f"the tick buffer stayed full: ticks were dropped in every second of {limit_s:g} s")

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
        reloadable = [name for name in changed if KEYS[name].metadata["reloadable"]]
        restart_needed = [name for name in changed if name not in reloadable]
        if new.sources != self._config.sources:
            restart_needed.append(self._config.settings.engine.sources_file)
        updates = {name.removeprefix("engine."): values[name] for name in reloadable}
        engine = replace(self._config.settings.engine, **updates)
        self._config = replace(self._config, settings=replace(self._config.settings, engine=engine))
        set_level(engine.log_level)
        self._pressure.reload(engine)
        in_force = self._pressure.sample_every
        received = pipeline.reload(engine, in_force)
        log.info("reloaded", received=received, sample_every=in_force, changed=reloadable)
        if restart_needed:
            log.warn("these changes need a restart", keys=restart_needed)
        self._notifier.ready("running")

    def _finish(self, store: Store, pipeline: Pipeline | None, failure: BaseException | None) -> None:
        code = failure.code if isinstance(failure, EngineError) else ExitCode.BUG if failure else ExitCode.COMPLETE
        if pipeline is not None:
            fields = {**pipeline.heartbeat_fields(), **self._pressure.heartbeat_fields()}
            log.info("FINAL METRICS", **fields, exit_code=int(code))
            if pipeline.persist.is_alive():
                return  # persist still uses the connection; the process ends without closing it
        for attempts_left in (2, 1, 0):  # each attempt waits for a lock
            try:
                store.end_run(int(code), now_ms())
                break
            except (DatabaseLocked, StorageError) as error:
                if not attempts_left or isinstance(error, StorageError):
                    text = "the run's end could not be written; the next start will call it a crash"
                    log.warn(text, error=str(error))
                    break
        try:
            store.close()
        except (DatabaseLocked, StorageError) as error:
            log.warn("the database did not close", error=str(error))
