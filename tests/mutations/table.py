"""The table of faults. Every promise of docs/guarantees.md has at least LEAST of them; FEWER says where and why not."""

from tests.mutations.fault import Fault
from tests.mutations.faults import engine, feed, host, pipeline, proofs, values

LEAST = 3
FAULTS: tuple[Fault, ...] = (
    *values.FAULTS,
    *pipeline.FAULTS,
    *feed.FAULTS,
    *engine.FAULTS,
    *host.FAULTS,
    *proofs.FAULTS,
)
# Promises that have fewer than LEAST faults, and why.
FEWER: dict[str, str] = {}
