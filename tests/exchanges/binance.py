import json

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded, Mark
from tests.exchanges.table import Table, refused

T = 1_700_000_000_123
TRADE = (
    f'{{"e":"trade","E":{T + 5},"s":"BTCUSDT","t":5012345678,"p":"43210.01000000","q":"0.00150000",'
    f'"T":{T},"m":true,"M":true}}'
)
AGG = (
    f'{{"e":"aggTrade","E":{T + 5},"s":"BTCUSDT","a":77,"p":"1.5","q":"2","f":100,"l":105,"T":{T},"m":false,"M":true}}'
)
FUTURES = f'{{"e":"aggTrade","E":{T + 5},"s":"BTCUSDT","a":77,"p":"1.5","q":"2","f":100,"l":105,"T":{T},"m":false}}'
PRINT = MarketTrade("BTCUSDT", 43210.01, 0.0015, 5012345678, T)
AGG_PRINT = MarketTrade("BTCUSDT", 1.5, 2.0, 77, T)  # its own id, not those of its trades
MARK = Mark("BTCUSDT", 5012345678, 5012345678, True)
AGG_MARK = Mark("BTCUSDT", 100, 105, True)


def trade(**change: object) -> dict[str, object]:
    return {**json.loads(TRADE), **change}


def agg(**change: object) -> str:
    return json.dumps({**json.loads(AGG), **change})


SHUTDOWN = Decoded([], [], close_notice="the exchange announced that it shuts this server down")

TABLE = Table(
    trades=[
        (TRADE, PRINT, [MARK]),
        (AGG, AGG_PRINT, [AGG_MARK]),
        (f'{{"stream":"btcusdt@trade","data":{TRADE}}}', PRINT, [MARK]),
        (f'{{"stream":"btcusdt@aggTrade","data":{AGG}}}', AGG_PRINT, [AGG_MARK]),
        (FUTURES, AGG_PRINT, [Mark("BTCUSDT", 77, 77, True)]),
        (agg(T=T * 1000 + 999), AGG_PRINT, [AGG_MARK]),  # a stream with times in microseconds
        (agg(f=-1, l=-1), AGG_PRINT, []),  # invalid sequence numbers give no mark, and the trade is good all the same
        (agg(f=105, l=100), AGG_PRINT, []),
        (agg(f="100"), AGG_PRINT, []),
        (f" \n{TRADE}\r\n", PRINT, [MARK]),
    ],
    price="p",
    size="q",
    without_trades=[
        (
            {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 2},
            refused("2: Invalid request: invalid stream"),
        ),
        ({"code": -1121, "msg": "Invalid symbol."}, refused("-1121: Invalid symbol.")),
        ({"e": "serverShutdown", "E": T}, SHUTDOWN),
        ({"stream": "btcusdt@trade", "data": {"e": "serverShutdown", "E": T}}, SHUTDOWN),
    ],
    ignored=[
        {"e": "depthUpdate", "s": "X"},
        {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "1", "A": "1"},  # bookTicker has no `e`
        {"lastUpdateId": 1, "bids": [], "asks": []},
        {"stream": "x@bookTicker", "data": [1]},
    ],
    unknown=[
        {"result": None, "id": 1},
        {"stream": "x", "data": {"stream": "x@trade", "data": 1}},
        {"e": ["trade"]},
        [{"e": "trade"}],
    ],
    undecodable=[
        (trade(T=0), "T: not a time"),
        (trade(T="soon"), "T: not a time"),
        (trade(T=2**63), "T: not a time"),
        (trade(t=-1), "t: not a trade id"),
        (trade(t=2**63), "t: not a trade id"),
        (trade(t="7"), "t: not a trade id"),
        (trade(t=True), "t: not a trade id"),
        (trade(s=7), "s: not a symbol"),
        (trade(s="x" * 65), "s: not a symbol"),
        (trade(s="BTC\nUSD"), "s: not a symbol"),
        (trade(s="\ud800"), "s: not a symbol"),  # half a surrogate pair: no database stores it
        ({"stream": "btcusdt@trade", "data": None}, "data: not an object"),
    ],
    recorded={
        "binance_spot.jsonl": {
            "NKNUSDT": (1, 0.3528, 15683430, 0.3528, 15683430),
            "LRCBTC": (1, 6.38e-06, 9213679, 6.38e-06, 9213679),
        },
        "binance_futures.jsonl": {
            "CTKUSDT": (14, 1.011, 16599292, 1.011, 16599327),
            "SUSHIUSDT": (13, 7.612, 87353230, 7.617, 87353267),
            "KEEPUSDT": (2, 0.2466, 1211538, 0.2468, 1211539),
            "AKROUSDT": (1, 0.01733, 14888306, 0.01733, 14888306),
        },
    },
)
