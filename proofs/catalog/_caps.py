"""The risk caps: by what is stored, no order that was filled took a position beyond one, each that was refused would
have, and one that reduces a position is always filled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proofs.catalog._checks import at_least, equal
from proofs.catalog._steady import OnExchanges
from proofs.experiment.exchange import Exchange
from proofs.experiment.measurements import Count, figures_of
from proofs.experiment.subject import Subject, config
from proofs.experiment.trace import Between, Trace
from proofs.host.database import Store
from proofs.verdict import Check, Json

SYMBOL_CAP, GROSS_CAP = 1200.0, 2700.0  # 0.1 of any market is worth about 10
TRADES = 1403
SEED = 13  # of prices that rise and fall by more than one order is worth of the caps
RATE = 1500
# A signal at each tick, BUY and SELL in turn, and every second trade is one market's: so that is bought and the others
# are sold, until a number is left out, and then the other way round.
TURNS = (500, 700, 1100)
_STREAMS = "btcusdt@trade/ethusdt@trade/btcusdt@trade/ltcusdt@trade"
_SLACK = 1e-9  # of an exposure, as sums of many sizes may differ in their last digit
_ORDERS = """
SELECT k.symbol, k.price, s.side AS due_side, s.size AS due_size, o.side, o.size, o.status,
 r.side AS trade_side, r.size AS trade_size
 FROM ticks k LEFT JOIN signals s ON s.tick_id = k.id LEFT JOIN orders o ON o.signal_id = s.id
 LEFT JOIN trades r ON r.order_id = o.id ORDER BY k.id
"""
Rows = Sequence[Mapping[str, Json]]


@dataclass(frozen=True)
class Markets:
    """Trades of each market by the exchange's count, and numbers that it left out."""

    sent: dict[str, Count]
    lost: Count


@dataclass(frozen=True, kw_only=True)
class Held:
    """difference: the first order that is not as the caps say, "" without one. forced: filled as they reduce, though
    what is left is beyond a cap. vetoes: by the run's own count."""

    n: Count
    filled: Count
    vetoed: Count
    reducing: Count
    forced: Count
    difference: str
    vetoes: Count


class Caps(OnExchanges):
    name = "risk caps"
    fault = f"an order at each of {TRADES} trades of three markets, far beyond caps of {SYMBOL_CAP:g} and {GROSS_CAP:g}"
    n_min = TRADES

    def steady(self, subject: Subject) -> None:
        turns = [{"command": "lose", "n": 1, "after_sent": after} for after in TURNS]
        feed = {"hold": True, "count": TRADES + len(TURNS), "rate": RATE, "seed": SEED, "ids": "symbol", "do": turns}
        self.exchanges["mock"] = exchange = Exchange(subject.host, "mock", first_id=1, **feed)
        subject.fresh()
        url = exchange.url().replace("btcusdt@trade", _STREAMS)
        engine = config(ingest_mode="MOCK_WS", ws_url=url, signal_every_n_ticks=1, heartbeat_interval_secs=0.5)
        caps = f"[risk_caps]\nmax_symbol_exposure_usd = {SYMBOL_CAP}\nmax_exposure_usd = {GROSS_CAP}\n"
        subject.put("config.toml", f"{engine}\n{caps}")
        self.cursor = subject.unit.cursor()
        subject.restart()
        subject.host.wait_for("the engine to subscribe", 15, lambda: self.counted("subscribed") == 1, every=0.05)

    def inject(self, subject: Subject) -> None:
        self.exchange.tell("resume")

    def witness(self, subject: Subject) -> Markets:
        subject.host.wait_for("the feed to end", 15, lambda: self.counted("complete"), every=0.1)
        return _markets(self.exchange.stats())

    def witnessed(self, witness: Markets) -> bool:
        sent = witness.sent.values()
        return len(sent) == 3 and sum(sent) == TRADES and witness.lost == len(TURNS)

    def traced_witness(self, witness: Markets, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(_markets(trace.stats("mock")))

    def measure(self, subject: Subject) -> Held:
        self.old = subject.unit.state(quiet=False)
        self.await_counted(subject, TRADES)
        subject.host.do("systemctl", "stop", subject.unit.name)
        return held(subject.recorded())

    def traced(self, measured: Held, trace: Trace) -> Mapping[str, Json | Between]:
        return figures_of(held(trace.store()))

    def judge(self, measured: Held) -> Sequence[Check]:
        return (
            equal("orders", measured.n, TRADES, guard=True),
            Check("as the caps say", measured.difference or "all", "all", not measured.difference, guard=True),
            at_least("vetoed", measured.vetoed, TRADES // 10, guard=True),
            at_least("reducing", measured.reducing, TRADES // 10, guard=True),
            at_least("reducing to what is beyond a cap", measured.forced, 1, guard=True),
            equal("risk_vetoes", measured.vetoes, measured.vetoed),
        )


def _markets(stats: Mapping[str, Json]) -> Markets:
    return Markets(stats["sent_by_symbol"], stats["lost"])


def held(store: Store) -> Held:
    rows = store.rows(_ORDERS)
    reducing, forced, difference = 0, 0, ""
    net: dict[str, float] = {}
    price: dict[str, float] = {}
    for number, row in enumerate(rows, 1):
        symbol, status = row["symbol"], row["status"]
        price[symbol] = row["price"]
        old = net.get(symbol, 0.0)
        new = old + (row["due_size"] or 0.0) * {"BUY": 1, "SELL": -1}.get(row["due_side"], 0)
        own = abs(new) * price[symbol]
        gross = own + sum(abs(net[one]) * price[one] for one in net if one != symbol)
        reduces = abs(new) < abs(old)
        over = max(own / SYMBOL_CAP, gross / GROSS_CAP) - 1
        due = "FILLED" if reduces or over <= 0 else "REJECTED"
        sure = reduces or abs(over) > _SLACK
        reducing += reduces
        forced += reduces and over > _SLACK
        if sure and status != due:
            difference = difference or f"row {number}: {status}, due {due}: {old:.6g} to {new:.6g} {symbol}"
        of_signal = row["due_side"], row["due_size"]
        made = [(row["side"], row["size"]), (row["trade_side"], row["trade_size"])]
        if any(one != of_signal for one in made[: 1 + (status == "FILLED")]):
            difference = difference or f"row {number}: signal {of_signal}, order and trade {made}"
        if status == "FILLED":
            net[symbol] = new
    statuses = [row["status"] for row in rows]
    return Held(
        n=len(rows) - statuses.count(None),
        filled=statuses.count("FILLED"),
        vetoed=statuses.count("REJECTED"),
        reducing=reducing,
        forced=forced,
        difference=difference,
        vetoes=store.runs()[-1]["risk_vetoes"],
    )
