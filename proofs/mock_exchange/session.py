"""One connection: its opening frames, its trades among noise, its heartbeats, its faults."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from proofs.mock_exchange.ledger import now_ms
from proofs.mock_exchange.market import Market
from proofs.mock_exchange.protocols.base import GARBAGE_KINDS, ExchangeProtocol, Trade
from proofs.mock_exchange.schedule import Numbers, Ordinals
from proofs.mock_exchange.tape import NoisePlan

#: After so many frames of a flood the event loop gets a turn, so that pings and commands are answered.
YIELD_AFTER = 32
#: Garbage that claims to be a trade has ids from here on.
GARBAGE_IDS = 9_000_000_000
#: Seconds between frames, at least, of endless garbage, and of noise while trades are silent.
FLOOD_INTERVAL = 0.01


class Socket(ServerConnection):
    """Tells whether what was written has left for the kernel: with write_limit=0 it pauses until it has."""

    stalled = False
    resumes = 0
    #: That of the upgrade request; the name `protocol` is taken by websockets.
    exchange_protocol: ExchangeProtocol | None = None

    def pause_writing(self) -> None:
        self.stalled = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled = False
        self.resumes += 1
        super().resume_writing()


class Session:
    """Lives from the accepted upgrade to the closed socket. sessions: all that are open."""

    def __init__(
        self, market: Market, sessions: "Collection[Session]", ws: Socket, protocol: ExchangeProtocol, path: str
    ) -> None:
        self.market = market
        self.sessions = sessions
        self.ws = ws
        self.protocol = protocol
        self.count = market.ledger.record_accept(path, protocol.family)
        self.numbers = Numbers(market.settings.count) if market.settings.each else market.numbers
        #: None, "trades" (heartbeats and noise go on) or "all" (not even pongs).
        self.mute: str | None = None
        #: Frames of garbage to send before anything else: a number, or None for no end; and of which kind.
        self.garbage: int | None = 0
        self.garbage_kind = "mixed"
        self._garbage_number = 0
        #: Once its end is announced: how many trades of the connection after it are still sent here, too.
        self.shared: int | None = None
        self._tape = market.tape
        self._plan = NoisePlan(market.tape, protocol.family, market.noise_per_trade, market.builtin)
        self._noise_number = 0
        self._ordinals = Ordinals(lambda number: protocol.symbol_for(market.trade(number, self._tape)))

    @property
    def open(self) -> bool:
        return self.ws.state is State.OPEN

    @property
    def wants_trades(self) -> bool:
        return self.open and self.mute is None and self.garbage == 0 and self.protocol.wants_trades

    @property
    def _takes_trades(self) -> bool:
        """Trades are due that no other connection took: once its end is announced, the one after it takes them."""
        return self.wants_trades and (self.shared is None or all(one.shared is not None for one in self._beside()))

    def _beside(self) -> "list[Session]":
        return [one for one in self.sessions if one is not self and one.wants_trades]

    async def run(self) -> None:
        """Serve until the socket is closed."""
        beside = (self._receive(), self._send_heartbeats(), self._send_pings(), self._close_unsubscribed())
        helpers = [asyncio.ensure_future(one) for one in beside]
        try:
            if self.protocol.subscribed:
                await self._send_opening()
            with contextlib.suppress(ConnectionClosed):
                await self._run_trading()
        finally:
            for helper in helpers:
                helper.cancel()

    # -- what is sent -------------------------------------------------------------------------------------

    async def _send(self, text: str) -> bool:
        """True when an open socket took the whole frame."""
        resumes = self.ws.resumes
        try:
            await self.ws.send(text)
        except ConnectionClosed:
            return False
        return not self.ws.stalled and (self.ws.resumes != resumes or self.open)

    async def _send_other(self, kind: str, make_frame: Callable[[], str | None]) -> None:
        """Send a frame without new trades, and count it as `kind`; it is made only if it can be sent."""
        if self.mute != "all" and self.open and (text := make_frame()) is not None and await self._send(text):
            self.market.ledger.add(self.count, kind)

    async def send_noise(self, number: int) -> None:
        for recorded in self._plan.before(number):
            await self._send_other("noise", partial(self.protocol.noise, recorded, now_ms()))

    async def _send_opening(self) -> None:
        """Send the replies, and the snapshots of what has been subscribed to since the last call."""
        market = self.market
        if market.settings.keep_symbols:
            self._tape = market.tape.only(self.protocol.symbols) or market.tape
        history = market.history(self.numbers, self._tape) if market.settings.ids == "run" else []
        for text in self.protocol.opening(history, now_ms()):
            await self._send_other("history", partial(str, text))
        self.count.symbols = list(self.protocol.symbols)
        if self.protocol.subscribed:
            self.count.subscribed_ms = self.count.subscribed_ms or now_ms()
        market.notify()

    async def _run_trading(self) -> None:
        market, sent = self.market, 0
        most = self.protocol.trades_per_frame
        while self.open:
            if self._spoiled:
                await self._send_garbage()
            elif self.mute == "trades":
                self._noise_number += 1
                await self.send_noise(self._noise_number)
                await market.wait_for_change(max(FLOOD_INTERVAL, market.pace.interval(2)))
            elif not self._takes_trades:
                await market.wait_until(
                    lambda: not self.open or self._takes_trades or self._spoiled or self.mute == "trades"
                )
            else:
                at_most = 1 if most == 1 else min(most, market.headroom(self.count.sent))
                if turn := await market.next_trades(self.numbers, lambda: self._takes_trades, at_most):
                    await self._send_trades(*turn)
                    sent += 1
                    if sent % YIELD_AFTER == 0:
                        await asyncio.sleep(0)

    @property
    def _spoiled(self) -> bool:
        """Garbage is due in place of the trades."""
        return self.mute is None and self.garbage != 0

    async def _send_trades(self, kind: str, numbers: list[int]) -> None:
        market = self.market
        for number in numbers:
            await self.send_noise(number)
        if kind == "new" and market.lose > 0 and self.wants_trades:
            market.lose -= 1
            self.protocol.skip_message()
            self.numbers.lost += len(numbers)
            market.ledger.totals["lost"] += len(numbers)
            return
        trades = [self._trade_of(number) for number in numbers]
        delivered = (kind == "repeat" or self.wants_trades) and await self._send(self.protocol.trades(trades))
        if kind == "repeat":
            if delivered:
                market.ledger.add(self.count, "repeats")
        elif delivered:
            self.numbers.sent += len(numbers)
            for trade in trades:
                market.ledger.record_sent(self.count, trade, self.protocol.symbol_for(trade))
            await self._share(trades)
            await self._run_due()
        else:
            self.numbers.give_back(numbers)
            market.notify()

    async def _share(self, trades: list[Trade]) -> None:
        """Send them on the connections whose end is announced, too, until each had its share; then it has no more."""
        for other in self._beside() if self.shared is None else ():
            if other.shared is not None and await other._send(other.protocol.trades(trades)):
                self.market.ledger.add(other.count, "repeats")
                other.shared -= 1
                if other.shared <= 0:
                    await other.silence("trades")

    def _trade_of(self, number: int) -> Trade:
        trade = self.market.trade(number, self._tape)
        if self.market.settings.ids == "run":
            return trade
        return replace(trade, trade_id=self._ordinals.of(number) + self.market.settings.first_id - 1)

    async def _run_due(self) -> None:
        """Do what is due after a trade: steps of the script, and the close after so many trades."""
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
        kinds = GARBAGE_KINDS if self.garbage_kind == "mixed" else (self.garbage_kind,)
        if not self.protocol.wants_trades:
            await self.market.wait_until(lambda: not self.open or self.garbage == 0 or self.protocol.wants_trades)
            return
        kind = kinds[self._garbage_number % len(kinds)]
        self._garbage_number += 1
        # It uses up no number, and no other trade has its id.
        trade = self.market.trade(self._garbage_number, self._tape)
        trade = replace(trade, trade_id=GARBAGE_IDS + self._garbage_number)
        await self._send_other("garbage", lambda: self.protocol.garbage_frame(trade, kind))
        if self.garbage is not None:
            self.garbage -= 1
        else:
            await self.market.wait_for_change(max(FLOOD_INTERVAL, self.market.pace.interval(2)))

    # -- beside it ----------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.ws:
                self.market.ledger.add(self.count, "heard")
                if isinstance(message, str) and self.protocol.receive(message):
                    await self._send_opening()
                self.count.symbols = list(self.protocol.symbols)
                self.market.notify()
        self.market.notify()

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self.market.settings.heartbeat)
            for _ in range(self.protocol.heartbeats_due):
                await self._send_other("heartbeats", lambda: self.protocol.heartbeat(now_ms()))

    async def _close_unsubscribed(self) -> None:
        """Close the connection if the client does not subscribe in time."""
        if self.protocol.subscribe_within is not None:
            await asyncio.sleep(self.protocol.subscribe_within)
            if not self.protocol.subscribed:
                await self.ws.close(1008, "no subscription")

    async def _send_pings(self) -> None:
        while self.market.settings.ping:
            await asyncio.sleep(self.market.settings.ping)
            if self.mute != "all" and self.open:
                with contextlib.suppress(ConnectionClosed):
                    await self.ws.ping(str(now_ms()))

    async def silence(self, what: str | None) -> None:
        """Stop sending "trades", or "all" (no pongs either: the client is not read); None sends again."""
        if what == "all":
            self.ws.transport.pause_reading()
        elif self.mute == "all":
            self.ws.transport.resume_reading()
            # That a client has left meanwhile must be known before anything is counted as sent to it.
            for _ in range(3):
                await asyncio.sleep(0)
        self.mute = what

    async def say(self, text: str, times: int, every_s: float) -> None:
        """Send this text, a frame without a trade, so many times."""
        for number in range(times):
            await asyncio.sleep(every_s if number else 0)
            await self._send_other("noise", lambda: text)

    async def announce_close(self, shared: int) -> None:
        """Announce that this connection will end."""
        await self._send_other("notices", lambda: self.protocol.closing_notice(now_ms()))
        self.shared = shared

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
