"""Builds statement.json, an in-toto Statement of a run's verdicts, from the events of its recording alone."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence import recorder, settings, unit_parts
from proofs.evidence.atomic_file import write_atomically
from proofs.evidence.recorder import Event
from proofs.verdict import Json, Verdict, merge

STATEMENT = "statement.json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:hybrid-engine:proofs:v2"
_CELL = 60  # characters of a cell that the others of its column are aligned with


class FormerRelease(ProofError, ValueError):
    """A bundle is of the format of an earlier release; the message names it."""


def build(events: Sequence[Event], proofs: Sequence[dict[str, Json]] | None = None) -> dict[str, Json]:
    """The statement of a run. proofs: their entries; None: as the recording has them.

    A proof that was begun and has no verdict in the recording is an ERROR. The verdict of the run covers its required
    set; a required proof that did not run is missing, and so INCONCLUSIVE.
    """
    headers = [event["data"] for event in events if event["kind"] == "run"]
    header = headers[0] if headers else {}
    required = sorted({name for head in headers for name in head["required"]})
    if proofs is None:
        begun = dict.fromkeys(event["data"]["name"] for event in events if event["kind"] == "proof")
        entries = {event["data"]["name"]: dict(event["data"]) for event in events if event["kind"] == "verdict"}
        proofs = [entries.get(name) or unfinished(events, name) for name in begun]
    verdicts = {proof["name"]: Verdict(proof["verdict"]) for proof in proofs}
    verdict = merge(verdicts.get(name, Verdict.INCONCLUSIVE) for name in required)
    whole = hashlib.sha256(b"".join(map(recorder.line_of, events)))  # events.jsonl as a file
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": header.get("release_name", "?"), "digest": {"sha256": header.get("release_digest", "")}},
            {"name": "config", "digest": {"sha256": header.get("config_digest", "")}},
            {"name": "unit", "digest": {"sha256": unit_parts.digest(header.get("unit_parts", []))}},
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "run": header.get("run", ""),
            "started": events[0]["utc"] if events else "",
            "finished": events[-1]["utc"] if events else "",
            "host": header.get("host", {}),
            "systemd": header.get("systemd", ""),
            "unit": header.get("cat", ""),
            "unit_name": header.get("unit", ""),
            "unit_parts": header.get("unit_parts", []),
            "git_revision": header.get("git", ""),
            "kind_of_host": header.get("kind", ""),
            "void": settings.void_guarantees(events),
            "settings": {str(proof["name"]): settings.of_proof(events, str(proof["name"])) for proof in proofs},
            "required": required,
            "required_of_host": header.get("required_of_host", []),
            "verdict": str(verdict),
            "missing": [name for name in required if name not in verdicts],
            "proofs_release": header.get("proofs_release", ""),
            "last_event": events[-1]["sha256"] if events else "",
            "events": {"count": len(events), "sha256": whole.hexdigest()},
            "proofs": list(proofs),
        },
    }


def unfinished(events: Sequence[Event], name: str) -> dict[str, Json]:
    """The entry of a proof that was begun and has no verdict."""
    undone = [event["data"] for event in events if event["kind"] == "undone" and event["scope"].startswith(f"{name}/")]
    return {
        "name": name,
        "verdict": str(Verdict.ERROR),
        "reason": "the proof did not live to its verdict",
        "measured": "",
        "bound": "",
        "n": 0,
        "witness": {},
        "restored": bool(undone and undone[-1]["restored"]),
        "mutant": {"verdict": "NOT RUN", "each": []},
        "cases": [],
        "away_s": undone[-1]["away_s"] if undone else 0.0,
    }


def of_earlier_release(kind: Json) -> bool:
    """Whether a predicateType is one that an earlier release wrote: ours with a lower version."""
    (stem, version), match = PREDICATE_TYPE.rsplit(":v", 1), re.fullmatch(r"(.+):v([0-9]{1,4})", str(kind), re.ASCII)
    return match is not None and match[1] == stem and int(match[2]) < int(version)


def refuse_former(statement: Json, name: str) -> None:
    """Raises FormerRelease: its fields meant something else then. name: of the bundle."""
    if isinstance(statement, dict) and of_earlier_release(statement.get("predicateType")):
        raise FormerRelease(f"{name} was recorded by an earlier release, and has to be read with that release")


def encode(statement: dict[str, Json]) -> bytes:
    """The one way in which a statement is written."""
    return (json.dumps(statement, indent=1, sort_keys=True) + "\n").encode()


def write(run_dir: Path) -> dict[str, Json]:
    """Write statement.json from the events.jsonl beside it. Raises ChainBroken when the recording is not whole."""
    statement = build(recorder.read(run_dir / recorder.EVENTS))
    write_atomically(run_dir / STATEMENT, encode(statement))
    return statement


def table(statement: dict[str, Json]) -> str:
    """The verdicts, one line a proof, for a terminal."""
    predicate = statement["predicate"]
    rows = [("proof", "verdict", "mutant", "restored", "away", "measured", "bound")]
    for p in predicate["proofs"]:
        outcome = (p["mutant"]["verdict"], "yes" if p["restored"] else "no", f"{p['away_s']:.1f} s")
        rows.append((p["name"], p["verdict"], *outcome, p["measured"] or "-", p["bound"] or "-"))
    rows += [(name, str(Verdict.INCONCLUSIVE), "-", "-", "-", "did not run", "-") for name in predicate["missing"]]
    widths = [min(_CELL, max(len(str(row[column])) for row in rows)) for column in range(5)]
    lines = []
    for *head, measured, bound in rows:
        cells = (str(cell).ljust(width) for cell, width in zip(head, widths, strict=True))
        lines.append(f"{'  '.join(cells)}  {measured}  [{bound}]")
    for p in predicate["proofs"]:
        reasons = [p["reason"]] if p["reason"] else []
        reasons += [f"mutant {m['name']} ({m['what']}): {m['verdict']}: {m['reason']}" for m in p["mutant"]["each"]]
        lines += [f"  {p['name']}: {reason}" for reason in reasons]
    lines.append(f"required {', '.join(predicate['required']) or 'none'}: {predicate['verdict']}")
    return "\n".join(lines)
