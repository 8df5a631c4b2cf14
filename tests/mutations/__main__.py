"""The command `python -m tests.mutations`: how many faults are caught, and by what."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.mutations import results as reports
from tests.mutations.detectors import DETECTORS
from tests.mutations.fault import Fault
from tests.mutations.run import run
from tests.mutations.scratch import tree_digest
from tests.mutations.table import FAULTS
from tests.support.process import ROOT

RESULTS = ROOT / "build" / "mutation.jsonl"
_EPILOG = """detectors, in order of cost:
  mirror   the unit tests of the fault's file, up to the first that fails
  promise  the tests that hold the fault's promise (docs/guarantees.md)
  quick    all quick tests
  gate     playbooks/deploy.yml, into a lab of the worker's own (root)
  verify   playbooks/verify.yml
  proof    the promise's proofs, then all others; FAIL catches, any other verdict is reported
  lab      the tests that hold the promise in a lab (root)

Each fault is put into a scratch copy of the working tree. A result is a line of --results; a run goes on where another
one of the same tree ended. Ctrl-C removes copies and labs. Beside the lines lie FILE.md (totals by promise, and what
nobody caught) and FILE.json.

examples:
  python -m tests.mutations --list                                 the faults
  python -m tests.mutations --detectors mirror,promise --first     is each caught by a quick test?
  python -m tests.mutations --names stuck-persist-unseen           one fault, by everything
  python -m tests.mutations --only WATCHDOG --detectors proof      the faults of a promise, by the proofs
  python -m tests.mutations --tenth --seed 7                       a random tenth
exit status: 0 every fault that was tried is caught, 1 some are not, 2 usage, 130 interrupted
"""


def random_tenth(seed: int) -> list[Fault]:
    """A tenth of the faults, which the seed determines; in the table's order."""
    chosen = set(random.Random(seed).sample(range(len(FAULTS)), -(-len(FAULTS) // 10)))
    return [fault for number, fault in enumerate(FAULTS) if number in chosen]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m tests.mutations",
        description="Put faults into the product one by one, and see what catches each.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--names", default="", metavar="A,B", help="only these faults")
    add("--only", default="", metavar="TEXT", help="only faults with this text in their name, promise or file")
    add("--detectors", default=",".join(DETECTORS), metavar="A,B", help="default: all")
    add("--first", action="store_true", help="of each fault, end with the first detector that catches it")
    add("--tenth", action="store_true", help="a random tenth of the faults; --seed repeats one")
    add("--seed", type=int, default=None, metavar="N", help="seed of the tenth (default: a random one, printed)")
    add("--workers", type=int, default=2, metavar="N", help="faults at a time (default: %(default)s)")
    add("--results", type=Path, default=RESULTS, metavar="FILE", help="default: build/mutation.jsonl")
    add("--list", action="store_true", help="print the faults, and end")
    return result


def choose(args: argparse.Namespace) -> list[Fault]:
    """The faults that the options select. Raises ValueError."""
    faults = list(FAULTS)
    if args.tenth:
        seed = random.randrange(10**6) if args.seed is None else args.seed
        print(f"a random tenth of {len(FAULTS)} faults, seed {seed}", flush=True)
        faults = random_tenth(seed)
    if args.names:
        names = args.names.split(",")
        if unknown := set(names) - {fault.name for fault in FAULTS}:
            raise ValueError(f"no fault is called {', '.join(sorted(unknown))}; --list prints them")
        faults = [fault for fault in faults if fault.name in names]
    faults = [fault for fault in faults if args.only in f"{fault.name} {fault.promise} {fault.file}"]
    if not faults:
        raise ValueError("no fault is selected")
    return faults


def main(argv: Sequence[str] | None = None) -> int:
    options = parser()
    args = options.parse_args(argv)
    detectors = [each for each in DETECTORS if each in args.detectors.split(",")]
    if len(detectors) != len(args.detectors.split(",")) or args.workers < 1:
        options.error(f"--detectors: some of {', '.join(DETECTORS)}; --workers: 1 or more")
    try:
        faults = choose(args)
    except ValueError as error:
        options.error(str(error))
    if args.list:
        for fault in faults:
            print(f"{fault.name:<42} {fault.promise:<11} {fault.file}{'  not on a host' if fault.unseen else ''}")
        return 0
    tree = tree_digest()
    results = reports.Results(args.results, tree, FAULTS)
    print(f"{len(faults)} faults in the tree {tree}, by {', '.join(detectors)}; results in {args.results}", flush=True)
    lock, done = threading.Lock(), 0

    def say(text: str) -> None:
        nonlocal done
        with lock:
            done += 1
            print(f"[{done}] {text}", flush=True)

    code = 0
    for number in (signal.SIGINT, signal.SIGTERM):  # also where it was started with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        run(faults, detectors, results, args.workers, first_only=args.first, say=say)
    except KeyboardInterrupt:
        code = 130
    except RuntimeError as error:
        print(f"mutation: {error}", file=sys.stderr)
        code = 1
    text = reports.table(faults, results)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    args.results.with_suffix(".md").write_text(text)
    args.results.with_suffix(".json").write_text(reports.as_json(faults, results))
    print(f"\n{text}")
    return code or int(any(results.kinds(fault.name) == ["nobody"] for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
