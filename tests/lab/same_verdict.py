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
Said = dict[str, list[str]]  # proof -> what each round said of it and of its mutants


def shares(names: Sequence[str], labs: int) -> list[list[str]]:
    """The proofs for each lab, so that all take about as long; no lab is without one."""
    found: list[list[str]] = [[] for _ in range(min(labs, len(names)))]
    for name in sorted(names, key=lambda name: -PROOFS[name].seconds):
        min(found, key=lambda share: sum(PROOFS[other].seconds for other in share)).append(name)
    return found


def one_round(lab: Lab, names: Sequence[str], folder: Path) -> dict[str, str]:
    """One run as `make prove` does it: proof -> "its verdict / its mutants' verdict"."""
    words = {"proof_names": list(names), "proof_evidence": str(folder)}
    lab.ansible("prove.yml", "--skip-tags=install", "-e", json.dumps(words), check=False, timeout=1800)
    said = dict.fromkeys(names, NONE)
    for path in folder.glob(f"{lab.name}/*/statement.json"):
        for proof in json.loads(path.read_text())["predicate"]["proofs"]:
            said[proof["name"]] = f"{proof['verdict']} / {proof['mutant']['verdict']}"
    return said


def on_a_lab(name: str, names: Sequence[str], times: int, scratch: Path) -> Said:
    """Have a lab, and run these proofs on it so many times."""
    said: Said = {proof: [] for proof in names}
    lab_py("up", name, "--suite", SUITE)
    inventory = scratch / f"{name}.yml"
    inventory.write_text(lab_py("inventory", name).stdout)
    lab = Lab(name, SUITE, inventory)
    install(lab)
    for number in range(1, times + 1):
        for proof, verdict in one_round(lab, names, scratch / f"{name}-{number}").items():
            said[proof].append(verdict)
            print(f"{number}/{times} {proof}: {verdict}", flush=True)
    return said


def everywhere(names: Sequence[str], times: int, labs: int) -> Said:
    """Every lab's share at the same time; the labs are gone in the end, also when this is interrupted."""
    parts = shares(names, labs)
    used = [f"aa-{os.getpid()}-{number}" for number in range(len(parts))]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(parts)) as pool:
        try:
            jobs = [
                pool.submit(on_a_lab, name, part, times, Path(scratch)) for name, part in zip(used, parts, strict=True)
            ]
            return {proof: said for job in jobs for proof, said in job.result().items()}
        finally:
            for name in used:  # whatever still runs there ends with it
                lab_py("down", name)


def flipped(said: Mapping[str, Sequence[str]]) -> list[str]:
    """The proofs that did not say the same each time, or once did not say anything."""
    return [proof for proof, each in said.items() if len(set(each)) != 1 or NONE in each]


def table(said: Mapping[str, Sequence[str]]) -> str:
    """One line a proof: what it said, and how often."""
    rows = []
    for proof in sorted(said):
        counted = ", ".join(f"{times} x {verdict}" for verdict, times in Counter(said[proof]).most_common())
        rows.append(f"{proof:<12} {'FLIPPED' if proof in flipped(said) else 'same':<8} {counted}")
    return "\n".join([f"{'proof':<12} {'A/A':<8} verdict / its mutants'", *rows])


def _written(said: Said, times: int, labs: int, began: str, to: Path) -> None:
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    revision = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    about: dict[str, Any] = {
        "began": began, "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "git_revision": revision, "suite": SUITE,
        "times": times, "labs": labs, "same": not flipped(said), "said": said,
    }  # fmt: skip
    to.mkdir(parents=True, exist_ok=True)
    (to / "same_verdict.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    (to / "same_verdict.txt").write_text(f"{began}, {revision}, {SUITE}, {times} times\n{table(said)}\n")


def main() -> int:
    """Run the proofs so many times and count what each said. 0 when none ever said something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.same_verdict", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="proofs (default: every one there is)")
    parser.add_argument("--times", type=int, default=10, help="how often (default: %(default)s)")
    parser.add_argument("--labs", type=int, default=2, metavar="N", help="so many side by side (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=CHECKOUT / "evidence", metavar="DIR",
        help="where same_verdict.txt and .json go (default: evidence/)",
    )  # fmt: skip
    options = parser.parse_args()
    names = list(dict.fromkeys(options.names)) or list(PROOFS)
    if unknown := [name for name in names if name not in PROOFS]:
        parser.error(f"no proof is called {unknown[0]!r}: there are {', '.join(PROOFS)}")
    if options.times < 1 or options.labs < 1:
        parser.error("--times and --labs: at least 1")
    began = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    said = everywhere(names, options.times, options.labs)
    _written(said, options.times, options.labs, began, options.out)
    print(f"\n{table(said)}")
    return 1 if flipped(said) else 0


if __name__ == "__main__":
    sys.exit(main())
