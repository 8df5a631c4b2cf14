"""Writes `docs/config.md` from the settings: `python -m tests.config_table`. A test holds the two equal."""

import json
from pathlib import Path

from hybrid_engine.config.load import KEYS
from hybrid_engine.config.settings import REPLACED
from hybrid_engine.config.sources import KINDS

PAGE = Path(__file__).parents[1] / "docs" / "config.md"

_HEAD = """# Configuration

`/etc/hybrid-engine/config.toml`. Later wins: defaults < file < environment (`HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5`)
< command line. Unknown keys are refused with exit 12. `hybrid-engine config check` validates and prints each value with
where it came from; `config show` prints the whole as a commented file. Written by `python -m tests.config_table`.

| key | default | allowed | SIGHUP | what it is |
|---|---|---|---|---|
"""

_TAIL = """
## Keys of the first system

`engine.start_price`, `price_step`, `volume` and `[dashboard]` load as they are. Modes are read in either case, with or
without the underscore (`mockws`). These have another name, and the refusal says which:

| there | here |
|---|---|
"""

_SOURCES = """
## `ws_sources.toml`

One `[[source]]` table for each exchange: `name`, `url` (ws:// or wss://), `kind` ({kinds}), `priority` (0 to 1000, the
least is tried first), and if wanted `symbol` or `symbols = [...]` (what its ticks are called here) and `ca_file` (a
private CA).

| `kind` | its URL | symbols |
|---|---|---|
| `binance` | `wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@aggTrade` | the URL names them |
| `coinbase` | `wss://ws-feed.exchange.coinbase.com` | required, base and quote apart (`BTC/USD`) |
| `gemini` | `wss://ws.gemini.com` | required |
| `gemini_v1` | `wss://api.gemini.com/v1/marketdata/btcusd` | the URL names the one there is |
| `gemini_v2` | `wss://api.gemini.com/v2/marketdata` | required |
| `kraken` | `wss://ws.kraken.com/v2` | required, base and quote apart (`BTC/USD`) |

Symbols are written as you like them; each exchange is asked in its own spelling (`BTC/USD` is `btcusd`, `BTC-USD` or
`BTCUSD` there). Where the URL names a single symbol, it may be called anything (`BTC/USD` for `btcusdt`); where it
names several, they are called as there (`BTC/USDT`).

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
    """The page as it must be."""
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
    return _HEAD + "\n".join(rows) + "\n" + _TAIL + "\n".join(replaced) + "\n" + _SOURCES.format(kinds=kinds)


if __name__ == "__main__":
    PAGE.write_text(page())
