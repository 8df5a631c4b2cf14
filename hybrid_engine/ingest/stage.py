"""The base of every ingest mode: a thread that offers trades to admission until it is stopped."""

import threading
import time

from hybrid_engine.config.load import Config
from hybrid_engine.domain.accounting import FeedState
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.admission import AdmissionQueue
from hybrid_engine.stages.channel import HEARTBEAT_S
from hybrid_engine.stages.stage import Stage


class IngestStage(Stage):
    """The first stage of the pipeline: `work` offers trades to admission until a stop, or until there are none left."""

    def __init__(self, config: Config, admission: AdmissionQueue, feed: FeedState) -> None:
        super().__init__("ingest", admission)
        self.admission = admission
        self.feed = feed
        self.app_symbol = config.settings.app.symbol
        self.settings = config.settings.engine  # a reload replaces it, from another thread; it is never changed itself
        # not `_stop`: threading.Thread has an attribute of that name
        self._stop_event = threading.Event()

    def stop(self) -> None:
        """Let `work` return soon. Called from another thread."""
        self._stop_event.set()

    @property
    def stopping(self) -> bool:
        return self._stop_event.is_set()

    def wait_until(self, deadline: float) -> bool:
        """Wait until `deadline` (monotonic seconds), with heartbeats. False when a stop came first."""
        while True:
            self.heartbeat()
            remaining_s = deadline - time.monotonic()
            if self._stop_event.wait(max(0.0, min(HEARTBEAT_S, remaining_s))):
                return False
            if remaining_s <= 0:
                return True

    def finish(self) -> None:
        # Before the channel closes, so that the last commit includes the closed gaps.
        self.admission.close_gaps(now_ms(), for_good=True)
