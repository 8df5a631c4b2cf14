"""When a source may be tried again: exponential backoff with full jitter, and a limit of attempts per minute.

Times are monotonic seconds. Nothing here waits or connects.
"""

import random
from collections import deque
from collections.abc import Callable

# A connection that was useful for this long resets the backoff.
USEFUL_AFTER_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# Gemini's limit, the strictest of the exchanges.
ATTEMPTS_A_MINUTE = 12
MINUTE_S = 60.0
# The pause between trials of a better source beside a working one grows up to this. It resets only after the source was
# useful for STEADY_FACTOR times failback_after_s, so that a flapping source does not displace a working one.
LONGEST_TRIAL_PAUSE_S = 900.0
STEADY_FACTOR = 10


class RetryPolicy:
    """The policy of one source. `draw(low, high)` draws the jitter."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._attempts: deque[float] = deque(maxlen=ATTEMPTS_A_MINUTE)
        self._failures = 0
        self._failed_trials = 0
        self._retry_at = self._trial_at = 0.0

    @property
    def retry_at(self) -> float:
        """When the source may be tried where no other one works."""
        full = len(self._attempts) == ATTEMPTS_A_MINUTE
        return max(self._retry_at, self._attempts[0] + MINUTE_S if full else 0.0)

    @property
    def trial_at(self) -> float:
        """When the source may be tried beside one that works."""
        return max(self.retry_at, self._trial_at)

    def record_attempt(self, now: float) -> None:
        self._attempts.append(now)

    def record_failure(self, now: float, useful_s: float, hold_s: float, failback_after_s: float) -> None:
        """The source failed after `useful_s` seconds of useful service and must not be retried for `hold_s`."""
        if useful_s >= USEFUL_AFTER_S:
            self._failures = 0
        pause_s = self._draw(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 16)))
        self._failures += 1
        self._retry_at = now + max(pause_s, hold_s)
        self.record_failed_trial(now, useful_s, failback_after_s)

    def hold(self, until: float) -> None:
        """Not to be tried before then."""
        self._retry_at = max(self._retry_at, until)

    def record_failed_trial(self, now: float, useful_s: float, failback_after_s: float) -> None:
        """The source did not prove better than the active one."""
        if useful_s >= STEADY_FACTOR * failback_after_s:
            self._failed_trials = 0
        pause_s = failback_after_s / 4 * 2 ** min(self._failed_trials, 16)
        self._failed_trials += 1
        self._trial_at = now + min(pause_s, max(LONGEST_TRIAL_PAUSE_S, failback_after_s))
