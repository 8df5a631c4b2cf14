"""SYNTHETIC: makes a trade every `tick_interval_ms`; the prices are a random walk that the seed determines."""

import random
import time
from collections.abc import Iterator

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.ingest.stage import IngestStage
from hybrid_engine.runtime.clock import now_ms

SOURCE = "synthetic"


def random_walk(seed: int, start_price: float, step: float) -> Iterator[float]:
    """Yield prices in quote currency, each at most `step` from the last, never below a hundredth of the start."""
    generator = random.Random(seed)
    price = start_price
    while True:
        yield price
        price = max(start_price / 100, round(price + generator.uniform(-step, step), 8))


class SyntheticIngest(IngestStage):
    """Makes trades at a fixed rate; a late trade does not delay those after it."""

    def work(self) -> None:
        settings = self.settings
        self.feed.source = SOURCE
        interval_s = settings.tick_interval_ms / 1000
        due = time.monotonic()
        for price in random_walk(settings.seed, settings.start_price, settings.price_step):
            if not self.wait_until(due):
                return
            received_ms = now_ms()
            self.feed.last_frame_ms = received_ms
            trade = MarketTrade(self.app_symbol, price, settings.volume, None, received_ms)
            self.admission.offer_trades(SOURCE, (trade,), received_ms, self.heartbeat)
            # After a pause (SIGSTOP, suspend) the schedule starts anew: synthetic trades need no catching up.
            due = max(due + interval_s, time.monotonic() - interval_s)
