"""When a source may be tried again: full jitter, growing, capped, and never too often, whatever luck the jitter has.

Times are monotonic seconds. Nothing here waits or connects.
"""

import random
from collections import deque
from collections.abc import Callable

# A connection that said sensible things for so long resets the pauses.
USEFUL_AFTER_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# So many attempts in any minute and no more: what Gemini allows, the strictest of the exchanges.
ATTEMPTS_A_MINUTE = 12
MINUTE_S = 60.0
# A source that works is not left for one that keeps failing: tries beside it grow rarer up to this, and only one that
# was useful for STEADY times failback_after_s begins anew.
LONGEST_HOLD_S = 900.0
STEADY = 10


class RetryPolicy:
    """Of one source. `chance(low, high)` draws the jitter."""

    def __init__(self, chance: Callable[[float, float], float] = random.uniform) -> None:
        self._chance = chance
        self._tries: deque[float] = deque(maxlen=ATTEMPTS_A_MINUTE)
        self._failures = 0
        self._relapses = 0
        self._ready_at = self._beside_at = 0.0

    @property
    def ready_at(self) -> float:
        """When it may be tried, where nothing else works."""
        full = len(self._tries) == ATTEMPTS_A_MINUTE
        return max(self._ready_at, self._tries[0] + MINUTE_S if full else 0.0)

    @property
    def beside_at(self) -> float:
        """When it may be tried beside one that works."""
        return max(self.ready_at, self._beside_at)

    def tried(self, now: float) -> None:
        """A connection is being made."""
        self._tries.append(now)

    def failed(self, now: float, useful_s: float, hold_s: float, failback_after_s: float) -> None:
        """It failed after `useful_s` of good service, and asked to be left alone for `hold_s`."""
        if useful_s >= USEFUL_AFTER_S:
            self._failures = 0
        pause_s = self._chance(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 16)))
        self._failures += 1
        self._ready_at = now + max(pause_s, hold_s)
        self.relapsed(now, useful_s, failback_after_s)

    def relapsed(self, now: float, useful_s: float, failback_after_s: float) -> None:
        """It did not prove better than the one in use."""
        if useful_s >= STEADY * failback_after_s:
            self._relapses = 0
        grown_s = failback_after_s / 4 * 2 ** min(self._relapses, 16)
        self._relapses += 1
        self._beside_at = now + min(grown_s, max(LONGEST_HOLD_S, failback_after_s))
