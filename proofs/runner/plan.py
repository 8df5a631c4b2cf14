"""Shows what `run` would do on this host, without doing it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from proofs.catalog import PROOFS
from proofs.evidence import recorder
from proofs.evidence.recorder import Recorder
from proofs.experiment.case import Proof
from proofs.host.shell import Host
from proofs.runner.prerequisites import prerequisites
from proofs.runner.run import chosen_proofs


def plan(names: Sequence[str], unit: str) -> int:
    """Print what `run` would do. Returns 0 when it could be done, 2 when a prerequisite does not hold."""
    with tempfile.TemporaryDirectory() as scratch:  # commands are always recorded; this recording is discarded
        host = Host(Recorder(Path(scratch) / recorder.EVENTS))
        chosen = chosen_proofs(names, host)
        if chosen is None:
            return 2
        items = prerequisites(host, unit)
        why_not = {name: why for name in chosen if (why := PROOFS[name].not_applicable(host))}
    print("prerequisites:")
    for item in items:
        print(f"  {'ok ' if item.ok else 'NO '} {item.name}: {item.found}{'' if item.ok else ' -> ' + item.remedy}")
    for name, why in why_not.items():
        print(f"\n{name}: not applicable on this host: {why}")
    chosen = [name for name in chosen if name not in why_not]
    for name in chosen:
        print("\n" + "\n".join(_steps(PROOFS[name], unit)))
    away = sum(PROOFS[name].seconds for name in chosen)
    print(f"\nin all the engine is away from its real work for about {away:.0f} s, in {len(chosen)} stretches.")
    edited = any(PROOFS[name].in_place for name in chosen)
    never = "" if edited else "/etc, the installed release, "
    print(f"never touched: {never}the operator's database. Nothing was done.")
    return 0 if all(item.ok for item in items) else 2


def _where(proof: Proof) -> str:
    return "after the proof, in the same place" if proof.in_place else "beside the proof, on a copy"


def _steps(proof: Proof, unit: str) -> list[str]:
    scratch = f"/run/hybrid-proofs/RUN/{proof.name}"
    lines = [
        f"{proof.name}: {proof.claim}",
        f"  bound    {proof.bound}",
        f"  fault    {proof.fault}",
        f"  lease    a timer undoes all of it after {proof.cap_s:.0f} s, whatever state the proof is in",
    ]
    if proof.in_place:
        lines.append("  writes   the deployed files themselves, in a lab alone; backups of them lie in the evidence")
    else:
        lines += [
            f"  writes   /run/systemd/system/{unit}.d/zz-proof.conf, which binds {scratch}/unit/{{etc,state}}",
            "           over the config and state directories; then restarts the unit on them, in SHADOW mode",
        ]
    if proof.notes:
        lines.append(f"  note     {proof.notes}")
    for mutant in proof.mutants:
        lines.append(f"  mutant   {mutant.name}: {mutant.what}; must FAIL. It runs {_where(proof)}")
        if not proof.in_place:
            lines.append(
                f"           of the unit: /run/systemd/system/hybrid-proof-mutant-{proof.name}-{mutant.name}.service"
            )
    lines.append(f"  engine   away from its real work for about {proof.seconds:.0f} s, then restarted as it was")
    return lines
