"""Which trade is next, and when: numbers 1..n, each sent exactly once, whatever happens to the connections.

A session takes a number when its turn comes, and then confirms it (an open socket took the frame) or gives it back
(the socket was closed): then any connection takes it next.
"""

import heapq
from collections import Counter
from collections.abc import Callable

from proofs.mock_exchange.tape import Tape

#: Seconds of the schedule that are caught up on, at most, after a stall (no client, a busy machine).
CATCH_UP = 0.1


class Numbers:
    """`sent`: how many were confirmed; `lost`: were taken and will not be sent; `total`: None means endless."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.sent = 0
        self.lost = 0
        self._next = 1
        self._back: list[int] = []

    @property
    def next(self) -> int | None:
        """The number that would be taken now; None when all are taken."""
        if self._back:
            return self._back[0]
        return self._next if self.total is None or self._next <= self.total else None

    @property
    def complete(self) -> bool:
        """Every number up to the total was sent, or lost on purpose."""
        return self.total is not None and self.sent + self.lost >= self.total

    @property
    def in_flight(self) -> int:
        return self._next - 1 - len(self._back) - self.sent - self.lost

    def take(self, at_most: int = 1) -> list[int]:
        """Up to `at_most` numbers, ascending; fewer or none at the end."""
        numbers: list[int] = []
        while len(numbers) < at_most and (number := self.next) is not None:
            if self._back:
                heapq.heappop(self._back)
            else:
                self._next += 1
            numbers.append(number)
        return numbers

    def give_back(self, numbers: list[int]) -> None:
        for number in numbers:
            heapq.heappush(self._back, number)


class Ordinals:
    """Each trade's position among those of its symbol, from 1; `symbol_of` gives the symbol of a number."""

    def __init__(self, symbol_of: Callable[[int], str]) -> None:
        self._symbol_of = symbol_of
        self._so_far: Counter[str] = Counter()
        self._known: list[int] = []

    def of(self, number: int) -> int:
        while len(self._known) < number:
            symbol = self._symbol_of(len(self._known) + 1)
            self._so_far[symbol] += 1
            self._known.append(self._so_far[symbol])
        return self._known[number - 1]


class Pace:
    """rate: trades a second, 0 for as fast as the client reads. speed: recorded gaps divided by it."""

    def __init__(self, tape: Tape, rate: float, speed: float | None) -> None:
        self._tape = tape
        self.rate = rate
        self.speed = speed
        self._due: float | None = None

    def set_rate(self, rate: float) -> None:
        self.rate, self.speed, self._due = rate, None, None

    def interval(self, number: int) -> float:
        """Seconds from the trade before `number` to it."""
        if self.speed is not None:
            return (self._tape.at(number) - self._tape.at(number - 1)) / self.speed if number > 1 else 0.0
        return 1.0 / self.rate if self.rate else 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next trade is due; zero or less when it is."""
        flood = self.speed is None and self.rate == 0
        return 0.0 if flood or self._due is None else self._due - now

    def sent(self, now: float, next_number: int, count: int = 1) -> None:
        """`count` trades went out at `now` (monotonic seconds); `next_number` follows."""
        due = now if self._due is None else max(self._due, now - CATCH_UP)
        self._due = due + self.interval(next_number) * (count if self.speed is None else 1)
