"""The commands of a running exchange, from standard input and from a script; the help is made of the same table."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, get_args

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.ledger import now_ms
from proofs.mock_exchange.protocols.base import GARBAGE_KINDS
from proofs.mock_exchange.server import Exchange
from proofs.mock_exchange.settings import SettingsError, checked

WHEN = ("after_sent", "after_s")
MAX_SAID = 1000


class CommandError(MockExchangeError):
    """A command that is unknown or has a wrong argument; the message says what is allowed."""


# An argument's annotation has its type, what it means, and the allowed values, if they are few.
Times = Annotated[int, "how many connections; 0 undoes it, -1 until `behave`"]
Scope = Annotated[
    str, "open connections and all later ones, open ones only, or the next `times`", ("all", "open", "next")
]
Code = Annotated[int, "close code"]
Status = Annotated[int, "status answered to the upgrade request, e.g. 451, 429, 403"]
RetryAfter = Annotated[int | None, "seconds, for a Retry-After header"]
Silence = Annotated[str, "trades: they alone stop; all: pongs too", ("all", "trades")]
Garbage = Annotated[str, "which kind; mixed: each in turn", ("mixed", *GARBAGE_KINDS)]
Frames = Annotated[int, "frames on each connection, at once; -1: endless, in place of the trades, at their pace"]


class Commands:
    """Each public method is a command: its docstring is the help, its arguments are those of the command."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._market = exchange.market

    async def stats(self, brief: Annotated[bool, "without the list of connections"] = False) -> Any:
        """everything counted since the start"""
        return {"stats": self._exchange.stats(brief)}

    async def trades(self) -> Any:
        """the newest trades that were sent, oldest first: [connection, id, price, size, ms UTC] of each"""
        sent = self._market.ledger.trades
        return {"trades": [[number, one.trade_id, one.price, one.size, one.time_ms] for number, one in sent]}

    async def close(self, code: Code = 1001, reason: Annotated[str, "close reason"] = "") -> Any:
        """close every open connection properly; what was sent before is still read"""
        _check_close(code, reason)
        open_now = list(self._exchange.sessions)
        for session in open_now:
            self._exchange.spawn(session.close(code, reason))
        await asyncio.sleep(0)
        return {"closed": len(open_now)}

    async def announce(self, shared: Annotated[int, "trades"] = 10) -> Any:
        """announce the end of every open connection (Binance: serverShutdown): the next one is sent the trades from
        then on, the announced ones `shared` of them, too"""
        for session in list(self._exchange.sessions):
            await session.announce_close(shared)

    async def say(
        self,
        text: Annotated[str, "the frame"],
        times: Annotated[int, "how often"] = 1,
        every_s: Annotated[float, "seconds between two"] = 0.1,
    ) -> Any:
        """send a frame that is no trade to every open connection: an error in words of an exchange, or anything"""
        if not 1 <= times <= MAX_SAID or not 0 <= every_s <= MAX_SAID or len(text) > MAX_SAID:
            raise CommandError(f"say: times, every_s and the length of text: expected at most {MAX_SAID}")
        for session in list(self._exchange.sessions):
            self._exchange.spawn(session.say(text, times, every_s))

    async def abort(self) -> Any:
        """reset every open connection (RST); what was not yet read may be lost to the client"""
        open_now = list(self._exchange.sessions)
        for session in open_now:
            session.abort()
        return {"aborted": len(open_now)}

    async def refuse(self, drop: Annotated[bool, "also close the open connections"] = True) -> Any:
        """stop listening: connections are refused until `reopen`"""
        await self._exchange.stop_listening()
        return await self.close() if drop else {}

    async def reopen(self) -> Any:
        """listen again on the same port"""
        await self._exchange.listen()
        return {"port": self._exchange.port}

    async def http(self, status: Status, retry_after: RetryAfter = None, times: Times = 1) -> Any:
        """answer the next upgrade requests with an HTTP status"""
        if status not in set(HTTPStatus):
            raise CommandError(f"http: status = {status}: not a known HTTP status")
        self._market.rules.set("http", {"status": status, "retry_after": retry_after}, times)

    async def hang(self, times: Times = 1) -> Any:
        """accept the next TCP connections and never answer the upgrade (until `behave`)"""
        self._market.rules.set("hang", {}, times)

    async def accept_close(
        self, code: Code = 1001, times: Times = 1, noise: Annotated[int, "frames without trades before the close"] = 0
    ) -> Any:
        """accept the next upgrades and close them at once"""
        _check_close(code)
        self._market.rules.set("accept_close", {"code": code, "noise": noise}, times)

    async def silent(self, what: Silence = "all", scope: Scope = "all", times: Times = 1) -> Any:
        """send nothing any more, on connections that stay open"""
        if scope != "next":
            for session in list(self._exchange.sessions):
                await session.silence(what)
        if scope != "open":
            self._market.rules.set("silent", {"what": what}, -1 if scope == "all" else times)

    async def garbage(self, what: Garbage = "mixed", n: Frames = 20, scope: Scope = "all", times: Times = 1) -> Any:
        """send frames that claim to be trades and cannot be decoded (they use up no trade number)"""
        count = None if n < 0 else n
        if count is not None and scope == "all":
            scope = "open"
        if scope != "next":
            for session in self._exchange.sessions:
                session.garbage_kind, session.garbage = what, count
        if scope != "open":
            self._market.rules.set("garbage", {"what": what, "n": count}, -1 if scope == "all" else times)

    async def behave(self) -> Any:
        """end every fault (silent, garbage, http, hang, accept_close); listening and pace stay"""
        self._market.rules.clear()
        self._exchange.behave_count += 1
        for session in list(self._exchange.sessions):
            session.garbage = 0
            await session.silence(None)

    async def pause(self) -> Any:
        """a quiet market: no trades until `resume`; heartbeats go on"""
        self._market.paused = True

    async def resume(self) -> Any:
        """trades again, after `pause` or `--hold`"""
        self._market.paused = False

    async def rate(self, rate: Annotated[float, "trades a second; 0 as fast as the client reads"]) -> Any:
        """another pace from now on"""
        if rate < 0:
            raise CommandError(f"rate: rate = {rate}: expected 0 or more")
        self._market.pace.set_rate(rate)

    async def burst(self, n: Annotated[int, "trades"]) -> Any:
        """send the next n trades at once, paused or not (not beyond the count)"""
        numbers = self._market.numbers
        left = n if numbers.total is None else numbers.total - numbers.sent - numbers.lost
        self._market.burst = max(0, min(n, left))

    async def count(self, n: Annotated[int, "trades in all; -1 for no end"]) -> Any:
        """another total: stop sending once so many trades were sent"""
        self._market.numbers.total = None if n < 0 else n

    async def close_after(
        self, n: Annotated[int, "trades on one connection; 0 for never"], times: Annotated[int, "-1: always"] = -1
    ) -> Any:
        """close each connection after it was sent n trades"""
        self._market.close_after = n or None
        self._market.closes_left = None if times < 0 else times

    async def repeat(self, n: Annotated[int, "trades"] = 1) -> Any:
        """send the last n trades again, with the same ids: counted as repeats, not as sent"""
        last = self._market.numbers.sent
        self._market.repeats.extend(range(max(1, last - n + 1), last + 1))

    async def lose(self, n: Annotated[int, "trades"] = 1) -> Any:
        """never send the next n trades: their numbers, and Gemini v1's socket_sequence, move on"""
        self._market.lose += n

    async def tls(self, cert: Annotated[str, "PEM file"], key: Annotated[str, "PEM file"]) -> Any:
        """another certificate for later connections"""
        self._exchange.load_certificate(cert, key)


#: Name -> the arguments by name, as `inspect` has them.
COMMANDS = {
    name: dict(list(inspect.signature(method, eval_str=True).parameters.items())[1:])
    for name, method in vars(Commands).items()
    if not name.startswith("_")
}


def commands_help() -> str:
    """The commands as `--help` shows them."""
    lines = ["commands (on stdin, --do):"]
    for name, args in sorted(COMMANDS.items()):
        words = [key if one.default is one.empty else f"[{key}={one.default}]" for key, one in args.items()]
        lines += [f"  {' '.join([name, *words])}", f"      {getattr(Commands, name).__doc__}"]
    return "\n".join(lines)


def check(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments given to command `name`. Raises CommandError, which names what is wrong."""
    if name not in COMMANDS:
        raise CommandError(f"unknown command {name!r}: expected one of {', '.join(sorted(COMMANDS))}")
    known = COMMANDS[name]
    if unknown := sorted(args.keys() - known.keys()):
        raise CommandError(f"{name}: unknown argument {unknown[0]!r}: expected {', '.join(known) or 'none'}")
    values: dict[str, Any] = {}
    for key, parameter in known.items():
        kind, meaning, *allowed = get_args(parameter.annotation)
        if key in args:
            try:
                values[key] = checked(args[key], kind, *allowed)
            except ValueError as error:
                raise CommandError(f"{name}: {key} = {error}, {meaning}") from None
        elif parameter.default is parameter.empty:
            raise CommandError(f"{name}: needs {key} ({meaning})")
    return values


async def carry_out(exchange: Exchange, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a command; the answer says when it took effect (ms UTC, and CLOCK_MONOTONIC ns)."""
    values = check(name, args)
    result = await getattr(Commands(exchange), name)(**values)
    exchange.market.notify()
    return {"ok": True, "command": name, "at_ms": now_ms(), "mono_ns": time.monotonic_ns(), **(result or {})}


def _check_close(code: int, reason: str = "") -> None:
    try:
        too_long = len(Close(code, reason).serialize()) > 125  # what a control frame holds
    except (ProtocolError, ValueError) as error:
        raise CommandError(f"close code {code}, reason {reason!r}: {error}") from None
    if too_long:
        raise CommandError(f"close reason {reason!r}: expected at most 123 bytes")


class Steps:
    """The steps of a script: tables of a command with its arguments, and `after_sent` (trades in all) or `after_s`.

    Raises SettingsError for what could never be carried out. A step after n trades comes before trade n + 1 is sent on
    that connection; one that fails when it is due (another process has the port) is skipped.
    """

    def __init__(self, exchange: Exchange, do: Sequence[Mapping[str, Any]]) -> None:
        self._exchange = exchange
        for step in do:
            try:
                check(str(step.get("command")), _arguments(step))
            except CommandError as error:
                raise SettingsError(f"do: {error}") from None
            for key in WHEN:
                value = step.get(key, 0)
                if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                    raise SettingsError(f"do: {key} = {value!r}: expected 0 or more")
        self._by_clock = [step for step in do if "after_s" in step]
        self._by_count = sorted((step for step in do if "after_s" not in step), key=_count)

    async def start(self) -> None:
        """Carry out what is due now, and schedule the rest."""
        self._exchange.market.after_sent = self._run_due
        await self._run_due()
        for step in self._by_clock:
            self._exchange.spawn(self._later(step))

    async def _run_due(self) -> None:
        market = self._exchange.market
        while self._by_count and market.ledger.totals["sent"] >= _count(self._by_count[0]):
            await self._run(self._by_count.pop(0))
        market.next_step = _count(self._by_count[0]) if self._by_count else None

    async def _later(self, step: Mapping[str, Any]) -> None:
        await asyncio.sleep(float(step["after_s"]))
        await self._run(step)

    async def _run(self, step: Mapping[str, Any]) -> None:
        with contextlib.suppress(MockExchangeError):
            await carry_out(self._exchange, str(step["command"]), _arguments(step))


def _count(step: Mapping[str, Any]) -> int:
    return int(step.get("after_sent", 0))


def _arguments(step: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "command" and key not in WHEN}
