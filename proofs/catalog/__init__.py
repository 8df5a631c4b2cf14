"""The catalogue: one file a proof, and what each kind of host has to show."""

from __future__ import annotations

from proofs.catalog import exit12, failover, sampling, stall
from proofs.experiment import Proof

PROOFS: dict[str, Proof] = {proof.name: proof for proof in (exit12.PROOF, stall.PROOF, sampling.PROOF, failover.PROOF)}

# Every proof of today can be shown in a container as on a NUC.
REQUIRED: dict[str, tuple[str, ...]] = {"lab": tuple(PROOFS), "nuc": tuple(PROOFS)}
