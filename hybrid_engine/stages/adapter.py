"""How an order is executed: the protocol of execution adapters, and the one that ships, which knows no network.

A live adapter is a package of its own that names a factory in the entry point group `hybrid_engine.adapters`:

    [project.entry-points."hybrid_engine.adapters"]
    my_exchange = "my_package:make_adapter"

`live_gate` looks for it, and only once LIVE's gate is open. None ships.
"""

from typing import NamedTuple, Protocol

from hybrid_engine.domain.events import FILLED, Signal

FEE_RATE = 0.001  # of the notional


class Execution(NamedTuple):
    """What became of an order.

    `status` is FILLED or REJECTED, `reason` a word for the order's row; `price` in quote currency per unit of base,
    `fee` in quote currency. There is no partial fill: what cannot be filled whole is rejected.
    """

    status: str
    reason: str
    price: float
    fee: float


class ExecutionAdapter(Protocol):
    """Carries orders to where they are executed.

    `execute` is called on execution's own thread, one order after the other, and only for orders within the risk caps.
    It answers within a second: the watchdog takes a stage that says nothing for longer for stuck. What it raises ends
    the engine with exit 1, since then nobody knows whether the order is out.
    """

    def execute(self, signal: Signal, price: float) -> Execution:
        """Execute `signal.side` and `signal.size` (units of base); `price` is the symbol's last, for what it is worth.

        `signal.id` is unique and is the order's id as well: it serves as the client order id of an exchange.
        """


class FillAtLast:
    """SHADOW and PAPER: filled at once at the last price, with a fee."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def execute(self, signal: Signal, price: float) -> Execution:
        return Execution(FILLED, self._reason, price, signal.size * price * FEE_RATE)


WITHOUT_NETWORK = {"SHADOW": FillAtLast("SHADOW_RECORDED"), "PAPER": FillAtLast("PAPER_FILLED")}
