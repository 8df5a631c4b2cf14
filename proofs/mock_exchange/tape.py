"""The trades that are played, as an endless tape: recorded ones, or a random walk from a seed.

Trade n is a pure function of the tape and n, so a trade that could not be sent is the same trade when it is
sent to the next connection. A tape shorter than the count is played again: ids and times go on rising, so that
every lap has new trades.
"""

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proofs.mock_exchange.errors import MockExchangeError
from proofs.mock_exchange.protocols.registry import NOISE_OF, classify

DATA = Path(__file__).resolve().parent / "data"
BUILTIN = tuple(DATA / f"{name}.jsonl" for name in ("binance", "binance_spot", "gemini_v2", "coinbase"))

Noise = tuple[str, Mapping[str, Any]]  # family, recorded frame


class TapeError(MockExchangeError):
    """A capture that cannot be read or holds no trade; the message names the file and line."""


@dataclass(frozen=True, slots=True)
class Item:
    """A recorded trade: decimal strings, taker's side, seconds since the tape's start, noise before it."""

    price: str
    size: str
    taker: str
    symbol: str
    at: float
    noise: tuple[Noise, ...] = ()


@dataclass(frozen=True, slots=True)
class Tape:
    """An endless tape: trade 1 is its first, those before it are of the lap before; `period`: one lap in seconds."""

    items: tuple[Item, ...]
    period: float
    start_ms: int

    def item(self, number: int) -> Item:
        return self.items[(number - 1) % len(self.items)]

    def at(self, number: int) -> float:
        """Seconds from the tape's start to trade `number`, as recorded, laps added up."""
        lap, index = divmod(number - 1, len(self.items))
        return lap * self.period + self.items[index].at

    def only(self, symbols: Collection[str]) -> "Tape | None":
        """The tape of these symbols' trades, with all the noise; None if it holds none of their trades."""
        items: list[Item] = []
        noise: list[Noise] = []
        for item in self.items:
            noise += item.noise
            if item.symbol in symbols:
                items.append(replace(item, noise=tuple(noise)))
                noise = []
        return _lap(items, noise, self.period, self.start_ms) if items else None

    def noise_of(self, family: str) -> list[Mapping[str, Any]]:
        return [frame for item in self.items for kind, frame in item.noise if kind == family]


def read_captures(paths: Sequence[Path]) -> Tape:
    """The tape of JSON-lines captures ({"received_at": seconds UTC, "frame": text}), one after the other."""
    items: list[Item] = []
    noise: list[Noise] = []
    offset, last, start_ms = 0.0, 0.0, 0
    for path in paths:
        first: float | None = None
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise TapeError(f"{path}: {reason}") from None
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                received = float(record["received_at"])
                frame = json.loads(record["frame"])
                content = classify(frame) if isinstance(frame, dict) else None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise TapeError(f"{path}, line {number}: not a captured frame ({error!r})") from None
            if first is None:
                first = received
                start_ms = start_ms or int(received * 1000)
            last = offset + max(0.0, received - first)
            if content is None:
                continue
            family, trades = content
            if not trades:
                noise.append((family, frame))
            for price, size, taker, symbol in trades:
                items.append(Item(price, size, taker, symbol, last, tuple(noise)))
                noise = []
        offset = last
    if not items:
        raise TapeError(f"no trade in {', '.join(str(path) for path in paths)}")
    return _lap(items, noise, last + max(0.001, last / len(items)), start_ms)


def _lap(items: list[Item], noise: list[Noise], period: float, start_ms: int) -> Tape:
    """A tape of these trades; the noise after the last of them goes before the first one of the next lap."""
    items[0] = replace(items[0], noise=(*noise, *items[0].noise))
    return Tape(tuple(items), period, start_ms)


def builtin_tape() -> Tape:
    """The excerpt in the package: forty recorded trades of one symbol, and noise of each family."""
    tape = read_captures(BUILTIN)
    last = tape.items[-1].at
    return replace(tape, period=last + last / len(tape.items))


def random_walk(seed: int, length: int = 997) -> Tape:
    """`length` generated trades around 100, ten a second: the same ones for the same seed."""
    rng = random.Random(seed)
    items, price = [], 100.0
    for index in range(length):
        price = max(1.0, price + rng.uniform(-0.05, 0.05))
        size = f"{rng.uniform(0.001, 2.0):.6f}"
        items.append(Item(f"{price:.2f}", size, rng.choice(["buy", "sell"]), "MADEUP", index / 10))
    return Tape(tuple(items), length / 10, start_ms=1_767_225_600_000)  # 2026-01-01


class NoisePlan:
    """Which frames that are no trades go before trade n.

    per_trade None: as recorded, where the tape holds this family's noise; one a trade where it does not.
    Else so many a trade on average, exactly floor(n * per_trade) before and with trade n.
    """

    def __init__(self, tape: Tape, family: str, per_trade: float | None, builtin: Tape) -> None:
        source = NOISE_OF[family]
        recorded = tape.noise_of(source)
        self._tape = tape if recorded and per_trade is None else None
        self._source = source
        self._pool = recorded or builtin.noise_of(source)
        self._per_trade = 1.0 if per_trade is None else per_trade

    def before(self, number: int) -> Sequence[Mapping[str, Any]]:
        """The recorded frames that go before trade `number`."""
        if self._tape is not None:
            return [frame for family, frame in self._tape.item(number).noise if family == self._source]
        first, end = int((number - 1) * self._per_trade), int(number * self._per_trade)
        return [self._pool[index % len(self._pool)] for index in range(first, end)] if self._pool else []
