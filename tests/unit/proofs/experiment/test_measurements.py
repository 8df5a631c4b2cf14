"""The strict decoding of recorded figures: whatever is missing, additional or of another type is a BadFigure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from proofs.experiment.measurements import BadFigure, Count, Invocation, Row, Seconds, Sha256, decode, encode


@dataclass(frozen=True)
class Span:
    begin: Count
    end: Count


@dataclass(frozen=True, kw_only=True)
class Measured:
    n: Count
    after_s: Seconds | None
    status: int
    spans: list[Span]
    moments: tuple[Count, float]
    another_try: str = field(metadata={"key": "another try"})
    late_ms: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    n: Count
    after_s: None


RECORDED: dict[str, Any] = {
    "n": 3,
    "after_s": 2,
    "status": -9,
    "spans": [{"begin": 1, "end": 2}],
    "moments": [1, -0.5],
    "another try": "locked",
}


def test_a_recording_is_decoded_and_encoded_unchanged() -> None:
    measured = decode(Measured, RECORDED)
    assert measured.spans == [Span(1, 2)]
    assert measured.another_try == "locked"
    assert encode(measured) == RECORDED
    assert encode(decode(Measured, RECORDED | {"late_ms": 7})) == RECORDED | {"late_ms": 7}
    assert encode(decode(Measured | Unmeasured, {"n": 1, "after_s": None})) == {"n": 1, "after_s": None}


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize(
    "changes",
    [
        {"n": -1},
        {"n": True},
        {"n": 3.0},
        {"n": "3"},
        {"n": None},
        {"after_s": float("nan")},
        {"after_s": float("inf")},
        {"after_s": -0.1},
        {"after_s": "2"},
        {"after_s": False},
        {"status": None},
        {"status": 1.5},
        {"spans": {}},
        {"spans": [[1, 2]]},
        {"spans": [{"begin": 1}]},
        {"moments": [1]},
        {"moments": [1, 2, 3]},
        {"another try": 7},
        {"another_try": "locked"},
        {"bound_s": 100.0},
        {"late_ms": -1},
    ],
)
def test_an_odd_figure_is_none(changes: dict[str, Any]) -> None:
    for kind in (Measured, Measured | Unmeasured):
        with pytest.raises(BadFigure):
            decode(kind, RECORDED | changes)


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("name", RECORDED)
def test_a_missing_figure_is_none(name: str) -> None:
    with pytest.raises(BadFigure, match=f"{name} was not measured"):
        decode(Measured, {other: value for other, value in RECORDED.items() if other != name})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Measured, [1]),
        (Sha256, "0" * 63),
        (Sha256, "0" * 64 + "\n"),
        (Invocation, "g" * 32),
        (Row, {"id": True}),
        (Row, {"id": [1]}),
        (list[str], "text"),
        (list[Count], [1, None]),
    ],
)
def test_value_of_another_type_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(BadFigure):
        decode(kind, value)
