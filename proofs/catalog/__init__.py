"""The catalogue: one file a proof, and what each kind of host has to show."""

from importlib import import_module

from proofs.catalog.names import NAMES
from proofs.experiment.case import Proof

PROOFS: dict[str, Proof] = {name: import_module(f"{__name__}.{name}").PROOF for name in NAMES}

# What is run without a name, and has to PASS, on each kind of host. What edits the deployed files is for a lab alone;
# what other programs do to the host's CPUs can make pressure INCONCLUSIVE, so it is run by its name.
_ANYWHERE = tuple(name for name, proof in PROOFS.items() if not proof.in_place and name != "pressure")
REQUIRED: dict[str, tuple[str, ...]] = {"lab": (*_ANYWHERE, "drift"), "nuc": _ANYWHERE}
