"""Which trade is next: numbers 1..n, each sent exactly once, whatever happens to the connections.

A session takes a number when its turn comes, and then confirms it (an open socket took the frame) or gives it back
(the socket was closed): then any connection takes it next.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable


class Numbers:
    """`sent` confirmed numbers; `total` None means endless."""

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

    def confirm(self, count: int = 1) -> None:
        self.sent += count

    def lose(self, count: int = 1) -> None:
        """Numbers that were taken and will not be sent, by the command `lose`."""
        self.lost += count

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
