"""One connection: its opening, its trades among the noise, its heartbeats, its misbehaviour."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from proofs.mock_exchange.ledger import now_ms
from proofs.mock_exchange.market import Market
from proofs.mock_exchange.numbers import Numbers, Ordinals
from proofs.mock_exchange.protocols.wire import SPOILS, Trade, Wire
from proofs.mock_exchange.tape import NoisePlan
from proofs.mock_exchange.transport import Socket

#: A flood lets the event loop breathe after so many frames, so that pings and commands are answered.
BREATH = 32
#: Garbage without end, or noise while trades are silent, comes at most so often in a flood (seconds).
SLOWEST_FLOOD = 0.01


class Session:
    """Lives from the accepted upgrade to the closed socket."""

    def __init__(self, market: Market, ws: Socket, wire: Wire, path: str) -> None:
        self.market = market
        self.ws = ws
        self.wire = wire
        self.count = market.ledger.accept(path, wire.family)
        self.numbers = Numbers(market.settings.count) if market.settings.each else market.numbers
        #: None, "trades" (heartbeats and noise go on) or "all" (not even pongs).
        self.mute: str | None = None
        #: Frames of garbage to send before anything else: a number, or None for no end; and of which kind.
        self.garbage: int | None = 0
        self.garbage_kind = "mixed"
        self._garbage_made = 0
        self._tape = market.tape
        self._plan = NoisePlan(market.tape, wire.family, market.noise_per_trade, market.builtin)
        self._noise_number = 0
        self._ordinals = Ordinals(lambda number: wire.symbol_for(market.trade(number, self._tape)))

    @property
    def open(self) -> bool:
        return self.ws.state is State.OPEN

    @property
    def wants_trades(self) -> bool:
        return self.open and self.mute is None and self.garbage == 0 and self.wire.wants_trades

    async def run(self) -> None:
        """Serve until the socket is closed."""
        self.market.sessions.add(self)
        helpers = [asyncio.ensure_future(one) for one in (self._listen(), self._beat(), self._ping(), self._hurry())]
        try:
            if self.wire.subscribed:
                await self._open()
            with contextlib.suppress(ConnectionClosed):
                await self._trade()
        finally:
            self.market.sessions.discard(self)
            for helper in helpers:
                helper.cancel()
            self.market.ledger.closed(self.count, self.ws.close_code)
            self.market.notify()

    # -- what is sent -------------------------------------------------------------------------------------

    async def _send(self, text: str) -> bool:
        """True when the frame was handed, whole, to a socket that was open."""
        resumes = self.ws.resumes
        try:
            await self.ws.send(text)
        except ConnectionClosed:
            return False
        if self.ws.stalled:
            return False
        return self.ws.resumes != resumes or self.open

    async def _say(self, what: str, make: Callable[[], str | None]) -> None:
        """Send a frame that is no news, and count it. Made only if it can be sent: making may count."""
        if self.mute != "all" and self.open and (text := make()) is not None and await self._send(text):
            self.market.ledger.add(self.count, what)

    async def _say_noise(self, number: int) -> None:
        for recorded in self._plan.before(number):
            await self._say("noise", partial(self.wire.noise, recorded, now_ms()))

    async def _open(self) -> None:
        """The snapshot with its history, for what has been subscribed to since the last one."""
        market = self.market
        if market.settings.keep_symbols:
            self._tape = market.tape.only(self.wire.symbols) or market.tape
        by_run = market.settings.ids == "run"
        history = market.history(self.numbers, self._tape) if by_run else []
        for text in self.wire.opening(history, now_ms()):
            await self._say("history", partial(str, text))
        self.count.symbols = list(self.wire.symbols)
        if self.wire.subscribed:
            self.count.subscribed_ms = self.count.subscribed_ms or now_ms()
        market.notify()

    async def _trade(self) -> None:
        market, sent = self.market, 0
        while self.open:
            if self.garbage != 0 and self.mute is None:
                await self._send_garbage()
            elif self.mute == "trades":
                self._noise_number += 1
                await self._say_noise(self._noise_number)
                await market.nap(max(SLOWEST_FLOOD, market.pace.interval(2)))
            elif not self.wants_trades:
                await market.until(lambda: not self.open or self.wants_trades or self._disturbed)
            elif (turn := await market.next_trades(self, self._at_most)) is not None:
                await self._send_trades(*turn)
                sent += 1
                if sent % BREATH == 0:
                    await asyncio.sleep(0)

    @property
    def _at_most(self) -> int:
        return 1 if self.wire.trades_per_frame == 1 else min(self.wire.trades_per_frame, self.market.headroom(self))

    @property
    def _disturbed(self) -> bool:
        return self.mute == "trades" or (self.mute is None and self.garbage != 0)

    async def _send_trades(self, kind: str, numbers: list[int]) -> None:
        market = self.market
        for number in numbers:
            await self._say_noise(number)
        if kind == "new" and (not self.wants_trades):
            self.numbers.give_back(numbers)
            market.notify()
            return
        if kind == "new" and market.lose > 0:
            market.lose -= 1
            self.wire.lost()
            self.numbers.lose(len(numbers))
            market.ledger.totals["lost"] += len(numbers)
            return
        trades = [self._trade_of(number) for number in numbers]
        handed = await self._send(self.wire.trades(trades))
        if kind == "repeat":
            if handed:
                market.ledger.add(self.count, "repeats")
            return
        if not handed:
            self.numbers.give_back(numbers)
            market.notify()
            return
        self.numbers.confirm(len(numbers))
        for trade in trades:
            market.ledger.sent(self.count, trade.number, self.wire.symbol_for(trade))
        await self._after()

    def _trade_of(self, number: int) -> Trade:
        trade = self.market.trade(number, self._tape)
        if self.market.settings.ids == "run":
            return trade
        return replace(trade, trade_id=self._ordinals.of(number) + self.market.settings.first_id - 1)

    async def _after(self) -> None:
        """What is due after a trade: steps of the script, and the close after so many trades."""
        market = self.market
        if self.numbers.complete:
            market.notify()
        if market.after_sent is not None:
            await market.after_sent()
        if market.close_after is not None and self.count.sent >= market.close_after and market.closes_left != 0:
            if market.closes_left is not None:
                market.closes_left -= 1
            await self.close()

    async def _send_garbage(self) -> None:
        kinds = SPOILS if self.garbage_kind == "mixed" else (self.garbage_kind,)
        if not self.wire.wants_trades:
            await self.market.until(lambda: not self.open or self.garbage == 0 or self.wire.wants_trades)
            return
        kind = kinds[self._garbage_made % len(kinds)]
        self._garbage_made += 1
        trade = self.market.spurious(self._garbage_made, self._tape)
        await self._say("garbage", lambda: self.wire.spoiled(trade, kind))
        if self.garbage is not None:
            self.garbage -= 1
        else:
            await self.market.nap(max(SLOWEST_FLOOD, self.market.pace.interval(2)))

    # -- around it ----------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        try:
            async for message in self.ws:
                self.market.ledger.add(self.count, "heard")
                if isinstance(message, str) and self.wire.heard(message):
                    await self._open()
                self.count.symbols = list(self.wire.symbols)
                self.market.notify()
        except ConnectionClosed:
            pass
        finally:
            self.market.notify()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.market.settings.heartbeat)
            for _ in range(self.wire.beats):
                await self._say("heartbeats", lambda: self.wire.heartbeat(now_ms()))

    async def _hurry(self) -> None:
        """Send away who does not say in time what it wants."""
        if self.wire.subscribe_within is not None:
            await asyncio.sleep(self.wire.subscribe_within)
            if not self.wire.subscribed:
                await self.ws.close(1008, "no subscription")

    async def _ping(self) -> None:
        if not self.market.settings.ping:
            return
        while True:
            await asyncio.sleep(self.market.settings.ping)
            if self.mute != "all" and self.open:
                with contextlib.suppress(ConnectionClosed):
                    await self.ws.ping(str(time.time_ns() // 1_000_000))

    async def silence(self, what: str | None) -> None:
        """Stop saying "trades" or "all" (pongs too: the client is left unread); None: speak again."""
        if what == "all":
            self.ws.transport.pause_reading()
        elif self.mute == "all":
            self.ws.transport.resume_reading()
            # A client that has left meanwhile is noticed before anything is counted as sent to it.
            for _ in range(3):
                await asyncio.sleep(0)
        self.mute = what

    async def close(self, code: int = 1001, reason: str = "") -> None:
        """A proper close; the client still reads everything that was sent before it."""
        if self.mute == "all":
            await self.silence("trades")
        await self.ws.close(code, reason)

    def abort(self) -> None:
        """Reset the TCP connection: what the client had not yet read may be lost to it."""
        raw: Any = self.ws.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.transport.abort()
