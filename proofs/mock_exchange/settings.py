"""The settings of an exchange: by flags, by a TOML or JSON script, or from Python."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from proofs.mock_exchange.errors import MockExchangeError


class SettingsError(MockExchangeError):
    """A setting that is unknown or invalid; the message names it, its value and what is allowed."""


def _setting(default: Any, help: str, **option: Any) -> Any:
    """A field with what the command line needs: its help; flag, metavar or choices where needed."""
    return field(default=default, metadata={"help": help, **option})


@dataclass(frozen=True, slots=True)
class Settings:
    """The one table of settings; flags and scripts are made from it. Times in seconds, rates in trades a second."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(0, "port to listen on; 0 takes a free one")
    captures: tuple[str, ...] = _setting((), "JSON lines of received_at and frame; repeatable", flag="capture")
    seed: int | None = _setting(None, "generated trades from this seed (else a small recorded excerpt)")
    count: int | None = _setting(None, "stop after so many trades in all (no end)")
    rate: float = _setting(100.0, "trades a second; 0 as fast as the client reads")
    speed: float | None = _setting(None, "as recorded, so many times faster (in place of the rate)")
    noise: float | None = _setting(None, "frames without trades, per trade (as recorded; excerpt, seed: 1)")
    first_id: int = _setting(1, "exchange's id of trade 1; the history has ids below it")
    ids: str = _setting("run", "count the trades of the run, or of each symbol (no history)", choices=("run", "symbol"))
    clock: str = _setting("now", "times in the frames", choices=("now", "recorded"))
    keep_symbols: bool = _setting(False, "only recorded trades of the subscribed symbols; else all become one of them")
    each: bool = _setting(False, "every connection gets all trades from number 1 (else they share one run)")
    hold: bool = _setting(False, "start paused, until the command resume or burst")
    close_after: int | None = _setting(None, "close each connection after it was sent N trades", metavar="N")
    close_times: int | None = _setting(None, "... but only the first K times (always)", metavar="K")
    trades_per_frame: int = _setting(1, "Gemini v1, Kraken: up to K trades in one message", metavar="K")
    heartbeat: float = _setting(5.0, "seconds between heartbeats", metavar="S")
    ping: float = _setting(20.0, "seconds between WebSocket pings; 0 for none", metavar="S")
    tls_cert: str | None = _setting(None, "PEM file: serve wss with this certificate chain ...", metavar="FILE")
    tls_key: str | None = _setting(None, "... and its key", metavar="FILE")
    do: tuple[dict[str, Any], ...] = _setting((), "'name key=value ... [after_sent=N | after_s=S]'; repeatable")
    until_stdin_closes: bool = _setting(False, "end when standard input does (so with the parent process)")

    def __post_init__(self) -> None:
        def require(valid: bool, name: str, allowed: str) -> None:
            if not valid:
                raise SettingsError(f"{name} = {getattr(self, name)!r}: expected {allowed}")

        require(0 <= self.port <= 65535, "port", "0 (any free one) to 65535")
        require(self.count is None or self.count >= 0, "count", "0 or more trades")
        require(self.rate >= 0, "rate", "trades a second, or 0 for as fast as the client reads")
        require(self.speed is None or self.speed > 0, "speed", "a factor above 0")
        require(self.noise is None or self.noise >= 0, "noise", "frames a trade, 0 or more")
        require(self.close_after is None or self.close_after > 0, "close_after", "1 or more trades")
        require(self.trades_per_frame > 0, "trades_per_frame", "1 or more")
        require(self.heartbeat > 0, "heartbeat", "seconds above 0")
        require(self.ping >= 0, "ping", "seconds, or 0 for none")
        require(not (self.captures and self.seed is not None), "seed", "no seed when captures are played")
        require((self.tls_cert is None) == (self.tls_key is None), "tls_key", "a certificate and its key, both")


FIELDS = {one.name: one for one in fields(Settings)}
TYPES = get_type_hints(Settings)


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """Settings of a script's table; unknown keys and wrong types raise SettingsError. `a-b` is `a_b`."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in FIELDS:
            raise SettingsError(f"unknown setting {key!r}: expected one of {', '.join(sorted(FIELDS))}")
        kind = TYPES[name]
        try:
            if get_origin(kind) is tuple:
                item = get_args(kind)[0]
                settings[name] = tuple(checked(one, get_origin(item) or item) for one in checked(value, list))
            else:
                settings[name] = checked(value, kind, FIELDS[name].metadata.get("choices", ()))
        except ValueError as error:
            raise SettingsError(f"{name} = {error}") from None
    return Settings(**settings)


def checked(value: Any, kind: Any, allowed: Sequence[Any] = ()) -> Any:
    """The value as that type; an integer will do for a float. Raises ValueError, which says what is allowed."""
    if isinstance(0.0, kind) and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{value!r}: expected {getattr(kind, '__name__', kind)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r}: expected a finite number")
    if allowed and value not in allowed:
        raise ValueError(f"{value!r}: expected one of {', '.join(allowed)}")
    return value


def read_script(source: str) -> dict[str, Any]:
    """The table of a script: a path to TOML or JSON, or a JSON object written out."""
    written_out = source.lstrip().startswith("{")
    try:
        text = source if written_out else Path(source).read_text(encoding="utf-8")
        table = json.loads(text) if written_out or source.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"script {source}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"script {source[:80]}: {error}") from None
    if not isinstance(table, dict):
        raise SettingsError(f"script {source[:80]}: expected a table of settings")
    return table
