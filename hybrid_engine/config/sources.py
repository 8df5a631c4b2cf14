"""The sources of REAL_WS, from `ws_sources.toml`: one [[source]] table for each WebSocket, with its priority."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hybrid_engine.domain.deduplication import MAX_SYMBOLS, MAX_UNKNOWN_SYMBOLS
from hybrid_engine.exchanges import EXCHANGES, Exchange, normalize_symbol
from hybrid_engine.runtime.address import show_address
from hybrid_engine.runtime.errors import ConfigError

# The protocols that a source can have. "auto" is for MOCK_WS only.
KINDS = tuple(sorted(kind for kind in EXCHANGES if kind != "auto"))
_REQUIRED = ("name", "url", "kind", "priority")
_TEXTS = ("name", "url", "kind", "symbol", "ca_file")
_ALLOWED = (*_REQUIRED, "symbol", "symbols", "ca_file", "silent_after_s")
_MAX_SYMBOLS = 100
_MAX_SILENT_S = 1e6


@dataclass(frozen=True, slots=True)
class Source:
    """One WebSocket to read trades from.

    `symbols`: the names of its symbols in the database (none: the exchange's own names), and what is subscribed to at
    an exchange that needs a subscription. The source with the lowest `priority` is tried first. `ca_file` replaces the
    system's certificates. With `kind` "auto" (MOCK_WS only) the shape of each frame tells the protocol.
    `silent_after_s`: by symbol, and under "" for all others, instead of the engine's.
    """

    name: str
    url: str
    kind: str
    symbols: tuple[str, ...]
    priority: int
    ca_file: str
    silent_after_s: tuple[tuple[str, float], ...] = ()

    @property
    def exchange(self) -> Exchange:
        """The exchange that it subscribes at; of kind "auto", the one that serves its URL."""
        return EXCHANGES[(guess_kind(self.url) or "auto") if self.kind == "auto" else self.kind]

    @property
    def address(self) -> str:
        """The host and the port of its URL; without what may be secret in that."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'wss' else 80)}"

    def watched_symbols(self, app_symbol: str) -> tuple[str, ...]:
        """What it is for: `symbols`, else those that its URL names; `app_symbol` for the same symbol, or for none."""
        own = {normalize_symbol(app_symbol): app_symbol}
        in_url = tuple(own.get(symbol, symbol) for symbol in self.exchange.symbols_in_url(self.url))
        return self.symbols or in_url or (app_symbol,)

    def silent_limit_s(self, symbol: str) -> float:
        """Its own limit for that symbol, in seconds; 0 where it has none."""
        limits = dict(self.silent_after_s)
        return limits.get(symbol, limits.get("", 0.0))


def guess_kind(url: str) -> str:
    """The protocol of the exchange that serves `url`, "" when it is unknown."""
    parts = urlsplit(url)
    return next((kind for kind, exchange in EXCHANGES.items() if exchange.serves(parts.hostname or "", parts.path)), "")


def is_ws_url(url: str) -> bool:
    """Whether `url` is a valid ws:// or wss:// URL."""
    try:
        parts = urlsplit(url)
        valid = url.startswith(("ws://", "wss://")) and url.isprintable() and " " not in url
        return valid and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, a bracket that is not closed
        return False


def is_file(name: str) -> bool:
    """Whether `name` is an existing file; False too for an impossible name, or behind a directory without access."""
    try:
        return Path(name).is_file()
    except OSError:
        return False


def find_ca_file(where: str, name: str, folder: Path) -> str:
    """The path of a file of certificates; a relative one is relative to the file that names it. Raises ConfigError."""
    path = str(folder / name)
    if not is_file(path):
        raise ConfigError(f'{where} = "{name}": there is no such file{"" if path == name else f" ({path})"}')
    import ssl  # imported here, because few need it before the first connection

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:  # of which ssl.SSLError is one
        why = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise ConfigError(f'{where} = "{name}": {why}') from error
    return path


def parse_sources(file: Path, table: dict[str, Any], default_ca_file: str) -> tuple[Source, ...]:
    """The sources in the content of `file`, best first. Raises ConfigError, one line with the source and the key."""
    if unknown := sorted(set(table) - {"source"}):
        raise ConfigError(f"{file}: {unknown[0]}: unknown key; the file holds [[source]] tables only")
    entries = table.get("source")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{file}: source: must be one [[source]] table or more")
    sources = [
        _parse_source(f"{file}: source[{n}]", entry, file.parent, default_ca_file) for n, entry in enumerate(entries, 1)
    ]
    names = [source.name for source in sources]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f'{file}: source.name = "{repeated[0]}": two sources have this name; names must differ')
    return tuple(sorted(sources, key=lambda source: source.priority))


def _parse_source(where: str, entry: Any, folder: Path, default_ca_file: str) -> Source:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must be a [[source]] table")
    if unknown := [name for name in entry if name not in _ALLOWED]:
        raise ConfigError(f"{where}.{unknown[0]}: unknown key; allowed are {', '.join(_ALLOWED)}")
    if missing := [name for name in _REQUIRED if name not in entry]:
        raise ConfigError(f"{where}.{missing[0]}: is missing")
    for name in _TEXTS:
        if not isinstance(entry.get(name, ""), str):
            raise ConfigError(f"{where}.{name} = {entry[name]!r}: must be a text in quotes")
    if not entry["name"]:
        raise ConfigError(f'{where}.name = "": must not be empty')
    where = f'{where} "{entry["name"]}"'
    priority, url, kind = entry["priority"], entry["url"], entry["kind"].lower()
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 1000:
        allowed = "a whole number from 0 to 1000; the least is tried first"
        raise ConfigError(f"{where}.priority = {priority!r}: must be {allowed}")
    if not is_ws_url(url):
        raise ConfigError(f'{where}.url = "{show_address(url)}": must be a ws:// or wss:// URL')
    if kind not in KINDS:
        guess = guess_kind(url)
        hint = f'; for this url it is "{guess}"' if guess else ""
        replaced = ' (what the first system called "ticker")' if kind == "ticker" else ""
        raise ConfigError(f'{where}.kind = "{entry["kind"]}"{replaced}: must be one of {", ".join(KINDS)}{hint}')
    exchange = EXCHANGES[kind]
    host = urlsplit(url).hostname or ""
    if owner := next((one for one in EXCHANGES.values() if one.owns(host)), None):
        same = [one.kind for one in EXCHANGES.values() if one.domains == owner.domains]
        if kind not in same:
            allowed = " or ".join(f'"{name}"' for name in same)
            raise ConfigError(f'{where}.kind = "{entry["kind"]}": but {host} is not its host; write {allowed}')
    try:
        exchange.check_url(url)
    except ValueError as error:
        raise ConfigError(f'{where}.url = "{show_address(url)}": {error}') from error
    count, limit = len(exchange.symbols_in_url(url)), MAX_SYMBOLS - MAX_UNKNOWN_SYMBOLS
    if count > limit:
        excess = f"names {count} symbols; one source has at most {limit}"
        raise ConfigError(f"{where}.url: {excess}: give some a [[source]] of their own")
    symbols = _parse_symbols(where, entry)
    if exchange.must_subscribe and not symbols:
        raise ConfigError(f"{where}.symbol: {kind} subscribes by symbol, so it must be named")
    try:
        if symbols:
            exchange.check_symbols(url, symbols)
    except ValueError as error:
        raise ConfigError(f"{where}.{'symbols' if 'symbols' in entry else 'symbol'}: {error}") from error
    named = entry.get("ca_file", "")
    ca_file = find_ca_file(f"{where}.ca_file", named, folder) if named else default_ca_file
    source = Source(entry["name"], url, kind, symbols, priority, ca_file)
    if "silent_after_s" in entry:
        limits = _parse_silent_limits(f"{where}.silent_after_s", entry["silent_after_s"], source.watched_symbols(""))
        return replace(source, silent_after_s=limits)
    return source


def _parse_silent_limits(where: str, value: Any, symbols: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """A limit for all symbols, under "", or a table with one for each symbol it names."""
    limits = value if isinstance(value, dict) else {"": value}
    for symbol, limit in limits.items():
        place = f"{where}.{json.dumps(symbol)}" if symbol else where
        if symbol and symbol not in symbols:
            named = ", ".join(filter(None, symbols)) or "none"
            raise ConfigError(f"{place}: is not a symbol of this source, which has {named}")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= _MAX_SILENT_S:
            allowed = (
                f"seconds, above 0 and at most {_MAX_SILENT_S:,.0f}, or a table with such a number for each symbol"
            )
            raise ConfigError(f"{place} = {limit!r}: must be {allowed}")
    return tuple(sorted((symbol, float(limit)) for symbol, limit in limits.items()))


def _parse_symbols(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """The value of `symbol` or of `symbols`; an entry may not have both."""
    if "symbols" not in entry:
        return (entry["symbol"],) if entry.get("symbol") else ()
    if "symbol" in entry:
        raise ConfigError(f"{where}.symbols: beside .symbol; name all of them in symbols = [...] and remove symbol")
    names = entry["symbols"]
    valid = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not valid or not 1 <= len(names) <= _MAX_SYMBOLS:
        allowed = f'a list of 1 to {_MAX_SYMBOLS} texts, such as ["BTC/USD", "ETH/USD"]'
        raise ConfigError(f"{where}.symbols = {names!r}: must be {allowed}")
    if len({normalize_symbol(name) for name in names}) < len(names):
        raise ConfigError(f"{where}.symbols = {names!r}: two of them are the same symbol")
    return tuple(names)
