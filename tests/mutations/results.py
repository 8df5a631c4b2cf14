"""The results: a JSON line for each fault and detector, a table of them, and the totals by promise."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutations.detectors import DETECTORS, KINDS
from tests.mutations.fault import Fault

COLUMNS = ("test", "gate", "verify", "proof", "nobody")


@dataclass(frozen=True)
class Line:
    """What one detector found of one fault. tree: the digest of the tree, and the version of the fault."""

    fault: str
    tree: str
    detector: str
    caught: bool | None
    by: str
    seconds: float


class Results:
    """The file of results. A run goes on where another one of the same tree was ended."""

    def __init__(self, path: Path, tree: str, faults: Iterable[Fault]) -> None:
        self._path = path
        self.trees = {fault.name: f"{tree}-{fault.version}" for fault in faults}
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], Line] = {}
        if path.exists():
            for text in path.read_text().splitlines():
                try:
                    line = Line(**json.loads(text))
                except (ValueError, TypeError):
                    continue  # cut off by Ctrl-C
                if line.tree == self.trees.get(line.fault):
                    self._lines[line.fault, line.detector] = line

    def add(self, line: Line) -> None:
        with self._lock:
            self._lines[line.fault, line.detector] = line
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(asdict(line)) + "\n")

    def get(self, fault: str, detector: str) -> Line | None:
        return self._lines.get((fault, detector))

    def is_caught(self, fault: str) -> bool:
        return any(line.caught for (name, _), line in list(self._lines.items()) if name == fault)

    def kinds(self, fault: str) -> list[str]:
        """By what a fault was caught: some of test, gate, verify, proof, or nobody. Empty where nothing looked."""
        lines = [line for each in DETECTORS if (line := self.get(fault, each)) and line.caught is not None]
        caught = dict.fromkeys(KINDS[line.detector] for line in lines if line.caught)
        return list(caught) if caught else ["nobody"] * bool(lines)


def totals(faults: Iterable[Fault], results: Results) -> dict[str, dict[str, int]]:
    """By promise, and for all: how many faults were tried, are visible on a host, and were caught by what."""
    result: dict[str, dict[str, int]] = {}
    for fault in faults:
        if kinds := results.kinds(fault.name):
            for key in (fault.promise, "all"):
                row = result.setdefault(key, dict.fromkeys(("tried", "on host", *COLUMNS), 0))
                row["tried"] += 1
                row["on host"] += not fault.unseen
                for kind in kinds:
                    row[kind] += 1
    whole = result.pop("all", None)
    return {**dict(sorted(result.items())), **({"all": whole} if whole else {})}


def table(faults: Sequence[Fault], results: Results) -> str:
    """The totals as Markdown, and behind them each fault that nobody caught."""
    rows = totals(faults, results)
    names = ("tried", "on host", *COLUMNS)
    lines = [f"| promise | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {promise} | {' | '.join(str(row[name]) for name in names)} |" for promise, row in rows.items()]
    nobody = [fault for fault in faults if results.kinds(fault.name) == ["nobody"]]
    if nobody:
        lines += ["", "| caught by nobody | promise | file | looked | no host can show it |", "|---|---|---|---|---|"]
    for fault in nobody:
        looked = ", ".join(each for each in DETECTORS if results.get(fault.name, each))
        lines.append(f"| {fault.name} | {fault.promise} | {fault.file} | {looked} | {fault.unseen or '-'} |")
    return "\n".join(lines) + "\n"


def as_json(faults: Sequence[Fault], results: Results) -> str:
    """The same for programs: the totals, and each fault with what every detector said."""
    each = []
    for fault in faults:
        lines = {name: line for name in DETECTORS if (line := results.get(fault.name, name))}
        if lines:
            found = {name: {"caught": line.caught, "by": line.by} for name, line in lines.items()}
            about = {"name": fault.name, "promise": fault.promise, "file": fault.file, "unseen": fault.unseen}
            each.append({**about, "caught_by": results.kinds(fault.name), "detectors": found})
    return json.dumps({"totals": totals(faults, results), "faults": each}, indent=1) + "\n"
