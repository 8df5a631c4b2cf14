"""Parsing of what systemctl shows of a unit."""

from __future__ import annotations

import pytest

from proofs.host.unit import seconds


@pytest.mark.parametrize(
    ("span", "value"),
    [("2s", 2.0), ("1min 30s", 90.0), ("100ms", 0.1), ("0", 0.0), ("infinity", float("inf")), ("1h 500us", 3600.0005)],
)
def test_systemctl_time_spans(span: str, value: float) -> None:
    assert seconds(span) == pytest.approx(value)
