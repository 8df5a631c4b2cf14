"""A/A: every proof again and again on an unchanged host must say the same. `python -m tests.lab.same_verdict`.

Needs root. A verdict that flips is a defect of the proof, not bad luck: find it, do not run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from tests.lab.labs import SUITE, Lab, lab_py
from tests.lab.proving import EVIDENCE, PROGRAM, install


def verdicts(lab: Lab, run: str, names: list[str]) -> dict[str, str]:
    """One run: proof -> "its verdict / its mutants' verdict"."""
    lab.root(PROGRAM, "run", *names, "--run", run, check=False, timeout=1800)
    statement = json.loads(lab.root("cat", f"{EVIDENCE}/{run}/statement.json").stdout)
    return {
        proof["name"]: f"{proof['verdict']} / {proof['mutant']['verdict']}"
        for proof in statement["predicate"]["proofs"]
    }


def main() -> int:
    """Run the proofs so many times and count what each said. 0 when none ever said something else."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.same_verdict", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="proofs (default: the lab's required set)")
    parser.add_argument("--times", type=int, default=10, help="how often (default: %(default)s)")
    options = parser.parse_args()
    said: dict[str, Counter[str]] = defaultdict(Counter)
    name = f"aa-{os.getpid()}"
    try:
        lab_py("up", name, "--suite", SUITE)
        with tempfile.TemporaryDirectory() as scratch:
            inventory = Path(scratch) / "hosts.yml"
            inventory.write_text(lab_py("inventory", name).stdout)
            lab = Lab(name, SUITE, inventory)
            install(lab)
            for number in range(1, options.times + 1):
                for proof, verdict in verdicts(lab, f"aa{number}", options.names).items():
                    said[proof][verdict] += 1
                    print(f"{number}/{options.times} {proof}: {verdict}", flush=True)
    finally:
        lab_py("down", name)
    print()
    for proof, counted in said.items():
        print(f"{proof:<12} {', '.join(f'{times} x {verdict}' for verdict, times in counted.most_common())}")
    return 0 if said and all(len(counted) == 1 for counted in said.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
