import json

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded
from tests.exchanges.table import Table, refused

T = 1_700_000_000_123
TRADE = {"E": T * 1_000_000 + 999_999, "s": "btcusd", "t": 2840140956529623, "p": "43210.01", "q": "0.0015", "m": True}
PRINT = MarketTrade("btcusd", 43210.01, 0.0015, 2840140956529623, T)

TABLE = Table(
    trades=[(json.dumps(TRADE), PRINT, [])],
    price="p",
    size="q",
    without_trades=[
        (
            {"id": "btcusd@trade", "status": 400, "error": {"code": -1121, "msg": "Invalid symbol."}},
            refused("400: -1121: Invalid symbol.", "btcusd"),
        ),
        ({"id": 7, "status": 400}, refused("400")),
        ({"id": "trades", "status": 200}, Decoded([], [], acknowledged=["*"])),
        ({"id": "btcusd@trade", "status": 200}, Decoded([], [], acknowledged=["btcusd"])),
    ],
    ignored=[
        {"u": 1, "E": T, "s": "btcusd", "b": "1", "B": "1", "a": "1", "A": "1"},
        {"lastUpdateId": 1, "bids": [], "asks": []},
        {"e": "depthUpdate", "E": T, "s": "btcusd", "U": 1, "u": 2, "b": [], "a": []},
    ],
    unknown=[{"status": 200}, {"id": "btcusd@trade"}, {}],
    undecodable=[
        ({**TRADE, "E": "now"}, "E: not a time"),
        ({"t": 5}, "p: missing"),
        ({"p": "5"}, "q: missing"),
        ({**TRADE, "t": 1.5}, "t: not a trade id"),
    ],
    subscription=[{"id": "trades", "method": "subscribe", "params": ["btcusd@trade", "ethusd@trade"]}],
)
