"""Wires the street, and watches it: signals, heartbeat, watchdog, reload, and the end of the day.

The main thread does nothing but watch. Signal handlers only set flags. What ends the run early is raised here, after
the street was drained as for a stop.
"""

import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hybrid_engine import journal
from hybrid_engine.channel import BEAT_S, Channel
from hybrid_engine.config import KEYS, Config
from hybrid_engine.execution import ExecutionStage
from hybrid_engine.exits import ConfigError, EngineError, Exit, OverloadError, StorageError
from hybrid_engine.front_door import FrontDoor
from hybrid_engine.ingest.base import IngestStage
from hybrid_engine.journal import Journal
from hybrid_engine.metrics import Counters, FeedState, report
from hybrid_engine.persist import PersistStage
from hybrid_engine.release import this_release
from hybrid_engine.risk import RiskBook
from hybrid_engine.stage import Stage
from hybrid_engine.store import Locked, RunInfo, Store, now_ms
from hybrid_engine.strategy import Strategy, StrategyStage, load
from hybrid_engine.systemd import Notifier

PING_EVERY_S = 0.5
# A stop: what waits is drained for so long, then the rest of it is dropped; then what was admitted has the rest of the
# time to be stored. TimeoutStopSec=10 comes after both.
DRAIN_S = 5.0
LAST_S = 3.0

log = Journal("hybrid_engine")


class Engine:
    """One run. `reload` re-reads the configuration (SIGHUP) and may raise ConfigError."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = config
        self._reload = reload
        self._wake = threading.Event()
        self._stop_asked = False
        self._reload_asked = False
        self._notifier = Notifier()
        self._counters = Counters()
        self._feed = FeedState()
        self._stages: Sequence[Stage] = ()
        self._next_ping = 0.0

    def run(self) -> None:
        """Until a stop, `run_seconds`, or the end of a replay. Raises EngineError, or a bug's own exception."""
        faulthandler.enable()  # systemd's watchdog sends SIGABRT: the journal gets every thread's stack
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_signal)
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
        started = time.monotonic()
        store = self._open_store(info)
        if store is None:
            return
        failure: BaseException | None = None
        try:
            self._wire(store, strategy)
            self._watch(started)
        except BaseException as error:  # noqa: BLE001 - raised again below, when the street is drained
            failure = error
        failure = self._drain(failure)
        self._finish(store, failure)
        if failure is not None:
            raise failure

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload_asked = True
        else:
            self._stop_asked = True
        self._wake.set()

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
                run_id = self._run_id = store.begin_run(info, now_ms())
                log.info("store verified", path=str(path), run_id=run_id, **store.pragmas)
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
            self._wake.wait(BEAT_S)
        return None

    def _wire(self, store: Store, strategy: Strategy) -> None:
        settings, engine = self._config.settings, self._config.settings.engine
        first_tick, first_gap = store.next_ids()
        self._door = FrontDoor(
            settings.channels.tick,
            sample_every=engine.sample_every,
            admit_wait_ms=engine.admit_wait_ms,
            first_tick_id=first_tick,
            first_gap_id=first_gap,
        )
        signals, rows = Channel(settings.channels.signal), Channel(settings.channels.persist)
        wake = self._wake.set
        self._ingest = self._make_ingest(store)
        self._persist = PersistStage(store, self._door, rows, self._counters, self._feed, engine, wake)
        self._stages = (
            self._ingest,
            StrategyStage(strategy, self._door, signals, self._counters, wake),
            ExecutionStage(settings.mode, RiskBook(settings.risk_caps), signals, rows, self._counters, wake),
            self._persist,
        )
        for stage in reversed(self._stages):
            stage.start()

    def _make_ingest(self, store: Store) -> IngestStage:
        # Each mode imports what it needs: SYNTHETIC and REPLAY load no network code at all.
        settings, engine, wake = self._config.settings, self._config.settings.engine, self._wake.set
        if engine.ingest_mode == "SYNTHETIC":
            from hybrid_engine.ingest.synthetic import SyntheticIngest

            return SyntheticIngest(settings.app.symbol, self._door, self._feed, engine, wake)
        if engine.ingest_mode == "REPLAY":
            from hybrid_engine.ingest.replay import ReplayIngest, check_target

            check_target(engine, store)
            return ReplayIngest(self._door, self._feed, engine, wake)
        from hybrid_engine.ingest.feed import FeedIngest

        return FeedIngest(self._config.sources, settings.app.symbol, self._door, self._feed, engine, wake)

    # The day ----------------------------------------------------------------------------------------------------

    def _watch(self, started: float) -> None:
        """Returns when the run is over; raises what ended it early."""
        engine = self._config.settings.engine
        self._notifier.ready("running")
        log.info("ready", run_id=self._run_id, after_s=round(time.monotonic() - started, 3))
        next_heartbeat = time.monotonic() + engine.heartbeat_interval_secs
        ends = time.monotonic() + engine.run_seconds if engine.run_seconds else float("inf")
        while True:
            now = time.monotonic()
            self._ping()
            if now >= next_heartbeat:
                self._heartbeat()
                next_heartbeat = max(next_heartbeat + engine.heartbeat_interval_secs, now)
            if self._reload_asked:
                self._reload_asked = False
                self._apply_reload()
            for stage in self._stages:
                if stage.failure is not None:
                    raise stage.failure
            if self._stop_asked or now >= ends or not self._ingest.is_alive():
                return
            self._check_overload()
            self._wake.wait(max(0.0, min(BEAT_S, ends - now, next_heartbeat - now)))
            self._wake.clear()

    def _ping(self) -> None:
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = now + PING_EVERY_S
        stuck = [stage.name for stage in self._stages if stage.stuck]
        if stuck:
            # No ping: if it lasts, systemd kills the process, and SIGABRT prints every thread's stack.
            self._notifier.status(f"stuck: {', '.join(stuck)}")
        else:
            self._notifier.watchdog()

    def _heartbeat(self) -> None:
        self._door.close_gaps(now_ms())
        fields = self._report()
        log.info("HEARTBEAT", **fields)
        self._notifier.status(
            f"{self._config.settings.mode} {fields['source'] or 'no source'}: {fields['ticks_stored']} ticks stored,"
            f" {fields['dropped']} dropped"
        )

    def _report(self) -> dict[str, object]:
        return {
            **report(self._door.snapshot(), self._counters, self._feed),
            "sample_every": self._config.settings.engine.sample_every,
        }

    def _check_overload(self) -> None:
        limit_s = self._config.settings.engine.overload_after_s
        blocked_since = self._persist.blocked_since
        if blocked_since is not None and time.monotonic() - blocked_since >= limit_s:
            raise OverloadError(f"commits were blocked by a lock on the database for {limit_s:g} s")
        if self._door.evicting_for() >= limit_s:
            raise OverloadError(f"the house was full: ticks were dropped in every second of {limit_s:g} s")

    def _apply_reload(self) -> None:
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
        self._ingest.settings = self._persist.settings = engine
        received = self._door.resample(engine.sample_every, engine.admit_wait_ms, now_ms())
        log.info("reloaded", received=received, sample_every=engine.sample_every, changed=now)
        if later:
            log.warn("these changes need a restart", keys=later)
        self._notifier.ready("running")

    # The end of the day -----------------------------------------------------------------------------------------

    def _drain(self, failure: BaseException | None) -> BaseException | None:
        """Stop ingest and let the street run dry. Returns what the run ends with: None is exit 0."""
        self._notifier.stopping()
        if not self._stages:
            return failure
        began = time.monotonic()
        log.info("stopping", reason=str(failure) if failure else "asked to stop", waiting=self._door.snapshot().waiting)
        self._ingest.stop()
        if not self._wait_for_end(began + DRAIN_S):
            dropped = self._door.drop_waiting(now_ms())
            log.warn("the drain took too long, what waited is dropped", dropped=dropped)
            if not self._wait_for_end(began + DRAIN_S + LAST_S):
                self._persist.give_up.set()
                self._persist.join(1.0)
        late = next((stage.failure for stage in self._stages if stage.failure is not None), None)
        unstored = self._door.snapshot().admitted - self._counters.ticks_stored
        if unstored:
            log.error("admitted ticks could not be stored", unstored=unstored)
            if late is None or isinstance(late, StorageError):
                why = f": {late}" if late else ""
                late = StorageError(f"{unstored} admitted ticks could not be stored before the stop had to end{why}")
        return failure or late

    def _wait_for_end(self, deadline: float) -> bool:
        """Whether the street ran dry in time. One whose stage failed never will, so that is not waited for."""
        while time.monotonic() < deadline:
            self._ping()
            if not self._persist.is_alive():
                return True
            alive = [stage.is_alive() for stage in self._stages]
            failed = [stage.failure is not None for stage in self._stages]
            # What is behind a stage that failed can still drain; what is before it cannot.
            if any(failed) and not any(alive[failed.index(True) :]):
                return True
            self._persist.join(0.02)
        return not self._persist.is_alive()

    def _finish(self, store: Store, failure: BaseException | None) -> None:
        code = failure.code if isinstance(failure, EngineError) else Exit.BUG if failure else Exit.COMPLETE
        if self._stages:
            log.info("FINAL METRICS", **self._report(), exit_code=int(code))
            if self._persist.is_alive():
                return  # it still holds the connection; the process ends without it
        try:
            store.end_run(int(code), now_ms())
        except (Locked, StorageError) as error:
            log.warn("the run's end could not be written; the next start will call it a crash", error=str(error))
        try:
            store.close()
        except (Locked, StorageError) as error:
            log.warn("the database did not close", error=str(error))
