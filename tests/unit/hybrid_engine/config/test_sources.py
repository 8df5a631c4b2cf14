"""ws_sources.toml: the order of sources, refusals, and the names of symbols."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trustme
from websocket import WebSocketBadStatusException

from hybrid_engine.config.load import load_config, load_sources
from hybrid_engine.config.sources import Source
from hybrid_engine.exchanges import EXCHANGES
from hybrid_engine.ingest.failure import failure_of
from hybrid_engine.ingest.session import SymbolNames
from hybrid_engine.runtime.errors import ConfigError

GOOD = {"name": '"a"', "url": '"ws://h/ws/btcusdt@trade"', "kind": '"binance"', "priority": "1"}


OF_KRAKEN = {"kind": '"kraken"', "url": '"ws://h/v2"'}
OF_GEMINI_V1 = {"kind": '"gemini_v1"', "url": '"ws://h/v1/marketdata/a"'}


def write(tmp_path: Path, *tables: dict[str, str]) -> Path:
    path = tmp_path / "ws_sources.toml"
    path.write_text("".join("[[source]]\n" + "".join(f"{k} = {v}\n" for k, v in t.items()) for t in tables))
    return path


def test_sources_sorted_by_priority_then_file_order(tmp_path: Path) -> None:
    tables = [{**GOOD, "name": f'"{name}"', "priority": str(p)} for name, p in (("x", 9), ("b", 1), ("a", 1), ("y", 0))]
    assert [source.name for source in load_sources(write(tmp_path, *tables))] == ["y", "b", "a", "x"]


def test_ca_file_of_source_or_default(tmp_path: Path) -> None:
    own, default = tmp_path / "own.pem", tmp_path / "default.pem"
    trustme.CA().cert_pem.write_to_path(str(own))
    tables = [{**GOOD, "ca_file": f'"{own}"'}, {**GOOD, "name": '"b"'}, {**GOOD, "name": '"c"', "ca_file": '"own.pem"'}]
    sources = load_sources(write(tmp_path, *tables), str(default))
    assert [s.ca_file for s in sources] == [str(own), str(default), str(own)]


@pytest.mark.parametrize(
    ("text", "limits"),
    [("60", {"BTC/USDT": 60.0}), ("{ 'BTC/USDT' = 1.5 }", {"BTC/USDT": 1.5, "ETH/USDT": 0.0}), ("", {"BTC/USDT": 0.0})],
)
def test_limit_of_silence_is_of_a_source_or_of_a_symbol(tmp_path: Path, text: str, limits: dict[str, float]) -> None:
    table = {**GOOD, "url": '"ws://h/ws/btcusdt@trade/ethusdt@trade"', "symbols": '["BTC/USDT", "ETH/USDT"]'}
    (source,) = load_sources(write(tmp_path, {**table, **({"silent_after_s": text} if text else {})}))
    assert {symbol: source.silent_limit_s(symbol) for symbol in limits} == limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", " = 0: must be seconds, above 0 and at most 1,000,000"),
        ("-1", " = -1: must be"),
        ("true", " = True: must be"),
        ("nan", " = nan: must be"),
        ("inf", " = inf: must be"),
        ("'60'", " = '60': must be"),
        ("[60]", " = [60]: must be"),
        ("{ 'BTCUSDT' = 0 }", '."BTCUSDT" = 0: must be'),
        ("{ 'BTC/USD' = 60 }", '."BTC/USD": is not a symbol of this source, which has BTCUSDT'),
    ],
)
def test_limit_of_silence_is_checked(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'source[1] "a".silent_after_s{message}')):
        load_sources(write(tmp_path, {**GOOD, "silent_after_s": text}))


def test_ca_file_of_the_configuration_is_relative_to_it(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "own.pem"))
    config = tmp_path / "config.toml"
    config.write_text("[engine]\ningest_mode = 'REAL_WS'\nca_file = 'own.pem'\n")
    write(tmp_path, GOOD)
    assert [source.ca_file for source in load_config(config).sources] == [str(tmp_path / "own.pem")]


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_ca_file_must_hold_a_certificate(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.pem").write_text(content)
    with pytest.raises(ConfigError, match=r'source\[1\] "a"\.ca_file = "own\.pem": holds no certificate in PEM'):
        load_sources(write(tmp_path, {**GOOD, "ca_file": '"own.pem"'}))


# What can never work, and what is right instead.
BINANCE, KRAKEN = "wss://stream.binance.com:9443", "wss://ws.kraken.com"
IMPOSSIBLE = [
    ("binance", f"{BINANCE}/ws/BTCUSDT@trade", "", 'write "btcusdt@trade"'),
    ("binance", f"{BINANCE}/ws/btcusdt@trade/ETHusdt@trade", "", 'write "ethusdt@trade"'),
    ("binance", f"{BINANCE}/stream?streams=BTCUSDT@aggTrade", "", 'write "btcusdt@aggTrade"'),
    ("binance", f"{BINANCE}/ws", "", 'names no stream; write "/ws/btcusdt@trade"'),
    ("binance", f"{BINANCE}/ws/", "", "names no stream"),
    ("binance", f"{BINANCE}/ws/btcusdt", "", "names no stream"),
    ("binance", BINANCE, "", "names no stream"),
    ("binance", f"{BINANCE}/stream", "", 'write "/stream?streams=btcusdt@trade/ethusdt@trade"'),
    ("binance", f"{BINANCE}/stream?stream=btcusdt@trade", "", 'write "/stream?streams='),
    ("binance", f"{BINANCE}/ws/btcusdt@trades", "", 'write "btcusdt@trade"'),
    ("binance", f"{BINANCE}/ws/btcusdt@aggtrade", "", 'write "btcusdt@aggTrade"'),
    ("binance", f"{BINANCE}/ws/btcusdt@depth", "", 'has no trades; write "btcusdt@trade"'),
    ("binance", f"{BINANCE}/ws/btcusdt@depth20@100ms", "", "has no trades"),
    ("binance", f"{BINANCE}/ws/btcusdt@trade/ethusdt@bookTicker", "", 'write "ethusdt@trade"'),
    ("binance", f"{BINANCE}/ws/btcusdt@trade", "ETH/USD", '"ETH/USD" is not what the url names (BTCUSDT)'),
    ("kraken", f"{BINANCE}/ws/btcusdt@trade", "BTC/USD", 'stream.binance.com is not its host; write "binance"'),
    ("binance", f"{KRAKEN}/v2", "BTC/USD", 'ws.kraken.com is not its host; write "kraken"'),
    ("coinbase", "wss://ws.gemini.com", "BTC-USD", 'write "gemini" or "gemini_v1" or "gemini_v2"'),
    ("kraken", KRAKEN, "BTC/USD", 'write "wss://ws.kraken.com/v2"'),
    ("kraken", f"{KRAKEN}/v1", "BTC/USD", 'write "wss://ws.kraken.com/v2"'),
    ("kraken", f"{KRAKEN}/v2", "XBT/USD", 'write "BTC/USD"'),
    ("kraken", f"{KRAKEN}/v2", "xdg/xbt", 'write "DOGE/BTC"'),
    ("coinbase", "wss://advanced-trade-ws.coinbase.com", "BTC-USD", 'write "wss://ws-feed.exchange.coinbase.com"'),
    ("gemini_v1", "wss://api.gemini.com/v1/marketdata/", "", 'write "wss://api.gemini.com/v1/marketdata/btcusd"'),
    ("gemini_v1", "wss://api.gemini.com/v1/marketdata/btcusd", "ETH/USD", "is not what the url names (BTCUSD)"),
]
POSSIBLE = [
    ("binance", f"{BINANCE}/ws/btcusdt@trade", "BTC/USD"),
    ("binance", f"{BINANCE}/ws/btcusdt@trade", "bitcoin"),
    ("binance", f"{BINANCE}/ws/btcusdt@trade", "XBT/USD"),
    ("binance", f"{BINANCE}/ws/1000shibusdt@aggTrade", "SHIB/USDT"),
    ("binance", f"{BINANCE}/ws/btcusdt@trade/btcusdt@bookTicker", "BTC/USDT"),
    ("binance", "wss://data-stream.binance.vision/stream?streams=btcusdt@trade/ethusdt@aggTrade", ""),
    ("binance", "wss://fstream.binance.com/ws/btcusdt@aggTrade", ""),
    ("binance", "ws://127.0.0.1:8080/some/proxy", ""),
    ("binance", "ws://127.0.0.1:8080/ws/币安人生usdt@trade", ""),
    ("kraken", "ws://127.0.0.1:8080/proxy/v2/", "DOGE/USD"),
    ("coinbase", "wss://ws-feed.exchange.coinbase.com", "BTC-USD"),
    ("gemini", "wss://ws.gemini.com", "BTCUSD"),
]


@pytest.mark.holds("CONFIG12")
@pytest.mark.parametrize(("kind", "url", "symbol", "right"), IMPOSSIBLE)
def test_what_can_never_work_is_refused(tmp_path: Path, kind: str, url: str, symbol: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sources(write(tmp_path, table(kind, url, symbol)))
    assert str(caught.value).startswith(f'{tmp_path}/ws_sources.toml: source[1] "a".')
    assert right in str(caught.value)


@pytest.mark.parametrize(("kind", "url", "symbol"), POSSIBLE)
def test_what_may_work_is_not_refused(tmp_path: Path, kind: str, url: str, symbol: str) -> None:
    (source,) = load_sources(write(tmp_path, table(kind, url, symbol)))
    assert source.url == url


def table(kind: str, url: str, symbol: str) -> dict[str, str]:
    return {**GOOD, "kind": json.dumps(kind), "url": json.dumps(url), "symbol": json.dumps(symbol)}


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [source.name for source in load_sources(path)] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": '"ticker"'}, '.kind = "ticker" (what the first system called "ticker"): must be one of binance,'),
        ({"kind": '"ticker"'}, '; for this url it is "binance"'),
        ({"kind": '"ticker"', "url": '"wss://api.gemini.com/v1/marketdata/btcusd"'}, 'for this url it is "gemini_v1"'),
        ({"kind": '"gemini_v2"'}, ".symbol: gemini_v2 subscribes by symbol, so it must be named"),
        ({"symbol": '"A"', "symbols": '["A"]'}, ".symbols: beside .symbol; name all of them in symbols = [...]"),
        ({"symbols": "[]"}, ".symbols = []: must be a list of 1 to 100 texts, such as"),
        ({"symbols": '["A", ""]'}, ".symbols = ['A', '']: must be a list of 1 to 100 texts"),
        ({"symbols": '"A"'}, ".symbols = 'A': must be a list"),
        ({"symbols": "[1]"}, ".symbols = [1]: must be a list"),
        ({"symbols": '["A/B", "a-b"]'}, ".symbols = ['A/B', 'a-b']: two of them are the same symbol"),
        (
            {"symbols": '["BTC/USD", "X"]'},
            '"BTC/USD" is not among the streams of the url (BTCUSDT); name it as the url',
        ),
        (
            {"kind": '"coinbase"', "symbol": '"BTCUSD"'},
            '.symbol: "BTCUSD": base and quote must be separate, as in "BTC',
        ),
        ({**OF_KRAKEN, "symbols": '["A/B", "/"]'}, '.symbols: "/": base and quote must be separate, as in'),
        (
            {**OF_GEMINI_V1, "symbols": '["A", "B"]'},
            ".symbols: the url names the one symbol it sends; give each",
        ),
        (
            {"url": '"ws://h/stream?streams=' + "/".join(f"c{n}@trade" for n in range(769)) + '"'},
            ".url: names 769 symbols; one source has at most 768: give some a [[source]] of their own",
        ),
        ({"kind": "5"}, ".kind = 5: must be a text in quotes"),
        ({"name": '""'}, '.name = "": must not be empty'),
        ({"url": '"http://h"'}, '.url = "http://h": must be a ws:// or wss:// URL'),
        ({"url": '"ws://"'}, "must be a ws:// or wss:// URL"),
        ({"url": '"ws://h:port"'}, "must be a ws:// or wss:// URL"),
        ({"priority": "-1"}, ".priority = -1: must be a whole number from 0 to 1000; the least is tried first"),
        ({"priority": "true"}, ".priority = True: must be a whole number"),
        ({"ca_file": '"/none.pem"'}, '.ca_file = "/none.pem": there is no such file'),
        ({"wieght": "1"}, ".wieght: unknown key; allowed are name, url, kind, priority, symbol, symbols, ca_file"),
    ],
)
def test_refusal_names_file_source_and_key(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = write(tmp_path, {**GOOD, **change})
    with pytest.raises(ConfigError) as caught:
        load_sources(path)
    assert str(caught.value).startswith(f"{path}: source[1]")
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["name", "url", "kind", "priority"])
def test_missing_key_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, GOOD, {key: value for key, value in GOOD.items() if key != name})
    with pytest.raises(ConfigError, match=rf"source\[2\]\.{name}: is missing"):
        load_sources(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "source: must be one"),
        ("source = 5", "source: must be one"),
        ("source = [5]", "source[1]: must be a [[source]] table"),
        ("[engine]\nseed = 1", "engine: unknown key; the file holds [[source]] tables only"),
        ("[[source", "is not valid TOML"),
        ("\udcff", "is not UTF-8 text (byte 0); TOML is"),
    ],
)
def test_invalid_sources_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "ws_sources.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        load_sources(path)
    assert message in str(caught.value)


def test_repeated_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two sources have this name"):
        load_sources(write(tmp_path, GOOD, GOOD))


@pytest.mark.parametrize(
    ("kind", "url", "symbols"),
    [
        ("binance", "ws://h/stream?streams=btcusdt@trade/ethusdt@aggTrade", '["ETH/USDT", "BTC/USDT"]'),
        ("binance", "ws://h/proxy/ws/btcusdt@trade/ethusdt@trade", '["BTC/USDT", "ETH/USDT"]'),
        ("binance", "ws://h/some/proxy", '["BTC/USD", "ETH/USD"]'),  # what that URL sends is unknown
        ("coinbase", "wss://h", '["BTC-USD", "ETH/USD"]'),
        ("kraken", "wss://h/v2", '["BTC/USD", "ETH/USD"]'),
        ("gemini", "wss://h", '["BTCUSD", "ETH/USD"]'),
    ],
)
def test_symbols_must_match_url(tmp_path: Path, kind: str, url: str, symbols: str) -> None:
    table = {**GOOD, "kind": f'"{kind}"', "url": f'"{url}"', "symbols": symbols}
    (result,) = load_sources(write(tmp_path, table))
    assert list(result.symbols) == json.loads(symbols)


def source(url: str, symbol: str = "", kind: str = "binance") -> Source:
    return Source("s", url, kind, (symbol,) if symbol else (), 1, "")


@pytest.mark.parametrize(
    ("src", "app_symbol", "theirs", "ours"),
    [
        (source("ws://h/ws/btcusdt@trade", "BTC/USD"), "X", "BTCUSDT", "BTC/USD"),  # the operator's name
        (source("ws://h/ws/btcusdt@trade", "BTC/USD"), "X", "ETHUSDT", "ETHUSDT"),  # never by a guess
        (source("ws://h/ws/btcusdt@trade"), "BTC/USDT", "BTCUSDT", "BTC/USDT"),
        (source("ws://h/ws/btcusdt@trade"), "BTC/USD", "BTCUSDT", "BTCUSDT"),
        (source("ws://h/stream?streams=a@trade/b@trade", "BTC/USD"), "X", "BTCUSD", "BTC/USD"),
        (source("wss://h/v1/marketdata/btcusd", "BTC/USD", "gemini_v1"), "X", "", "BTC/USD"),
        (source("wss://h/v1/marketdata/btcusd", "", "gemini_v1"), "BTC/USD", "", "BTC/USD"),
        (source("wss://h/v1/marketdata/ethusd", "", "gemini_v1"), "BTC/USD", "", "ETHUSD"),
        (source("wss://h/v2/marketdata", "BTC/USD", "gemini_v2"), "X", "BTCUSD", "BTC/USD"),
        (source("ws://h/proxy/ws/btcusdt@trade", "BTC/USD"), "X", "BTCUSDT", "BTC/USD"),
        (source("ws://h/ws/btcusdt@trade?timeUnit=MICROSECOND", "BTC/USD"), "X", "BTCUSDT", "BTC/USD"),
        (source("ws://h/proxy/v1/marketdata/btcusd/?trades=true", "", "gemini_v1"), "X", "", "BTCUSD"),
        # A path that names an exchange does not name a symbol.
        (source("ws://h/coinbase", "", "auto"), "BTC/USD", "", "BTC/USD"),
        (source("ws://h/v2", "", "auto"), "BTC/USD", "", "BTC/USD"),
        (source("ws://h/v1/marketdata/ethusd", "", "auto"), "BTC/USD", "", "ETHUSD"),
    ],
)
def test_ticks_use_the_operators_symbol(src: Source, app_symbol: str, theirs: str, ours: str) -> None:
    assert SymbolNames(src, app_symbol).local_name(theirs) == ours


def test_gemini_v1_url_query() -> None:
    url = EXCHANGES["gemini_v1"].connection_url("wss://h/v1/marketdata/btcusd?bids=true")
    assert url.partition("?")[2].split("&") == ["heartbeat=true", "trades=true", "bids=true", "offers=false"]
    assert EXCHANGES["binance"].connection_url("wss://h/ws/x@trade") == "wss://h/ws/x@trade"


@pytest.mark.parametrize(
    ("status", "headers", "hold"),
    [
        (429, {"Retry-After": "7"}, 7),
        (418, {"retry-after": "7"}, 7),
        (418, {"Retry-After": "172800"}, 172800),
        (429, {"Retry-After": "99999999"}, 3 * 86400),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60),
        (429, {}, 60),
        (451, {}, 900),
        (403, {"Retry-After": "1"}, 900),
        (500, {"Retry-After": "7"}, 0),
    ],
)
def test_retry_after_header_values(status: int, headers: dict[str, str], hold: float) -> None:
    assert failure_of(WebSocketBadStatusException("%s %s", status, "no", headers)).hold_s == hold
