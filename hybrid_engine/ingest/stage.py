"""What every way to get ticks has in common: a stop flag, the door, and the end of the day."""

import threading
import time
from collections.abc import Callable

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.counters import FeedState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import BEAT_S
from hybrid_engine.stages.stage import Stage


class IngestStage(Stage):
    """The head of the street: `work` offers trades to the door until told to stop, or until there are none left.

    `settings` is replaced as a whole by a reload.
    """

    def __init__(
        self, admission: AdmissionQueue, feed: FeedState, settings: EngineSettings, on_end: Callable[[], None]
    ) -> None:
        super().__init__("ingest", admission, on_end)
        self.admission = admission
        self.feed = feed
        self.settings = settings
        # not `_stop`: that name is threading.Thread's own
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """No more trades; `work` returns soon."""
        self._stop_asked.set()

    @property
    def stopping(self) -> bool:
        return self._stop_asked.is_set()

    def wait_until(self, due: float) -> bool:
        """Wait, beating, until `due` (monotonic seconds). False when a stop came first."""
        while True:
            self.heartbeat()
            left = due - time.monotonic()
            if self._stop_asked.wait(max(0.0, min(BEAT_S, left))):
                return False
            if left <= 0:
                return True

    def finish(self) -> None:
        # Before the door closes, so that the last commit carries the closed gaps.
        self.admission.close_gaps(now_ms(), for_good=True)
