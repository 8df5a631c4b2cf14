"""When the next trade is due: so many a second, or as recorded and so many times faster, or at once (flood)."""

from __future__ import annotations

from proofs.mock_exchange.tape import Tape

#: Seconds of the schedule that are caught up on, at most, after a stall (no client, a busy machine).
CATCH_UP = 0.1


class Pace:
    """rate: trades a second, 0 for as fast as the client reads. speed: recorded gaps divided by it."""

    def __init__(self, tape: Tape, rate: float, speed: float | None) -> None:
        self._tape = tape
        self.rate = rate
        self.speed = speed
        self._due: float | None = None

    def set_rate(self, rate: float) -> None:
        self.rate, self.speed, self._due = rate, None, None

    @property
    def flood(self) -> bool:
        return self.speed is None and self.rate == 0

    def interval(self, number: int) -> float:
        """Seconds from the trade before `number` to it."""
        if self.speed is not None:
            return (self._tape.at(number) - self._tape.at(number - 1)) / self.speed if number > 1 else 0.0
        return 1.0 / self.rate if self.rate else 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next trade is due; zero or less when it is."""
        return 0.0 if self.flood or self._due is None else self._due - now

    def sent(self, now: float, next_number: int, count: int = 1) -> None:
        """`count` trades went out at `now` (monotonic seconds); `next_number` follows."""
        due = now if self._due is None else max(self._due, now - CATCH_UP)
        gap = self.interval(next_number) if self.speed is not None else count * self.interval(next_number)
        self._due = due + gap
