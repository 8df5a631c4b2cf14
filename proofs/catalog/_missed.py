"""What an exchange leaves out of its numbers, compared with the gaps `missed` that are stored of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from proofs.experiment.measurements import Count, Positive
from proofs.host.database import Store
from proofs.verdict import Json

# Numbers that the exchange leaves out, by the trades that it sent before: one, many, across a reconnect after 1,007
# trades, and just before the last of 2,003.
LEFT_OUT = {300: 1, 700: 137, 1007: 5, 2002: 2}
_EARLIER_MS = 1000
_RECEIVED = (
    "SELECT exchange_id, received_ms FROM ticks WHERE exchange_id IN (SELECT value FROM json_each(?)) ORDER BY id"
)


@dataclass(frozen=True)
class Hole:
    """Numbers that never came: how many, and when the trades before and after them were received (ms UTC; 0: they are
    not stored)."""

    count: Positive
    before_ms: Count
    after_ms: Count


def holes_of(sent: Sequence[int], store: Store) -> list[Hole]:
    """By the ids of the trades that an exchange sent, whose numbers go up by one."""
    ends = [(one, other) for one, other in pairwise(sent) if other - one > 1]
    numbers = [number for both in ends for number in both]
    rows = store.rows(_RECEIVED, [json.dumps(numbers)])
    received = {row["exchange_id"]: row["received_ms"] for row in rows}
    return [Hole(other - one - 1, received.get(one, 0), received.get(other, 0)) for one, other in ends]


def missed_difference(gaps: Sequence[Mapping[str, Json]], holes: Sequence[Hole]) -> str:
    """The first gap `missed` that is not exactly one or several holes in a row, or the first hole without one.

    A gap begins at the last that was heard before its first hole, and ends at the trade after its last one.
    """
    left = list(holes)
    for gap in gaps:
        if gap["kind"] != "missed":
            continue
        own: list[Hole] = []
        while left and sum(hole.count for hole in own) < (gap["count"] or 0):
            own.append(left.pop(0))
        if not own or sum(hole.count for hole in own) != gap["count"]:
            return f"count {gap['count']}, left out {[hole.count for hole in own]}"
        if (gap["source"], gap["symbol"]) != ("mock", "BTCUSDT"):
            return f"of {gap['source']}, {gap['symbol']}"
        least, most = own[0].before_ms, own[0].after_ms - 1
        if least > most:  # both trades were received at once: the gap begins with what was before
            least, most = least - _EARLIER_MS, least
        if not least <= gap["from_ms"] <= most:
            return f"of {gap['count']}: from {gap['from_ms']}, due {least} to {most}"
        if gap["to_ms"] != own[-1].after_ms:
            return f"of {gap['count']}: to {gap['to_ms']}, due {own[-1].after_ms}"
    return f"none of {left[0].count}" if left else ""
