"""Many values in little memory: whoever measures memory must not take it."""

from array import array

MOST = 16_384


class Sample:
    """Every so many-th value, evenly from first to last, at most MOST of them; how many there were, and the largest."""

    def __init__(self) -> None:
        self.count = self.largest = 0
        self._every = 1
        self._values = array("q")

    def add(self, value: int) -> None:
        self.count += 1
        self.largest = max(self.largest, value)
        if self.count % self._every:
            return
        self._values.append(value)
        if len(self._values) == MOST:
            del self._values[::2]
            self._every *= 2

    def figures(self) -> dict[str, int]:
        """{n, p50, p99, max}; of nothing, only n."""
        ordered = sorted(self._values)
        if not ordered:
            return {"n": self.count}
        last = len(ordered) - 1
        p50, p99 = ordered[last // 2], ordered[last * 99 // 100]
        return {"n": self.count, "p50": p50, "p99": p99, "max": self.largest}
