import json

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded
from tests.exchanges.table import Table

T = 1_700_000_000_123
TRADE = {
    "type": "trade",
    "symbol": "BTCUSD",
    "event_id": 169841458,
    "timestamp": T,
    "price": "53.5",
    "quantity": "0.1",
    "side": "buy",
}
PRINT = MarketTrade("BTCUSD", 53.5, 0.1, 169841458, T)

TABLE = Table(
    trades=[
        (json.dumps(TRADE), PRINT, []),
        (
            json.dumps({**TRADE, "price": 53.5, "quantity": 1, "event_id": None}),
            MarketTrade("BTCUSD", 53.5, 1.0, None, T),
            [],
        ),
    ],
    price="price",
    size="quantity",
    ignored=[
        {"type": "heartbeat", "timestamp": T},
        {"type": "candles_1m_updates"},
        {"type": "something_new"},
    ],
    without_trades=[
        # History, and the answer to the subscription.
        (
            {"type": "l2_updates", "symbol": "BTCUSD", "changes": [], "trades": [TRADE, TRADE]},
            Decoded([], [], acknowledged=["BTCUSD"], history=[PRINT, PRINT]),
        ),
    ],
    unknown=[{"type": ["trade"]}],
    undecodable=[
        ({**TRADE, "timestamp": None}, "timestamp: not a time"),
        ({**TRADE, "symbol": 5}, "symbol: not a symbol"),
    ],
    subscription=[{"type": "subscribe", "subscriptions": [{"name": "l2", "symbols": ["BTCUSD", "ETHUSD"]}]}],
    recorded={
        "gemini_v2.jsonl": {
            "ANKRUSD": (3, 0.07946, 45465818387, 0.07997, 45465887998),
            "FILUSD": (12, 58.4998, 45465842999, 58.6805, 45465883982),
            "ALCXUSD": (1, 303.05, 45465890462, 303.05, 45465890462),
        }
    },
)
