"""Checks that the result of every decoder must pass, for any input."""

from __future__ import annotations

from hybrid_engine.domain.events import MarketTrade
from hybrid_engine.exchanges import Decoded, Mark

MAX_INT = 2**63 - 1  # the largest integer of a column


def check(decoded: object) -> Decoded:
    """The trades can be stored, the marks are valid, and the texts fit in a log line."""
    assert isinstance(decoded, Decoded)
    for item in decoded.trades:
        assert isinstance(item, MarketTrade)
        assert [type(part) for part in item[:3]] == [str, float, float]
        assert 0 < item.price < float("inf")
        assert 0 < item.size < float("inf")
        assert len(item.symbol) <= 64
        assert item.symbol.isprintable()
        assert type(item.exchange_ms) is int
        assert 0 < item.exchange_ms <= MAX_INT
        assert item.exchange_id is None or type(item.exchange_id) is int
        assert 0 <= (item.exchange_id or 0) <= MAX_INT
    for mark in decoded.marks:
        assert isinstance(mark, Mark)
        assert type(mark.symbol) is str
        assert 0 <= mark.first <= mark.last + 1
        assert max(mark.first, mark.last) <= MAX_INT
        assert mark.symbol or not mark.lasting
    assert all(isinstance(reason, str) and 0 < len(reason) < 200 for reason in decoded.rejections)
    texts = [decoded.close_notice, *(refusal.text for refusal in decoded.refusals)]
    assert all(isinstance(text, str) and len(text) <= 200 for text in texts)
    assert all(isinstance(refusal.symbol, str) and len(refusal.symbol) <= 64 for refusal in decoded.refusals)
    assert all(isinstance(symbol, str) for symbol in decoded.acknowledged)
    return decoded
