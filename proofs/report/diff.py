"""Compare two runs by their statements: verdicts, measured values, unit, release, config."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from proofs.evidence import statement as bundle
from proofs.verdict import Json

_KEYS = ("run", "finished", "kind_of_host", "systemd", "git_revision", "proofs_release")


def runs(one: Path, other: Path) -> tuple[list[str], bool]:
    """What differs, line by line, and whether the verdicts are the same.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: one of them has no statement that can be read.
    """
    statements = [json.loads((directory / bundle.STATEMENT).read_bytes()) for directory in (one, other)]
    before, after = (statement["predicate"] for statement in statements)
    lines = [f"--- {one}", f"+++ {other}"]
    for number, what in enumerate(("release", "config")):
        lines += _line(what, *(_subject(statement["subject"][number]) for statement in statements))
    for key in _KEYS:
        lines += _line(key, before.get(key, ""), after.get(key, ""))
    for key in sorted(before["host"].keys() | after["host"].keys()):
        lines += _line(f"host {key}", before["host"].get(key, ""), after["host"].get(key, ""))
    verdicts = [_verdicts(predicate) for predicate in (before, after)]
    for name in dict.fromkeys([*verdicts[0], *verdicts[1]]):
        lines += _line(name, verdicts[0].get(name, "was not run"), verdicts[1].get(name, "was not run"))
    lines += _measured(before, after)
    lines += difflib.unified_diff(
        before["unit"].splitlines(), after["unit"].splitlines(), f"{one.name}/unit", f"{other.name}/unit", lineterm=""
    )
    same = verdicts[0] == verdicts[1]
    return [*lines, f"verdicts: {'the same' if same else 'different'}"], same


def _line(what: str, before: Json, after: Json) -> list[str]:
    return [] if before == after else [f"{what}: {before} -> {after}"]


def _subject(subject: Json) -> str:
    return f"{subject['name']} sha256 {subject['digest']['sha256']}"


def _verdicts(predicate: Json) -> dict[str, str]:
    """The verdicts by proof, case and mutant: that of the whole does not say which part differs."""
    verdicts = {"verdict": str(predicate["verdict"])}
    for proof in predicate["proofs"]:
        name = proof["name"]
        verdicts[name] = f"{proof['verdict']}{'' if proof['restored'] else ', not restored'}"
        verdicts |= {f"{name}/{case['case']}": case["verdict"] for case in proof["cases"]}
        for mutant in proof["mutant"]["each"]:
            verdicts[f"{name}/mutant {mutant['name']}"] = mutant["verdict"]
    return verdicts


def _measured(before: Json, after: Json) -> list[str]:
    values = []
    for predicate in (before, after):
        values.append(
            {
                f"{proof['name']}/{case['case']}: {check['name']}": check["measured"]
                for proof in predicate["proofs"]
                for case in proof["cases"]
                for check in case["checks"]
            }
        )
    lines = []
    for name in dict.fromkeys([*values[0], *values[1]]):
        lines += _line(name, values[0].get(name, "not measured"), values[1].get(name, "not measured"))
    return lines
