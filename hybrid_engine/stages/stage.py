"""Stages: threads with one inbox each. A stage passes on all events in order, each followed by what it made of it."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hybrid_engine.domain.accounting import StageCounters
from hybrid_engine.domain.events import Event
from hybrid_engine.stages.channel import Channel

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
    """A stage with an inbox and an outbox: it takes a batch of events, transforms it and hands it on."""

    def __init__(self, name: str, inbox: Channel, outbox: Channel, counters: StageCounters) -> None:
        super().__init__(name, outbox)
        self._inbox, self._out = inbox, outbox
        self._counters = counters

    def work(self) -> None:
        while True:
            events = self._inbox.take()
            self.heartbeat()
            if events:
                self._out.put(self.transform(events), self.heartbeat)
            elif self._inbox.finished:
                return

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        """All of `events`, in order, each followed by the events that this stage made of it."""
        raise NotImplementedError
