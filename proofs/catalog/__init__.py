"""The catalogue: one file a proof, and what each kind of host has to show."""

from __future__ import annotations

from proofs.catalog.crash import PROOF as CRASH
from proofs.catalog.drift import PROOF as DRIFT
from proofs.catalog.exit12 import PROOF as EXIT12
from proofs.catalog.failover import PROOF as FAILOVER
from proofs.catalog.gate import PROOF as GATE
from proofs.catalog.hardening import PROOF as HARDENING
from proofs.catalog.network import PROOF as NETWORK
from proofs.catalog.overload import PROOF as OVERLOAD
from proofs.catalog.parse import PROOF as PARSE
from proofs.catalog.pressure import PROOF as PRESSURE
from proofs.catalog.rollback import PROOF as ROLLBACK
from proofs.catalog.sampling import PROOF as SAMPLING
from proofs.catalog.shadow import PROOF as SHADOW
from proofs.catalog.stall import PROOF as STALL
from proofs.catalog.stop import PROOF as STOP
from proofs.catalog.storage import PROOF as STORAGE
from proofs.experiment.case import Proof

_ALL = (
    EXIT12, STALL, SAMPLING, FAILOVER, CRASH, OVERLOAD, NETWORK, PARSE, STORAGE, STOP, SHADOW, GATE, ROLLBACK,
    HARDENING, DRIFT, PRESSURE,
)  # fmt: skip
PROOFS: dict[str, Proof] = {proof.name: proof for proof in _ALL}

# What is run without a name, and has to PASS, on each kind of host. What edits the deployed files is for a lab alone;
# what other programs do to the host's CPUs can make pressure INCONCLUSIVE, so it is run by its name.
_ANYWHERE = tuple(name for name, proof in PROOFS.items() if not proof.in_place and proof is not PRESSURE)
REQUIRED: dict[str, tuple[str, ...]] = {"lab": (*_ANYWHERE, DRIFT.name), "nuc": _ANYWHERE}
