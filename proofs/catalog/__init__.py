"""The catalogue: one file a proof, and what each kind of host has to show."""

from importlib import import_module

from proofs.catalog.names import ANYWHERE, NAMES
from proofs.experiment.case import Proof

PROOFS: dict[str, Proof] = {name: import_module(f"{__name__}.{name}").PROOF for name in NAMES}

REQUIRED: dict[str, tuple[str, ...]] = {"lab": (*ANYWHERE, "drift", "adoption"), "nuc": ANYWHERE}
