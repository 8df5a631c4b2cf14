"""Sampling that changes during a run: which trades are due by the engine's log lines, and which the rows show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from proofs.host.unit import Entry

_LASTING = 3  # spacings that are equal; at a boundary between two samplings stands another, once
# The engine's log lines that report a new sampling, with the `received` that it begins at; and their field for it.
_FIELDS = {"reloaded": "sample_every", "pressure decision": "current_sample_every"}


def spans(entries: Iterable[Entry], invocation: str, at_first: int) -> list[tuple[int, int]]:
    """(received at its beginning, each how many-th trade is kept from there), by the lines of that run."""
    spans = [(0, at_first)]
    for entry in entries:
        fields = entry.fields() if entry.invocation == invocation else {}
        key = _FIELDS.get(str(fields.get("message")))
        if key and fields.get("received") is not None:
            spans.append((int(fields["received"]), int(fields[key])))
    return spans


def due(spans: Sequence[tuple[int, int]], sent: int) -> list[int]:
    """The trades, numbered from 1, that are kept when each span keeps each N-th from its beginning on.

    >>> due([(0, 1), (3, 5), (15, 2)], 20)
    [1, 2, 3, 8, 13, 17, 19]
    """
    ends = [start for start, _ in spans[1:]] + [sent]
    return [
        number
        for (start, every), end in zip(spans, ends, strict=True)
        for number in range(start + every, end + 1, every)
    ]


def spacings(ids: Sequence[int]) -> list[int]:
    """How far apart stored trades are, in order of time; what only stands at a boundary is left out.

    >>> spacings([1, 2, 3, 4, 5, 12, 17, 22, 27, 28, 29, 30, 31])
    [1, 5, 1]
    """
    steps = [later - earlier for earlier, later in pairwise(ids)]
    lasting = [step for step, run in groupby(steps) if len(list(run)) >= _LASTING]
    return [step for step, _ in groupby(lasting)]
