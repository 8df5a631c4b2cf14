"""Writes `docs/config.md` from the settings: `python -m tests.config_table`. A test compares the two."""

import json
from pathlib import Path

from hybrid_engine.config.limits import LEAST_RETENTION, LIMITS
from hybrid_engine.config.load import KEYS
from hybrid_engine.config.settings import REPLACED
from hybrid_engine.config.sources import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "config.md"

_HEAD = """# Configuration

`/etc/hybrid-engine/config.toml`. Later wins: defaults < file < environment (`HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5`)
< command line. Unknown keys are refused with exit 12. `hybrid-engine config check` validates the configuration and
prints each value and where it comes from; `config show` prints it as a commented TOML file.

The column SIGHUP says whether a key can be changed while the engine runs: `systemctl reload` applies it. Every other
key needs a restart. This page is written by `python -m tests.config_table`.

| key | default | allowed | SIGHUP | description |
|---|---|---|---|---|
"""

_LIMITS = """
## Values that make a guarantee void

The engine runs with any allowed value. Beyond these limits a guarantee of [guarantees.md](guarantees.md) does not hold:
`config check` says so (`void ...`), the statement of a run of the proofs has it, and LIVE is refused.

| key | guarantee | holds |
|---|---|---|
"""

_TAIL = """
## Keys of the first system

`engine.start_price`, `price_step`, `volume` and `[dashboard]` load unchanged. Modes are not case-sensitive, and the
underscore may be left out (`mockws`). These keys have a new name, which the refusal tells:

| first system | now |
|---|---|
"""

_SOURCES = """
## `ws_sources.toml`

One `[[source]]` table for each exchange. Required keys: `name`, `url` (ws:// or wss://), `kind` ({kinds}) and
`priority` (0 to 1000; the lowest is tried first). Optional keys: `symbol`, or `symbols = [...]` for several (the names
of its symbols in the database), and `ca_file` (the certificate of a private CA).

| `kind` | example of a URL | symbols |
|---|---|---|
| `binance` | `wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@aggTrade` | the URL names them |
| `coinbase` | `wss://ws-feed.exchange.coinbase.com` | required, base and quote separate (`BTC/USD`) |
| `gemini` | `wss://ws.gemini.com` | required |
| `gemini_v1` | `wss://api.gemini.com/v1/marketdata/btcusd` | the URL names the only one |
| `gemini_v2` | `wss://api.gemini.com/v2/marketdata` | required |
| `kraken` | `wss://ws.kraken.com/v2` | required, base and quote separate (`BTC/USD`) |

Write symbols as you like; the subscription uses each exchange's own spelling (`btcusd`, `BTC-USD` or `BTCUSD` for
`BTC/USD`). Where the URL names a single symbol, any name is possible (`BTC/USD` for `btcusdt`); where it names several,
use the names in the URL (`BTC/USDT`).

```toml
[[source]]
name = "gemini_btcusd"
url = "wss://api.gemini.com/v1/marketdata/btcusd"
kind = "gemini_v1"
symbol = "BTC/USD"
priority = 1

[[source]]
name = "binance_btcusdt"
url = "wss://stream.binance.com:9443/ws/btcusdt@trade"
kind = "binance"
symbol = "BTC/USD"
priority = 2

[[source]]
name = "coinbase"
url = "wss://ws-feed.exchange.coinbase.com"
kind = "coinbase"
symbols = ["BTC/USD", "ETH/USD"]
priority = 3
```
"""


def page() -> str:
    """The page, rendered from the settings."""
    rows = []
    for name, item in KEYS.items():
        meta = item.metadata
        if meta["choices"]:
            allowed = ", ".join(meta["choices"])
        elif meta["low"] is not None:
            allowed = f"{meta['low']:.15g} to {meta['high']:.15g}"
        else:
            allowed = "true, false" if item.type is bool else "text"
        reload = "yes" if meta["reloadable"] else ""
        rows.append(f"| `{name}` | `{json.dumps(item.default)}` | {allowed} | {reload} | {meta['doc']} |")
    replaced = [f"| `{old}` | `{new}` |" for old, new in REPLACED.items()]
    replaced.append(f'| `kind = "ticker"` of a source | one of `{"`, `".join(KINDS)}` |')
    kinds = ", ".join(f"`{kind}`" for kind in KINDS)
    limits = [f"| `{limit.key}` | {limit.guarantee} | {limit} |" for limit in LIMITS]
    limits.append(f"| `{LEAST_RETENTION.key}` | {LEAST_RETENTION.guarantee} | 0, or {LEAST_RETENTION} |")
    return (
        _HEAD
        + "\n".join(rows)
        + "\n"
        + _LIMITS
        + "\n".join(limits)
        + "\n"
        + _TAIL
        + "\n".join(replaced)
        + "\n"
        + _SOURCES.format(kinds=kinds)
    )


if __name__ == "__main__":
    PAGE.write_text(page())
