"""Compare two runs by their statements: verdicts, measured values, unit, release, config."""

import difflib
from pathlib import Path

from proofs.evidence import blobs, host_input, unit_parts
from proofs.evidence import statement as bundle
from proofs.verdict import Json

Texts = dict[str, Json]
_KEYS = ("run", "finished", "kind_of_host", "systemd", "git_revision", "proofs_release")


def runs(one: Path, other: Path) -> tuple[list[str], bool]:
    """What differs, line by line, and whether the verdicts are the same.

    Raises Unreadable, HostInputError: one of them has no statement that can be read; FormerRelease: it is of an earlier
    release; KeyError, TypeError, AttributeError: it is none of ours.
    """
    statements = [_statement(directory) for directory in (one, other)]
    before, after = (statement["predicate"] for statement in statements)
    lines = [f"--- {one}", f"+++ {other}"]
    lines += _changes("", *(_subjects(statement) | _about(statement["predicate"]) for statement in statements))
    verdicts = [_verdicts(predicate) for predicate in (before, after)]
    lines += _changes("was not run", *verdicts)
    lines += _changes("not measured", _measured(before), _measured(after))
    lines += [f"unit: {text}" for text in unit_parts.differences(before["unit_parts"], after["unit_parts"])]
    lines += difflib.unified_diff(
        before["unit"].splitlines(), after["unit"].splitlines(), f"{one.name}/unit", f"{other.name}/unit", lineterm=""
    )
    same = verdicts[0] == verdicts[1]
    return [*lines, f"verdicts: {'the same' if same else 'different'}"], same


def _statement(directory: Path) -> Json:
    body = blobs.slurp(directory / bundle.STATEMENT, host_input.STATEMENT_BYTES)
    statement = host_input.parse_json(body, f"{directory.name}/{bundle.STATEMENT}", host_input.STATEMENT_BYTES)
    bundle.refuse_former(statement, directory.name)
    return statement


def _changes(missing: str, before: Texts, after: Texts) -> list[str]:
    pairs = {key: (before.get(key, missing), after.get(key, missing)) for key in [*before, *after]}
    return [f"{key}: {one} -> {other}" for key, (one, other) in pairs.items() if one != other]


def _subjects(statement: Json) -> Texts:
    names = zip(("release", "config", "unit"), statement["subject"], strict=True)
    return {what: f"{subject['name']} sha256 {subject['digest']['sha256']}" for what, subject in names}


def _about(predicate: Json) -> Texts:
    host = {f"host {key}": value for key, value in sorted(predicate["host"].items())}
    return {key: predicate.get(key, "") for key in _KEYS} | host


def _verdicts(predicate: Json) -> Texts:
    """The verdicts by proof, case and mutant: that of the whole does not say which part differs."""
    verdicts = {"verdict": str(predicate["verdict"])}
    for proof in predicate["proofs"]:
        name = proof["name"]
        verdicts[name] = f"{proof['verdict']}{'' if proof['restored'] else ', not restored'}"
        verdicts |= {f"{name}/{case['case']}": case["verdict"] for case in proof["cases"]}
        verdicts |= {f"{name}/mutant {mutant['name']}": mutant["verdict"] for mutant in proof["mutant"]["each"]}
    return verdicts


def _measured(predicate: Json) -> Texts:
    cases = [(proof["name"], case) for proof in predicate["proofs"] for case in proof["cases"]]
    return {f"{name}/{c['case']}: {check['name']}": check["measured"] for name, c in cases for check in c["checks"]}
