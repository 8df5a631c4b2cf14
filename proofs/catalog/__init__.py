"""The catalogue: one file a proof, and what each kind of host has to show."""

from __future__ import annotations

from proofs.catalog.exit12 import PROOF as EXIT12
from proofs.catalog.failover import PROOF as FAILOVER
from proofs.catalog.sampling import PROOF as SAMPLING
from proofs.catalog.stall import PROOF as STALL
from proofs.experiment import Proof

PROOFS: dict[str, Proof] = {proof.name: proof for proof in (EXIT12, STALL, SAMPLING, FAILOVER)}

# Every proof of today can be shown in a container as on a NUC.
REQUIRED: dict[str, tuple[str, ...]] = {"lab": tuple(PROOFS), "nuc": tuple(PROOFS)}
