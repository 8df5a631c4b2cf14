"""A sample of many values in little memory, because what measures memory must not use much."""

from array import array

MAX_VALUES = 16_384


class Sample:
    """An even sample of at most MAX_VALUES values, their total number and the largest."""

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
        if len(self._values) == MAX_VALUES:
            del self._values[::2]
            self._every *= 2

    def figures(self) -> dict[str, int]:
        """{n, p50, p99, max}; without values only n."""
        ordered = sorted(self._values)
        if not ordered:
            return {"n": self.count}
        last = len(ordered) - 1
        p50, p99 = ordered[last // 2], ordered[last * 99 // 100]
        return {"n": self.count, "p50": p50, "p99": p99, "max": self.largest}
