import json

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded, Mark
from tests.exchanges.table import Table, refused

T = 1_700_000_000_123
TRADE = {"type": "trade", "tid": 5335307668, "price": "3788.11", "amount": "0.00207", "makerSide": "bid"}
CHANGE = {"type": "change", "side": "ask", "price": "3788.12", "remaining": "1", "delta": "-1", "reason": "trade"}
PRINT = MarketTrade("", 3788.11, 0.00207, 5335307668, T)
MARK = Mark("", 3, 3, False)  # numbers the frames of a connection, and restarts with the next one


def update(*events: object, **more: object) -> str:
    frame = {"type": "update", "eventId": 1, "timestampms": T, "socket_sequence": 3, "events": events, **more}
    return json.dumps(frame)


TABLE = Table(
    trades=[
        (update(CHANGE, TRADE), PRINT, [MARK]),
        (update(TRADE, socket_sequence="3"), PRINT, []),
    ],
    price="price",
    size="amount",
    without_trades=[
        (
            {"type": "heartbeat", "timestampms": T, "sequence": 0, "socket_sequence": 0},
            Decoded([], [], [Mark("", 0, 0, False)]),
        ),
        (
            {"result": "error", "reason": "InvalidSymbol", "message": "Received an invalid symbol: FOOUSD"},
            refused("Received an invalid symbol: FOOUSD: InvalidSymbol"),
        ),
        (update(CHANGE), Decoded([], [], [MARK])),
        (update(), Decoded([], [], [MARK])),
        (update({"type": "block_trade", "price": "1", "amount": "1"}), Decoded([], [], [MARK])),
        # good and undecodable trades in one message, in order
        (
            update({**TRADE, "tid": 1}, {**TRADE, "price": ""}, 7, CHANGE, {**TRADE, "tid": 2}),
            Decoded(
                [PRINT._replace(exchange_id=1), PRINT._replace(exchange_id=2)],
                ["price: not a number", "events: not objects"],
                [MARK],
            ),
        ),
    ],
    ignored=[
        {"type": "update", "events": [{"type": "auction_open"}]},  # without a time, which nothing here needs
    ],
    unknown=[{"type": "something_new"}, {}, [TRADE]],
    undecodable=[
        ({"type": "update", "timestampms": T, "events": {}}, "events: not a list"),
        ({"type": "update", "timestampms": None, "events": [TRADE]}, "timestampms: not a time"),
        (update({**TRADE, "tid": "x"}), "tid: not a trade id"),
    ],
)
