"""What `run` would do on this host: told, not done."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from proofs import evidence
from proofs.catalog import PROOFS
from proofs.checks import prerequisites
from proofs.evidence import Recorder
from proofs.experiment import Proof
from proofs.host import Host
from proofs.runner import chosen_proofs


def plan(names: Sequence[str], unit: str) -> int:
    """Print what `run` would do. Looks only: 0 when it could be done, 2 when a prerequisite does not hold."""
    with tempfile.TemporaryDirectory() as scratch:  # looking is recorded as well, and thrown away
        host = Host(Recorder(Path(scratch) / evidence.EVENTS))
        chosen = chosen_proofs(names, host)
        if chosen is None:
            return 2
        found = prerequisites(host, unit)
    print("prerequisites:")
    for item in found:
        print(f"  {'ok ' if item.ok else 'NO '} {item.name}: {item.found}{'' if item.ok else ' -> ' + item.remedy}")
    for name in chosen:
        print("\n" + "\n".join(_steps(PROOFS[name], unit)))
    away = sum(PROOFS[name].seconds for name in chosen)
    print(f"\nin all the engine is away from its real work for about {away:.0f} s, in {len(chosen)} stretches.")
    print("never touched: /etc, the operator's database, the installed release. Nothing was done.")
    return 0 if all(item.ok for item in found) else 2


def _steps(proof: Proof, unit: str) -> list[str]:
    scratch = f"/run/hybrid-proofs/RUN/{proof.name}"
    lines = [
        f"{proof.name}: {proof.claim}",
        f"  bound    {proof.bound}",
        f"  fault    {proof.fault}",
        f"  lease    a timer that takes all of it back after {proof.cap_s:.0f} s, whatever becomes of the proof",
        f"  writes   /run/systemd/system/{unit}.d/zz-proof.conf, which binds {scratch}/unit/{{etc,state}}",
        "           over the config and state directories; then restarts the unit on them, in SHADOW mode",
    ]
    if proof.notes:
        lines.append(f"  note     {proof.notes}")
    for mutant in proof.mutants:
        lines.append(f"  mutant   {mutant.name}: {mutant.what}; must FAIL. It runs beside the proof, on a copy")
        lines.append(
            f"           of the unit: /run/systemd/system/hybrid-proof-mutant-{proof.name}-{mutant.name}.service"
        )
    lines.append(f"  engine   away from its real work for about {proof.seconds:.0f} s, then restarted as it was")
    return lines
