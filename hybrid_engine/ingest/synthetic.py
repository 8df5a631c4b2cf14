"""SYNTHETIC: a random walk, the same for the same seed, a tick every `tick_interval_ms`."""

import random
import time
from collections.abc import Callable, Iterator

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.domain.counters import FeedState
from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms
from hybrid_engine.stages.admission import AdmissionQueue

SOURCE = "synthetic"


def walk(seed: int, start_price: float, step: float) -> Iterator[float]:
    """Prices in quote currency: each at most `step` from the one before, never below a hundredth of the start."""
    chance = random.Random(seed)
    price = start_price
    while True:
        yield price
        price = max(start_price / 100, round(price + chance.uniform(-step, step), 8))


class SyntheticIngest(IngestStage):
    """Prints made on a steady beat; one that comes late does not shift those after it."""

    def __init__(
        self,
        symbol: str,
        admission: AdmissionQueue,
        feed: FeedState,
        settings: EngineSettings,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(admission, feed, settings, on_end)
        self._symbol = symbol

    def work(self) -> None:
        settings = self.settings
        self.feed.source = SOURCE
        interval_s = settings.tick_interval_ms / 1000
        due = time.monotonic()
        for price in walk(settings.seed, settings.start_price, settings.price_step):
            if not self.wait_until(due):
                return
            received_ms = now_ms()
            self.feed.last_frame_ms = received_ms
            item = MarketTrade(self._symbol, price, settings.volume, None, received_ms)
            self.admission.offer(SOURCE, (item,), received_ms, self.heartbeat)
            # After a pause (SIGSTOP, suspend) the beat starts anew: made-up trades are not worth catching up on.
            due = max(due + interval_s, time.monotonic() - interval_s)
