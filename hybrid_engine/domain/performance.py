"""How a run's trades would have done: positions at average cost, result, drawdown and exposure, in quote currency.

Average cost: a trade that adds to a position changes its average price; one that reduces it realises the difference
between its price and the average; one that turns it around does first the latter with all of it, then begins anew.
"""

from hybrid_engine.domain.events import BUY


class Position:
    """What was done in one symbol. net: units of base, negative when short; average: price per unit of what is held."""

    __slots__ = (
        *("average", "closing", "exposure_max", "fees", "last_price", "net", "realised", "trades", "turnover"),
        "winning",
    )

    def __init__(self) -> None:
        self.net = self.average = self.last_price = 0.0
        self.realised = self.fees = self.turnover = self.exposure_max = 0.0
        self.trades = self.closing = self.winning = 0

    @property
    def unrealised(self) -> float:
        return (self.last_price - self.average) * self.net

    @property
    def result(self) -> float:
        """Realised and unrealised, less the fees."""
        return self.realised + self.unrealised - self.fees

    @property
    def exposure(self) -> float:
        """As the risk caps count it: the size of what is held, at the last price."""
        return abs(self.net) * self.last_price

    @property
    def win_rate(self) -> float | None:
        """The share of trades that reduced the position with a gain, before fees; None where none reduced it."""
        return self.winning / self.closing if self.closing else None

    def fill(self, side: str, size: float, price: float, fee: float) -> None:
        """A trade of `size` units of base. side: BUY, else it is a sale."""
        signed = size if side == BUY else -size
        self.trades += 1
        self.fees += fee
        self.turnover += size * price
        if self.net * signed >= 0:  # flat, or the same direction
            total = self.net + signed
            self.average = (self.net * self.average + signed * price) / total if total else 0.0
            self.net = total
        else:
            closed = min(size, abs(self.net))
            gain = (price - self.average) * (closed if self.net > 0 else -closed)
            self.realised += gain
            self.closing += 1
            self.winning += gain > 0
            if size > closed:
                self.net, self.average = (size - closed if signed > 0 else closed - size), price
            elif closed == abs(self.net):
                self.net = self.average = 0.0
            else:
                self.net += signed


class Performance:
    """The positions of one run, which starts flat, marked at every tick."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self.drawdown = 0.0  # the largest fall of the result below its highest value before
        self.exposure_max = 0.0  # of all symbols together
        self._result = self._peak = self._exposure = 0.0

    @property
    def result(self) -> float:
        return sum(position.result for position in self.positions.values())

    def mark(self, symbol: str, price: float) -> None:
        """A tick of `symbol`: what is held is worth this now."""
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position()
        if position.net:
            step = (price - position.last_price) * position.net
            self._exposure += (price - position.last_price) * abs(position.net)
            position.last_price = price
            self._moved(step, position)
        else:
            position.last_price = price

    def fill(self, symbol: str, side: str, size: float, price: float, fee: float) -> None:
        """A trade of a symbol that was marked before."""
        position = self.positions[symbol]
        before, exposure = position.result, position.exposure
        position.fill(side, size, price, fee)
        self._exposure += position.exposure - exposure
        self._moved(position.result - before, position)

    def _moved(self, step: float, position: Position) -> None:
        self._result += step
        if self._result > self._peak:
            self._peak = self._result
        elif self._peak - self._result > self.drawdown:
            self.drawdown = self._peak - self._result
        if self._exposure > self.exposure_max:
            self.exposure_max = self._exposure
        if position.exposure > position.exposure_max:
            position.exposure_max = position.exposure
