import json

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded, Mark
from tests.exchanges.table import Table, refused

MATCH = {
    "type": "match",
    "trade_id": 280232,
    "maker_order_id": "2a0da34e-61f7-4c36-88e5-c9dd15927b16",
    "taker_order_id": "3c82abaa-c01e-4608-be59-6a1e69742891",
    "side": "sell",
    "size": "985",
    "price": "0.00001305",
    "product_id": "SKL-BTC",
    "sequence": 177100030,
    "time": "2021-04-17T16:43:37.089723Z",
}
PRINT = MarketTrade("SKL-BTC", 0.00001305, 985.0, 280232, 1618677817089)
MARK = Mark("SKL-BTC", 280232, 280232, True)
HEARTBEAT = {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": "BTC-USD", "time": MATCH["time"]}


def only(*marks: Mark) -> Decoded:
    return Decoded([], [], marks)


TABLE = Table(
    trades=[
        (json.dumps(MATCH), PRINT, [MARK]),
        (json.dumps({**MATCH, "trade_id": None}), PRINT._replace(exchange_id=None), []),
        (json.dumps({**MATCH, "sequence": "?"}), PRINT, [MARK]),
    ],
    price="price",
    size="size",
    without_trades=[
        # History: the number of the next one is known, and what was missed may be this.
        (
            {**MATCH, "type": "last_match"},
            Decoded([], [], [Mark("SKL-BTC", 280233, 280232, True)], history=[PRINT]),
        ),
        (HEARTBEAT, only(Mark("BTC-USD", 21, 20, True))),
        (
            {"type": "error", "message": "Failed to subscribe", "reason": "BTC-UDS is not a valid product"},
            refused("Failed to subscribe: BTC-UDS is not a valid product"),
        ),
        ({"type": "error"}, refused("without a reason")),
        (
            {
                "type": "subscriptions",
                "channels": [
                    {"name": "matches", "product_ids": ["BTC-USD", "ETH-USD", 7]},
                    {"name": "heartbeat", "product_ids": ["X-USD"]},
                    5,
                ],
            },
            Decoded([], [], [], acknowledged=["BTC-USD", "ETH-USD"]),
        ),
    ],
    ignored=[
        {**HEARTBEAT, "last_trade_id": 0},  # what a client gets that is not logged in
        {**HEARTBEAT, "last_trade_id": "20"},
        {**HEARTBEAT, "product_id": None},
        {"type": "subscriptions", "channels": []},
        {"type": "ticker", "price": "1", "last_size": "1", "trade_id": 5, "product_id": "BTC-USD"},
        {"type": "l2update", "product_id": "BTC-USD", "changes": []},
        {"type": "something_new"},
        {"type": "subscriptions", "channels": None},
        {"type": "subscriptions", "channels": [{"name": "matches", "product_ids": 5}]},
    ],
    # Of Coinbase Advanced Trade, which speaks another protocol.
    unknown=[{"channel": "market_trades", "events": [{"type": "update", "trades": []}]}, [MATCH]],
    undecodable=[
        ({**MATCH, "time": 1618677817089}, "time: not a time"),
        ({**MATCH, "time": "2021-04-17"}, "time: not a time"),
        ({**MATCH, "trade_id": "280232"}, "trade_id: not a trade id"),
        ({**MATCH, "product_id": []}, "product_id: not a symbol"),
    ],
    subscription=[
        {"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"], "channels": ["matches", "heartbeat"]},
    ],
    recorded={
        "coinbase.jsonl": {
            "SKL-BTC": (8, 0.00001305, 280232, 0.00001304, 280239),
            "SKL-GBP": (1, 0.5762, 82008, 0.5762, 82008),
            "NU-GBP": (1, 0.4393, 563679, 0.4393, 563679),
        },
    },
)
