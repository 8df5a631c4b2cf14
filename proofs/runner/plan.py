"""Shows what `run` would do on this host, without doing it."""

from collections.abc import Sequence

from proofs.catalog import PROOFS
from proofs.evidence.terminal import show
from proofs.experiment.case import Proof
from proofs.experiment.subject import copy_name
from proofs.host.shell import unrecorded_host
from proofs.runner.prerequisites import prerequisites
from proofs.runner.run import chosen_proofs


def plan(names: Sequence[str], unit: str) -> int:
    """Print what `run` would do. Returns 0 when it could be done, 2 when a prerequisite does not hold."""
    with unrecorded_host() as host:
        chosen = chosen_proofs(names, host)
        if chosen is None:
            return 2
        items = prerequisites(host, unit)
        why_not = {name: why for name in chosen if (why := PROOFS[name].not_applicable(host))}
    show("prerequisites:")
    for item in items:
        show(f"  {'ok ' if item.ok else 'NO '} {item.name}: {item.found}{'' if item.ok else ' -> ' + item.remedy}")
    for name, why in why_not.items():
        show(f"\n{name}: not applicable on this host: {why}")
    proofs = [PROOFS[name] for name in chosen if name not in why_not]
    for proof in proofs:
        show("\n" + "\n".join(_steps(proof, unit)))
    away = sum(proof.seconds for proof in proofs)
    show(f"\nin all the engine is away from its real work for about {away:.0f} s, in {len(proofs)} stretches.")
    never = "" if any(proof.in_place for proof in proofs) else "/etc, the installed release, "
    show(f"never touched: {never}the operator's database. Nothing was done.")
    return 0 if all(item.ok for item in items) else 2


def _unit(name: str, mutant: bool) -> str:
    return f"/run/systemd/system/hybrid-proof-{copy_name(name, mutant)}.service"


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
    for case in proof.on_copies:
        lines += [
            f"  copy     the case {case!r} runs beside the others, on a copy",
            f"           of the unit: {_unit(proof.copy_name(case), mutant=False)}",
        ]
    where = "after the proof, in the same place" if proof.in_place else "beside the proof, on a copy"
    for mutant in proof.mutants:
        lines.append(f"  mutant   {mutant.name}: {mutant.what}; must FAIL. It runs {where}")
        lines += (
            [] if proof.in_place else [f"           of the unit: {_unit(f'{proof.name}-{mutant.name}', mutant=True)}"]
        )
    lines.append(f"  engine   away from its real work for about {proof.seconds:.0f} s, then restarted as it was")
    return lines
