"""A/A: every proof again and again on an unchanged host must say the same. `python -m tests.lab.same_verdict`.

Needs root. The proofs are shared out among the labs, and each is run so many times in a row on its own. A verdict that
flips is a defect of the proof, not bad luck: find it, do not run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proofs.catalog import PROOFS
from tests.lab.labs import CHECKOUT, SUITE, Lab, lab_py
from tests.lab.proof_runs import install

NONE = "no verdict"
Verdicts = dict[str, list[str]]  # proof -> its verdict and its mutants', of each round


def shares(names: Sequence[str], labs: int) -> list[list[str]]:
    """The proofs for each lab, so that all take about as long; no lab is without one."""
    parts: list[list[str]] = [[] for _ in range(min(labs, len(names)))]
    for name in sorted(names, key=lambda name: -PROOFS[name].seconds):
        min(parts, key=lambda share: sum(PROOFS[other].seconds for other in share)).append(name)
    return parts


def run_round(lab: Lab, names: Sequence[str], folder: Path) -> dict[str, str]:
    """One run as `make prove` does it: proof -> "its verdict / its mutants' verdict"."""
    variables = {"proof_names": list(names), "proof_evidence": str(folder)}
    lab.ansible("prove.yml", "--skip-tags=install", "-e", json.dumps(variables), check=False, timeout=1800)
    verdicts = dict.fromkeys(names, NONE)
    for path in folder.glob(f"{lab.name}/*/statement.json"):
        for proof in json.loads(path.read_text())["predicate"]["proofs"]:
            verdicts[proof["name"]] = f"{proof['verdict']} / {proof['mutant']['verdict']}"
    return verdicts


def run_on_lab(name: str, names: Sequence[str], times: int, scratch: Path) -> Verdicts:
    """Have a lab, and run these proofs on it so many times."""
    verdicts: Verdicts = {proof: [] for proof in names}
    lab_py("up", name, "--suite", SUITE)
    inventory = scratch / f"{name}.yml"
    inventory.write_text(lab_py("inventory", name).stdout)
    lab = Lab(name, SUITE, inventory)
    install(lab)
    for number in range(1, times + 1):
        for proof, verdict in run_round(lab, names, scratch / f"{name}-{number}").items():
            verdicts[proof].append(verdict)
            print(f"{number}/{times} {proof}: {verdict}", flush=True)
    return verdicts


def run_on_labs(names: Sequence[str], times: int, labs: int) -> Verdicts:
    """Every lab's share at the same time; the labs are gone in the end, also when this is interrupted."""
    parts = shares(names, labs)
    used = [f"aa-{os.getpid()}-{number}" for number in range(len(parts))]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(parts)) as pool:
        try:
            jobs = [
                pool.submit(run_on_lab, name, part, times, Path(scratch))
                for name, part in zip(used, parts, strict=True)
            ]
            return {proof: verdicts for job in jobs for proof, verdicts in job.result().items()}
        finally:
            for name in used:  # whatever still runs there ends with it
                lab_py("down", name)


def flipped_proofs(verdicts: Mapping[str, Sequence[str]]) -> list[str]:
    """The proofs that did not say the same each time, or once did not say anything."""
    return [proof for proof, each in verdicts.items() if len(set(each)) != 1 or NONE in each]


def table(verdicts: Mapping[str, Sequence[str]]) -> str:
    """One line a proof: its verdicts, and how often each."""
    rows = []
    for proof in sorted(verdicts):
        counted = ", ".join(f"{times} x {verdict}" for verdict, times in Counter(verdicts[proof]).most_common())
        rows.append(f"{proof:<12} {'FLIPPED' if proof in flipped_proofs(verdicts) else 'same':<8} {counted}")
    return "\n".join([f"{'proof':<12} {'A/A':<8} verdict / its mutants'", *rows])


def _write(verdicts: Verdicts, times: int, labs: int, began: str, to: Path) -> None:
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    revision = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    record: dict[str, Any] = {
        "began": began,
        "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "git_revision": revision,
        "suite": SUITE,
        "times": times,
        "labs": labs,
        "same": not flipped_proofs(verdicts),
        "said": verdicts,
    }
    to.mkdir(parents=True, exist_ok=True)
    (to / "same_verdict.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (to / "same_verdict.txt").write_text(f"{began}, {revision}, {SUITE}, {times} times\n{table(verdicts)}\n")


def main() -> int:
    """Run the proofs so many times and count the verdicts of each. Returns 0 when none ever changes."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.same_verdict", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="proofs (default: every one there is)")
    parser.add_argument("--times", type=int, default=10, help="how often (default: %(default)s)")
    parser.add_argument("--labs", type=int, default=2, metavar="N", help="so many side by side (default: %(default)s)")
    out = "where same_verdict.txt and .json go (default: evidence/)"
    parser.add_argument("--out", type=Path, default=CHECKOUT / "evidence", metavar="DIR", help=out)
    options = parser.parse_args()
    names = list(dict.fromkeys(options.names)) or list(PROOFS)
    if unknown := [name for name in names if name not in PROOFS]:
        parser.error(f"no proof is called {unknown[0]!r}: there are {', '.join(PROOFS)}")
    if options.times < 1 or options.labs < 1:
        parser.error("--times and --labs: at least 1")
    began = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    verdicts = run_on_labs(names, options.times, options.labs)
    _write(verdicts, options.times, options.labs, began, options.out)
    print(f"\n{table(verdicts)}")
    return 1 if flipped_proofs(verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
