from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded, Mark
from tests.exchanges.table import Table, refused

# As text, with the numbers as the exchange writes them.
ONE = (
    '{"symbol":"MATIC/USD","side":"sell","price":0.5117,"qty":40.0,"ord_type":"market","trade_id":4665906,'
    '"timestamp":"2023-09-25T07:49:37.708706Z"}'
)
TWO = (
    '{"symbol":"MATIC/USD","side":"buy","price":5.1e-1,"qty":1E-8,"ord_type":"limit","trade_id":4665905,'
    '"timestamp":"2023-09-25T07:49:37Z"}'
)
PRINT = MarketTrade("MATIC/USD", 0.5117, 40.0, 4665906, 1695628177708)
MARK = Mark("MATIC/USD", 4665906, 4665906, True)


def update(*trades: str, kind: str = "update") -> str:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(trades)}]}}'


def changed(name: str, value: str) -> str:
    before, _, after = ONE.partition(f'"{name}":')
    return update(f'{before}"{name}":{value}{after[after.find(",") if "," in after else after.find("}") :]}')


EARLIER = MarketTrade("MATIC/USD", 0.51, 1e-8, 4665905, 1695628177000)


TABLE = Table(
    trades=[(update(ONE), PRINT, [MARK])],
    price="price",
    size="qty",
    without_trades=[
        # Trades of one message in any order; the marks are sorted.
        (
            update(ONE, TWO),
            Decoded(
                [PRINT, EARLIER],
                [],
                [Mark("MATIC/USD", 4665905, 4665905, True), MARK],
            ),
        ),
        # History: the number of the next one is known, and what was missed may be among it.
        (
            update(ONE, TWO, kind="snapshot"),
            Decoded([], [], [Mark("MATIC/USD", 4665907, 4665906, True)], history=[EARLIER, PRINT]),
        ),
        (
            {"method": "subscribe", "success": False, "symbol": "X/Y", "error": "Currency pair not supported X/Y"},
            refused("Currency pair not supported X/Y", "X/Y"),
        ),
        ({"error": "Malformed request", "method": "error", "success": False}, refused("Malformed request")),
        # What the earlier version of its protocol says.
        (
            {"errorMessage": "Currency pair not supported XBT/FOO", "event": "subscriptionStatus", "pair": "XBT/FOO"}
            | {"status": "error"},
            refused("Currency pair not supported XBT/FOO", "XBT/FOO"),
        ),
        (
            {"method": "subscribe", "result": {"channel": "trade", "symbol": "MATIC/USD"}, "success": True},
            Decoded([], [], acknowledged=["MATIC/USD"]),
        ),
    ],
    ignored=[
        {"channel": "heartbeat"},
        {"channel": "status", "type": "update", "data": [{"system": "online"}]},
        {"method": "subscribe", "result": None, "success": True},
        {"method": "pong"},
        {"channel": "trade", "type": "something_new", "data": [1]},
        {"channel": "trade", "type": "snapshot", "data": [1, {"trade_id": 5}]},
        {"channel": "trade", "type": "snapshot", "data": None},
        {"channel": "ticker", "type": "update", "data": [{"symbol": "MATIC/USD"}]},
    ],
    unknown=[{"event": "systemStatus", "status": "online"}, [0, [["1", "2"]], "trade", "XBT/USD"]],
    undecodable=[
        ({"channel": "trade", "type": "update", "data": {}}, "data: not a list"),
        ({"channel": "trade", "type": "update", "data": [7]}, "data: not objects"),
        (changed("timestamp", '"yesterday"'), "timestamp: not a time"),
        (changed("trade_id", "1.5"), "trade_id: not a trade id"),
        (changed("symbol", "null"), "symbol: not a symbol"),
        (changed("price", "1e400"), "price: not a positive number"),
        (changed("price", "-0.5"), "price: not a positive number"),
    ],
    subscription=[
        {
            "method": "subscribe",
            "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": True},
        }
    ],
)
