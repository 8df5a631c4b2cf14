"""What one connection was asked for, and what the exchange said to that: whether the source is in use.

A connection is in use once it brought a trade of a symbol that it is for, or once the exchange acknowledged the
subscription. An exchange that acknowledges nothing (what it sends is named by the URL) has to have stood for a while
instead. Before that, whatever else it sends is a sign of life and none of use. Times are monotonic seconds.
"""

import re
from collections.abc import Collection, Iterable, Sequence

from hybrid_engine.exchanges import Exchange, Refusal, normalize_symbol

# How long a connection that nobody acknowledges has to stand before its pongs are a sign of use.
STANDING_S = 5.0


class Subscription:
    """`symbols`: what was asked for, under the configured names.

    `unanswered`: those that were not spoken of yet; `answers_at_once`: as of the exchange; `unknown_frames`: how many
    of no known type came since the last one of a known type, `unknown_frame` the last of them.
    """

    def __init__(self, exchange: Exchange, symbols: Iterable[str], now: float) -> None:
        self.in_use = False
        self.answers_at_once = exchange.answers_at_once
        self._may_ask_singly = exchange.answers_by_id
        self.unknown_frames = 0
        self.unknown_frame = b""
        self._unknown_since = 0.0
        self._unknown_told = False
        self.unanswered: set[str] = set()
        self._must_subscribe = exchange.must_subscribe
        self._opened_at = self._asked_at = now
        if exchange.must_subscribe:
            self.ask(symbols, now)

    def ask(self, symbols: Iterable[str], now: float) -> None:
        """These were asked for now."""
        self.unanswered |= set(symbols)
        self._asked_at = now

    @property
    def may_ask_singly(self) -> bool:
        """Whether asking for one symbol at a time, which is tried once, can tell which one a refusal was about."""
        return self._may_ask_singly and not self.in_use and len(self.unanswered) > 1

    def requests_after_refusal(self, now: float) -> list[list[str]]:
        """What to ask for again, as a request was refused as a whole: the symbols of each request."""
        symbols, singly = sorted(self.unanswered), self._may_ask_singly and not self.in_use
        self._may_ask_singly = False
        if not symbols or not (singly or self.answers_at_once):
            return []
        self.ask((), now)
        return [[symbol] for symbol in symbols] if singly else [symbols]

    def confirm(self, symbols: Collection[str]) -> None:
        """The exchange acknowledged these, or sent trades of them."""
        self.in_use = True
        self.unanswered.difference_update(symbols)

    def confirm_standing(self, now: float) -> None:
        """A pong, or a frame of a known type without a trade, came over the connection."""
        if self.may_be_quiet and now - self._opened_at >= STANDING_S:
            self.in_use = True

    @property
    def may_be_quiet(self) -> bool:
        """Whether it would bring trades if there were any, as far as one can tell."""
        return self.in_use or not (self.unknown_frames or self._must_subscribe)

    def note_known(self) -> None:
        self.unknown_frames = 0

    def note_unknown(self, message: bytes, now: float) -> None:
        if not self.unknown_frames:
            self._unknown_since = now
        self.unknown_frames += 1
        self.unknown_frame = message

    def nothing_understood(self, now: float, limit_s: float) -> bool:
        """Whether there were frames of no known type alone for so long. True once."""
        if not self.unknown_frames or self._unknown_told or now - self._unknown_since < limit_s:
            return False
        self._unknown_told = True
        return True

    def overdue(self, now: float, limit_s: float) -> set[str]:
        """The symbols that were to be acknowledged by now."""
        return set(self.unanswered) if now - self._asked_at >= limit_s else set()

    def meant_by(self, refusal: Refusal, symbols: Sequence[str]) -> list[str]:
        """Which of `symbols` a refusal is about; none where it does not say so."""
        # Whole words of its text, as the exchange spells symbols: FOO-USD, FOO/USD, foousd@trade.
        words = {normalize_symbol(word) for word in (refusal.symbol, *re.findall(r"[\w/-]+", refusal.text))}
        meant = [symbol for symbol in symbols if normalize_symbol(symbol) in words]
        return meant or (list(symbols) if len(symbols) == 1 else [])
