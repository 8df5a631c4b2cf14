"""The commands of a running exchange: one table, for standard input, scripts and the help."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.market import Market
from proofs.mock_exchange.protocols.base import GARBAGE_KINDS


class CommandTarget(Protocol):
    """What a command needs of the exchange that it is carried out on."""

    market: Market
    port: int
    behave_count: int

    async def listen(self) -> None: ...
    async def stop_listening(self) -> None: ...
    def spawn(self, job: Coroutine[Any, Any, Any]) -> None: ...
    def load_certificate(self, cert: str, key: str) -> None: ...
    def stats(self, brief: bool = False) -> dict[str, Any]: ...


Run = Callable[[CommandTarget, dict[str, Any]], Awaitable[Any]]
SCOPES = ("all", "open", "next")


class CommandError(MockExchangeError):
    """A command that is unknown or has a wrong argument; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument: type, default (`...` for none: it must be given), allowed values, what it means."""

    kind: type
    default: Any
    help: str
    allowed: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it does, its arguments, and how."""

    help: str
    args: Mapping[str, Arg]
    run: Run


COMMANDS: dict[str, Command] = {}
TIMES = Arg(int, 1, "how many connections; 0 undoes it, -1 until `behave`")
SCOPE = Arg(str, "all", "open connections and all later ones, open ones only, or the next `times`", SCOPES)
CODE = Arg(int, 1001, "close code")


def command(name: str, **args: Arg) -> Callable[[Run], Run]:
    """Add a function to the table; its docstring is the help."""

    def add(run: Run) -> Run:
        COMMANDS[name] = Command((run.__doc__ or "").strip(), args, run)
        return run

    return add


def check(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of command `name` with its defaults. Raises CommandError, which names what is wrong."""
    if name not in COMMANDS:
        raise CommandError(f"unknown command {name!r}: expected one of {', '.join(sorted(COMMANDS))}")
    known = COMMANDS[name].args
    if unknown := sorted(args.keys() - known.keys()):
        raise CommandError(f"{name}: unknown argument {unknown[0]!r}: expected {', '.join(known) or 'none'}")
    values: dict[str, Any] = {}
    for key, arg in known.items():
        value = args.get(key, arg.default)
        if value is ...:
            raise CommandError(f"{name}: needs {key} ({arg.help})")
        if value is None and arg.default is None:
            values[key] = None
            continue
        if arg.kind is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        if key in args and (not isinstance(value, arg.kind) or (isinstance(value, bool) and arg.kind is not bool)):
            raise CommandError(f"{name}: {key} = {value!r}: expected {arg.kind.__name__}, {arg.help}")
        if isinstance(value, float) and not math.isfinite(value):
            raise CommandError(f"{name}: {key} = {value}: expected a finite number")
        if key in args and arg.allowed and value not in arg.allowed:
            raise CommandError(f"{name}: {key} = {value!r}: expected one of {', '.join(map(str, arg.allowed))}")
        values[key] = value
    return values


def _times(args: dict[str, Any]) -> int | None:
    return None if args["times"] < 0 else int(args["times"])


def _check_close(code: int, reason: str = "") -> None:
    try:
        too_long = len(Close(code, reason).serialize()) > 125  # what a control frame holds
    except (ProtocolError, ValueError) as error:
        raise CommandError(f"close code {code}, reason {reason!r}: {error}") from None
    if too_long:
        raise CommandError(f"close reason {reason!r}: expected at most 123 bytes")


@command("stats", brief=Arg(bool, False, "without the list of connections"))
async def _stats(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """everything counted since the start"""
    return {"stats": exchange.stats(args["brief"])}


@command("close", code=CODE, reason=Arg(str, "", "close reason"))
async def _close(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """close every open connection properly; what was sent before is still read"""
    _check_close(args["code"], args["reason"])
    open_now = list(exchange.market.sessions)
    for session in open_now:
        exchange.spawn(session.close(args["code"], args["reason"]))
    await asyncio.sleep(0)
    return {"closed": len(open_now)}


@command("abort")
async def _abort(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """reset every open connection (RST); what was not yet read may be lost to the client"""
    open_now = list(exchange.market.sessions)
    for session in open_now:
        session.abort()
    return {"aborted": len(open_now)}


@command("refuse", drop=Arg(bool, True, "also close the open connections"))
async def _refuse(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """stop listening: connections are refused until `reopen`"""
    await exchange.stop_listening()
    return await _close(exchange, {"code": 1001, "reason": ""}) if args["drop"] else {}


@command("reopen")
async def _reopen(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """listen again on the same port"""
    await exchange.listen()
    return {"port": exchange.port}


@command(
    "http",
    status=Arg(int, ..., "status answered to the upgrade request, e.g. 451, 429, 403"),
    retry_after=Arg(int, None, "seconds, for a Retry-After header"),
    times=TIMES,
)
async def _http(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """answer the next upgrade requests with an HTTP status"""
    try:
        HTTPStatus(args["status"])
    except ValueError:
        raise CommandError(f"http: status = {args['status']}: not a known HTTP status") from None
    rule = {"status": args["status"], "retry_after": args["retry_after"]}
    exchange.market.rules.set("http", rule, _times(args))


@command("hang", times=TIMES)
async def _hang(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """accept the next TCP connections and never answer the upgrade (until `behave`)"""
    exchange.market.rules.set("hang", {}, _times(args))


@command("accept_close", code=CODE, times=TIMES)
async def _accept_close(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """accept the next upgrades and close them at once"""
    _check_close(args["code"])
    exchange.market.rules.set("accept_close", {"code": args["code"]}, _times(args))


@command(
    "silent",
    what=Arg(str, "all", "trades: they alone stop; all: pongs too", ("all", "trades")),
    scope=SCOPE,
    times=TIMES,
)
async def _silent(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """send nothing any more, on connections that stay open"""
    if args["scope"] != "next":
        for session in list(exchange.market.sessions):
            await session.silence(args["what"])
    if args["scope"] != "open":
        times = None if args["scope"] == "all" else _times(args)
        exchange.market.rules.set("silent", {"what": args["what"]}, times)


@command(
    "garbage",
    what=Arg(str, "mixed", "which kind; mixed: each in turn", ("mixed", *GARBAGE_KINDS)),
    n=Arg(int, 20, "frames on each connection, at once; -1: endless, in place of the trades, at their pace"),
    scope=SCOPE,
    times=TIMES,
)
async def _garbage(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """send frames that claim to be trades and cannot be decoded (they use up no trade number)"""
    count = None if args["n"] < 0 else args["n"]
    scope = args["scope"] if count is None or args["scope"] == "next" else "open"
    if scope != "next":
        for session in exchange.market.sessions:
            session.garbage_kind, session.garbage = args["what"], count
    if scope != "open":
        rule = {"what": args["what"], "n": count}
        exchange.market.rules.set("garbage", rule, None if scope == "all" else _times(args))


@command("behave")
async def _behave(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """end every fault (silent, garbage, http, hang, accept_close); listening and pace stay"""
    exchange.market.rules.clear()
    exchange.behave_count += 1
    for session in list(exchange.market.sessions):
        session.garbage = 0
        await session.silence(None)


@command("pause")
async def _pause(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """a quiet market: no trades until `resume`; heartbeats go on"""
    exchange.market.paused = True


@command("resume")
async def _resume(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """trades again, after `pause` or `--hold`"""
    exchange.market.paused = False


@command("rate", rate=Arg(float, ..., "trades a second; 0 as fast as the client reads"))
async def _rate(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """another pace from now on"""
    if args["rate"] < 0:
        raise CommandError(f"rate: rate = {args['rate']}: expected 0 or more")
    exchange.market.pace.set_rate(args["rate"])


@command("burst", n=Arg(int, ..., "trades"))
async def _burst(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """send the next n trades at once, paused or not (not beyond the count)"""
    numbers = exchange.market.numbers
    left = args["n"] if numbers.total is None else numbers.total - numbers.sent - numbers.lost
    exchange.market.burst = max(0, min(args["n"], left))


@command("count", n=Arg(int, ..., "trades in all; -1 for no end"))
async def _count(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """another total: stop sending once so many trades were sent"""
    exchange.market.numbers.total = None if args["n"] < 0 else args["n"]


@command("close_after", n=Arg(int, ..., "trades on one connection; 0 for never"), times=Arg(int, -1, "-1: always"))
async def _close_after(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """close each connection after it was sent n trades"""
    exchange.market.close_after = args["n"] or None
    exchange.market.closes_left = _times(args)


@command("repeat", n=Arg(int, 1, "trades"))
async def _repeat(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """send the last n trades again, with the same ids: counted as repeats, not as sent"""
    last = exchange.market.numbers.sent
    exchange.market.repeats.extend(range(max(1, last - args["n"] + 1), last + 1))


@command("lose", n=Arg(int, 1, "trades"))
async def _lose(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """never send the next n trades: their numbers, and Gemini v1's socket_sequence, move on"""
    exchange.market.lose += args["n"]


@command("tls", cert=Arg(str, ..., "PEM file"), key=Arg(str, ..., "PEM file"))
async def _tls(exchange: CommandTarget, args: dict[str, Any]) -> Any:
    """another certificate for later connections"""
    exchange.load_certificate(args["cert"], args["key"])
