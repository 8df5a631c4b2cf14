"""The one market behind all connections: whose turn it is, which trade is next, and which faults are in force."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proofs.mock_exchange.ledger import Ledger, now_ms
from proofs.mock_exchange.protocols.base import Trade
from proofs.mock_exchange.schedule import Numbers, Pace
from proofs.mock_exchange.settings import Settings
from proofs.mock_exchange.tape import Tape, builtin_tape, random_walk, read_captures

#: Trades of the first lap's end shown as history, as many as the recorded snapshots hold.
HISTORY = 50
#: Of how many trades the time is kept, the newest; more are never repeated.
MAX_TIMES = 10_000


@dataclass(slots=True)
class Rule:
    """A fault for coming connections: its arguments, and for how many more; negative: until the command `behave`."""

    args: dict[str, Any]
    left: int


class Rules(dict[str, Rule]):
    """Faults for the next connections, at most one of each kind: http, hang, accept_close, silent, garbage."""

    def set(self, kind: str, args: dict[str, Any], times: int) -> None:
        if times == 0:
            self.pop(kind, None)
        else:
            self[kind] = Rule(args, times)

    def take(self, kind: str) -> dict[str, Any] | None:
        """Apply the rule of this kind to one connection: its arguments, or None without a rule."""
        if (rule := self.get(kind)) is None:
            return None
        if rule.left > 0:
            self.set(kind, rule.args, rule.left - 1)
        return rule.args

    def as_dict(self) -> dict[str, Any]:
        return {kind: {**rule.args, "left": None if rule.left < 0 else rule.left} for kind, rule in self.items()}


class Market:
    """Shared by the sessions of one exchange; lives on one event loop, so no locks but the turn."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.builtin = builtin_tape()
        self.noise_per_trade = settings.noise
        if settings.captures:
            self.tape = read_captures([Path(path) for path in settings.captures])
        elif settings.seed is not None:
            self.tape = random_walk(settings.seed)
        else:
            self.tape = self.builtin
            # The excerpt's noise is gathered from several recordings: spread it evenly.
            self.noise_per_trade = 1.0 if settings.noise is None else settings.noise
        self.numbers = Numbers(settings.count)
        self.pace = Pace(self.tape, settings.rate, settings.speed)
        self.ledger = Ledger()
        self.rules = Rules()
        self.paused = settings.hold
        self.burst = 0
        self.lose = 0
        self.repeats: deque[int] = deque()
        self._times: dict[int, int] = {}
        self.close_after = settings.close_after
        self.closes_left = settings.close_times
        #: Awaited after each trade was confirmed, before the next is taken: the steps of a script.
        self.after_sent: Callable[[], Awaitable[None]] | None = None
        #: How many trades must have been sent for the first of those steps; None without one.
        self.next_step: int | None = None
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    # -- waiting ------------------------------------------------------------------------------------------

    def notify(self) -> None:
        """Wake the waiters: something that they may wait for has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    async def wait_for_change(self, seconds: float) -> None:
        """Sleep until the next change, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    # -- trades -------------------------------------------------------------------------------------------

    def trade(self, number: int, tape: Tape | None = None) -> Trade:
        tape = tape or self.tape
        item = tape.item(number)
        at = self._time_of(number) if self.settings.clock == "now" else tape.start_ms + int(tape.at(number) * 1000)
        trade_id = number + self.settings.first_id - 1
        return Trade(number, trade_id, item.symbol, item.price, item.size, item.taker, at)

    def _time_of(self, number: int) -> int:
        """When that trade was made, which is the same each time that it is sent."""
        times = self._times
        if number not in times:
            times[number] = now_ms()
            if len(times) > MAX_TIMES:
                del times[next(iter(times))]
        return times[number]

    def history(self, numbers: Numbers, tape: Tape) -> list[Trade]:
        """The trades before now, oldest first: those of the lap before the first one, then those that were sent."""
        last = (numbers.next or (numbers.total or 0) + 1) - 1
        return [self.trade(number, tape) for number in range(last - HISTORY + 1, last + 1)]

    async def next_trades(
        self, numbers: Numbers, wanted: Callable[[], bool], at_most: int
    ) -> tuple[str, list[int]] | None:
        """Wait for this session's turn and for the next trade to be due: ("new" or "repeat", numbers).

        None when the trades are no longer wanted. Sessions take turns in the order in which they call this, so that
        none starves another.
        """

        def ready() -> bool:
            return bool(self.burst or not self.paused) and bool(self.repeats or numbers.next)

        loop = asyncio.get_running_loop()
        while True:
            await self.wait_until(lambda: not wanted() or ready())
            if not wanted():
                return None
            async with self._turn:
                while wanted() and ready():
                    delay = 0.0 if self.burst else self.pace.delay(loop.time())
                    if delay > 0:
                        await self.wait_for_change(delay)
                        continue
                    if self.repeats:
                        kind, batch = "repeat", [self.repeats.popleft()]
                    else:
                        kind, batch = "new", numbers.take(min(at_most, self.burst or at_most))
                    self.burst = max(0, self.burst - len(batch))
                    self.pace.sent(loop.time(), numbers.next or batch[-1] + 1, len(batch))
                    return kind, batch

    def headroom(self, sent: int) -> int:
        """How many trades may follow `sent` of a connection before a step or a close is due; a frame has no more."""
        limits = [HISTORY]
        if self.next_step is not None:
            limits.append(self.next_step - self.ledger.totals["sent"])
        if self.close_after is not None and self.closes_left != 0:
            limits.append(self.close_after - sent)
        return max(1, min(limits))

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.ledger.as_dict(),
            "next": self.numbers.next,
            "total": self.numbers.total,
            "in_flight": self.numbers.in_flight,
            "complete": self.numbers.complete,
            "paused": self.paused,
            "rate": self.pace.rate,
            "speed": self.pace.speed,
            "rules": self.rules.as_dict(),
            "now_ms": now_ms(),
        }
