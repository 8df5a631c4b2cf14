"""Stages: threads with one inbox each. A stage passes on all events in order, each followed by what it made of it."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import Event
from hybrid_engine.stages.channel import HEARTBEAT_S, Channel

# How long events that nothing was made of may wait until the next stage is woken for them. Woken for each tick, it
# takes a ninth of the CPU at 1,000 ticks a second (docs/bench.md).
REST_S = 0.1
# A stage shows a sign of life at least every channel.HEARTBEAT_S, whatever it waits for. Without one for this long it
# counts as stuck: the watchdog's pings stop, and systemd acts after WatchdogSec=. A slow fsync only delays a ping.
STUCK_AFTER_S = 1.0


class Stage(threading.Thread):
    """A thread that runs `work()` and then closes its outbox, so that the stages end one after the other.

    `failure` is the exception that ended the stage early, or None. `on_end` is called last, to wake the main thread.
    """

    def __init__(self, name: str, outbox: Channel | None) -> None:
        super().__init__(name=name, daemon=True)
        self._outbox = outbox
        self.on_end: Callable[[], None] = lambda: None
        self._last_heartbeat = time.monotonic()
        self.failure: BaseException | None = None

    def heartbeat(self) -> None:
        """Show a sign of life: the stage works, or waits for something outside this thread."""
        self._last_heartbeat = time.monotonic()

    @property
    def stuck(self) -> bool:
        """The thread is alive and has shown no sign of life for STUCK_AFTER_S."""
        return self.is_alive() and time.monotonic() - self._last_heartbeat > STUCK_AFTER_S

    def run(self) -> None:
        self._show_name()
        self.heartbeat()
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which decides the exit code
            self.failure = error
        finally:
            self.finish()
            if self._outbox is not None:
                self._outbox.close()
            self.on_end()

    def _show_name(self) -> None:
        """Give the thread its name in the kernel as well, so that `top -H` tells the stages apart."""
        with suppress(OSError):  # it is for people, and /proc may be hidden
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self.name)

    def finish(self) -> None:
        """Called once `work` has ended, however it ended, while the outbox is still open."""

    def work(self) -> None:
        """Run until the inbox is finished, or until the stage is told to stop."""
        raise NotImplementedError


class TransformStage(Stage):
    """A stage with an inbox and an outbox: it takes a batch of events, transforms it and hands it on.

    The next stage is woken at once for a batch that this one made something of, and within `rest_s` for any other.
    """

    def __init__(
        self, name: str, inbox: Channel, outbox: Channel, counters: StageCounters, rest_s: float = 0.0
    ) -> None:
        super().__init__(name, outbox)
        self._inbox, self._out = inbox, outbox
        self._counters = counters
        self._rest_s = rest_s

    def work(self) -> None:
        rest_ends_at = float("inf")  # when the next stage is to be woken for what it was not woken for
        while True:
            events = self._inbox.take(HEARTBEAT_S if rest_ends_at == float("inf") else self._rest_s)
            self.heartbeat()
            if events:
                result = self.transform(events)
                urgent = len(result) > len(events) or not self._rest_s
                self._out.put(result, self.heartbeat, urgent=urgent)
                rest_ends_at = float("inf") if urgent else min(rest_ends_at, self._last_heartbeat + self._rest_s)
            elif self._inbox.finished:
                return
            if self._last_heartbeat >= rest_ends_at:
                self._out.wake()
                rest_ends_at = float("inf")

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        """All of `events`, in order, each followed by the events that this stage made of it."""
        raise NotImplementedError
