"""Statistics of a soak's samples: percentiles, slope, thinning. Pure."""

from collections.abc import Sequence


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile and maximum, by nearest rank; None where there are no values.

    >>> percentiles([3, 1, 2]), percentiles([])
    ({'p50': 2, 'p99': 3, 'max': 3}, {'p50': None, 'p99': None, 'max': None})
    """
    ranked = sorted(values)

    def at(part: float) -> float | None:
        return ranked[min(len(ranked) - 1, int(part * len(ranked)))] if ranked else None

    return {"p50": at(0.50), "p99": at(0.99), "max": ranked[-1] if ranked else None}


def slope(points: Sequence[Sequence[float]]) -> float | None:
    """The slope of the least-squares line through points [x, y]; None where there are fewer than two.

    >>> slope([[0, 10], [10, 20], [20, 30]])
    1.0
    """
    n = len(points)
    if n < 2:
        return None
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else None


def thinned(points: Sequence[list[float]], most: int = 240) -> list[list[float]]:
    """At most so many of the points, evenly spaced, with the first and the last.

    >>> thinned([[n, n] for n in range(10)], 4)
    [[0, 0], [3, 3], [6, 6], [9, 9]]
    """
    if len(points) <= most:
        return list(points)
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]
