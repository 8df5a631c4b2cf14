"""A stage is one thread with one inbox. It passes on what it received, in order, followed by what it made of it."""

import threading
import time
from collections.abc import Callable, Sequence

from hybrid_engine.domain.events import Event
from hybrid_engine.stages.channel import Channel

# A stage beats at least every channel.BEAT_S, whatever it waits for. One that has not beaten for this long is stuck:
# the watchdog's ping stops, and WatchdogSec= later systemd acts. A slow fsync only delays a ping.
STUCK_AFTER_S = 1.0


class Stage(threading.Thread):
    """Runs `work()`; afterwards closes the outbox, so that the end of the day walks down the street.

    `failure` is what ended the stage early. `on_end` wakes whoever watches.
    """

    def __init__(self, name: str, outbox: Channel | None, on_end: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._outbox = outbox
        self._on_end = on_end
        self._last_heartbeat = time.monotonic()
        self.failure: BaseException | None = None

    def heartbeat(self) -> None:
        """A sign of life: work goes on, or waits for something outside this thread."""
        self._last_heartbeat = time.monotonic()

    @property
    def stuck(self) -> bool:
        """The thread lives and has not beaten for STUCK_AFTER_S."""
        return self.is_alive() and time.monotonic() - self._last_heartbeat > STUCK_AFTER_S

    def run(self) -> None:
        self.heartbeat()
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which decides the exit code
            self.failure = error
        finally:
            self.finish()
            if self._outbox is not None:
                self._outbox.close()
            self._on_end()

    def finish(self) -> None:
        """The last act, whatever ended the work, while the outbox is still open."""

    def work(self) -> None:
        """The stage's life, until its inbox is finished or it was told to stop."""
        raise NotImplementedError


class Transform(Stage):
    """A stage in the middle of the street."""

    def __init__(self, name: str, inbox: Channel, outbox: Channel, on_end: Callable[[], None]) -> None:
        super().__init__(name, outbox, on_end)
        self._inbox = inbox
        self._out = outbox

    def work(self) -> None:
        while True:
            events = self._inbox.take()
            self.heartbeat()
            if events:
                self._out.hand_over(self.transform(events), self.heartbeat)
            elif self._inbox.finished:
                return

    def transform(self, events: Sequence[Event]) -> Sequence[Event]:
        """Everything in `events`, in order, each followed by what this stage made of it."""
        raise NotImplementedError
