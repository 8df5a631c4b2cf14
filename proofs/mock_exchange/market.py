"""The one market behind all connections: whose turn it is, which trade is next, and which faults are in force."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from proofs.mock_exchange.ledger import ConnectionCount, Ledger, now_ms
from proofs.mock_exchange.numbers import Numbers
from proofs.mock_exchange.pace import Pace
from proofs.mock_exchange.protocols.base import Trade
from proofs.mock_exchange.rules import Rules
from proofs.mock_exchange.settings import Settings
from proofs.mock_exchange.tape import Tape, builtin_tape, random_walk, read_captures

#: Trades of the first lap's end shown as history, as many as the recorded snapshots hold.
HISTORY = 50
#: Garbage that claims to be a trade has ids from here on.
GARBAGE_IDS = 9_000_000_000


class Connection(Protocol):
    """What the market and the commands need of a connection; `session` has the only implementation."""

    count: ConnectionCount
    numbers: Numbers
    garbage: int | None
    garbage_kind: str

    @property
    def wants_trades(self) -> bool: ...
    async def silence(self, what: str | None) -> None: ...
    async def close(self, code: int = 1001, reason: str = "") -> None: ...
    def abort(self) -> None: ...


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
        self.sessions: set[Connection] = set()
        self.paused = settings.hold
        self.burst = 0
        self.lose = 0
        self.repeats: deque[int] = deque()
        self.close_after = settings.close_after
        self.closes_left = settings.close_times
        #: Awaited after each trade was confirmed, before the next is taken, while steps of a script wait.
        self.after_sent: Callable[[], Awaitable[None]] | None = None
        #: How many trades must have been sent for each of those steps, ascending.
        self.step_numbers: list[int] = []
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
        changed = self._changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            pass

    # -- trades -------------------------------------------------------------------------------------------

    def trade(self, number: int, tape: Tape | None = None) -> Trade:
        tape = tape or self.tape
        item = tape.item(number)
        at = now_ms() if self.settings.clock == "now" else tape.start_ms + int(tape.at(number) * 1000)
        trade_id = number + self.settings.first_id - 1
        return Trade(number, trade_id, item.symbol, item.price, item.size, item.taker, at)

    def history(self, numbers: Numbers, tape: Tape) -> list[Trade]:
        """The trades before now, oldest first: the tape's last ones, then those that were sent."""
        last = (numbers.next or (numbers.total or 0) + 1) - 1
        laps = -(-HISTORY // len(tape.items)) * len(tape.items)
        trades = []
        for number in range(last - HISTORY + 1, last + 1):
            if number >= 1:
                trades.append(self.trade(number, tape))
            else:  # before the first trade: ids below it, prices of the tape's end
                item = tape.item(number + laps)
                trade_id = number + self.settings.first_id - 1
                trades.append(Trade(number, trade_id, item.symbol, item.price, item.size, item.taker, now_ms()))
        return trades

    def garbage_trade(self, number: int, tape: Tape) -> Trade:
        """A trade to make garbage of: it uses up no number, and no other trade has its id."""
        return replace(self.trade(number, tape), trade_id=GARBAGE_IDS + number)

    async def next_trades(self, session: Connection, at_most: int) -> tuple[str, list[int]] | None:
        """Wait for this session's turn and for the next trade to be due: ("new" or "repeat", numbers).

        None when the session no longer wants trades. Sessions take turns in the order in which they call this, so that
        none starves another.
        """

        def ready() -> bool:
            return bool(self.burst or not self.paused) and bool(self.repeats or session.numbers.next)

        loop = asyncio.get_running_loop()
        while True:
            await self.wait_until(lambda: not session.wants_trades or ready())
            if not session.wants_trades:
                return None
            async with self._turn:
                while session.wants_trades and ready():
                    delay = 0.0 if self.burst else self.pace.delay(loop.time())
                    if delay > 0:
                        await self.wait_for_change(delay)
                        continue
                    if self.repeats:
                        kind, numbers = "repeat", [self.repeats.popleft()]
                    else:
                        kind, numbers = "new", session.numbers.take(min(at_most, self.burst or at_most))
                    self.burst = max(0, self.burst - len(numbers))
                    self.pace.sent(loop.time(), session.numbers.next or numbers[-1] + 1, len(numbers))
                    return kind, numbers

    def headroom(self, session: Connection) -> int:
        """How many trades may go out before a step or a close is due: a frame never holds more than these."""
        limits = [HISTORY, *(step - self.ledger.totals["sent"] for step in self.step_numbers[:1])]
        if self.close_after is not None and self.closes_left != 0:
            limits.append(self.close_after - session.count.sent)
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
