"""Execution adapters: the protocol that carries out an order, and the adapter of SHADOW and PAPER, without a network.

A live adapter is a package of its own that names a factory in the entry point group `hybrid_engine.adapters`:

    [project.entry-points."hybrid_engine.adapters"]
    my_exchange = "my_package:make_adapter"

`live_gate` loads it, and only once the gate of LIVE is open. None ships.
"""

from typing import NamedTuple, Protocol

from hybrid_engine.domain.events import FILLED, Signal

FEE_RATE = 0.001  # of the notional


class Execution(NamedTuple):
    """The result of an order.

    `status` is FILLED or REJECTED, `reason` a word for the order's row; `price` is in quote currency per unit of base,
    `fee` in quote currency. There are no partial fills: an order that cannot be filled completely is rejected.
    """

    status: str
    reason: str
    price: float
    fee: float


class ExecutionAdapter(Protocol):
    """Executes orders.

    `execute` is called in execution's own thread, one order after the other, and only for orders within the risk caps.
    It must return within a second: without a sign of life for longer, the stage counts as stuck. An exception ends the
    engine with exit 1, because then nobody knows whether the order was sent.
    """

    def execute(self, signal: Signal, price: float) -> Execution:
        """Execute an order of `signal.side` and `signal.size` (units of base). `price` is the symbol's last price.

        `signal.id` is unique and is also the order's id, so it can be the client order id at an exchange.
        """


class FillAtLast:
    """The adapter of SHADOW and PAPER: fills at once at the last price, with a fee."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def execute(self, signal: Signal, price: float) -> Execution:
        return Execution(FILLED, self._reason, price, signal.size * price * FEE_RATE)


WITHOUT_NETWORK = {"SHADOW": FillAtLast("SHADOW_RECORDED"), "PAPER": FillAtLast("PAPER_FILLED")}
