"""The walls of the house, read off the source and off fresh interpreters."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybrid_engine import cli
from hybrid_engine.exchanges import EXCHANGES
from tests.support.process import ROOT, clean_environment

ENGINE = ROOT / "hybrid_engine"

# Lowest first; a module may import from lower floors only (and, on its own floor, what its line says in brackets).
FLOORS = [
    {
        "runtime.errors",
        "domain.events",
        "domain.counters",
        "runtime.log",
        "runtime.systemd",
        "__init__",
        "stages.__init__",
        "config.__init__",
        "storage.__init__",
        "domain.__init__",
        "runtime.__init__",
    },
    {"config.settings", "storage.schema", "runtime.release", "domain.deduplication", "storage.checkpointer"},
    {"exchanges.base", "ingest.__init__"},
    {"exchanges.binance_run"},
    {f"exchanges.{kind}" for kind in EXCHANGES if kind != "auto"},
    {"exchanges.auto"},
    {"exchanges", "exchanges.__init__", "ingest.failure"},
    {"config.sources", "stages.channel", "stages.risk", "stages.adapter", "storage.database"},
    {"storage.retention"},
    {"config.load", "storage.store"},
    {
        "live_gate",
        "stages.admission",
        "runtime.cpu_affinity",
        "pressure",
        "health",
        "stages.stage",
        "ingest.handshake",
        "ingest.recent_trades",
    },
    {
        "ingest.stage",
        "ingest.connection",
        "ingest.symbol_names",
        "ingest.source_state",
        "ingest.retry_policy",
        "ingest.sequence_gaps",
    },
    {"ingest.session", "ingest.connection_attempt", "ingest.source_selector"},
    {"ingest.source_connection"},
    {"ingest.delivery", "ingest.source_report", "ingest.listener"},
    {
        "ingest.synthetic",
        "ingest.replay",
        "ingest.feed",
        "ingest.capture",
        "stages.strategy",
        "stages.execution",
        "stages.persist",
    },
    {"pipeline"},
    {"engine"},
    {"cli"},
    {"__main__"},
]
SAME_FLOOR = {("domain.counters", "runtime.errors")}


def modules() -> dict[str, Path]:
    found = {}
    for path in ENGINE.rglob("*.py"):
        found[".".join(path.relative_to(ENGINE).with_suffix("").parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Modules of the engine that this one imports, wherever in it."""
    found = set()
    names = set(modules())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hybrid_engine":
            base = node.module.removeprefix("hybrid_engine").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in names else base or "__init__")
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("hybrid_engine.") for a in node.names if a.name.startswith("hybrid_engine.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
    return found


def floor(name: str) -> int:
    for level, floor_modules in enumerate(FLOORS):
        if name in floor_modules or name.split(".")[0] in floor_modules:
            return level
    raise AssertionError(f"{name} has no floor: give it one in FLOORS (and DESIGN's floors a thought)")


@pytest.mark.holds("STREET")
@pytest.mark.parametrize("name", sorted(modules()))
def test_each_module_uses_only_lower_floors(name: str) -> None:
    here = floor(name)
    too_high = [other for other in imports(modules()[name]) if floor(other) >= here and (name, other) not in SAME_FLOOR]
    assert too_high == []


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.holds("OUTSIDE")
def test_the_proofs_know_the_engine_only_as_an_operator_does() -> None:
    assert len(sources("proofs")) > 5
    for path in sources("proofs"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "hybrid_engine"], path
            if isinstance(node, ast.Call):
                texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                called = ast.unparse(node.func)
                assert not (called.endswith(("import_module", "__import__")) and "hybrid_engine" in " ".join(texts)), (
                    path
                )


def test_the_process_ends_in_one_place() -> None:
    exits = re.compile(r"\bsys\.exit\b|\bos\._exit\b|\bSystemExit\b|^\s*(exit|quit)\(", re.MULTILINE)
    found = [path.name for path in sources("hybrid_engine") if exits.search(path.read_text())]
    assert found == ["cli.py"]


def test_a_command_cannot_end_the_process_of_the_tests() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="connect-slow", daemon=True)
    thread.start()  # with which a command ends by os._exit
    with pytest.raises(SystemExit) as end:
        cli.main(["no-such-command"])  # not one that succeeds: what it ends, it ends with this code
    done.set()
    assert end.value.code == 12


def test_nothing_counts_a_table_that_grows() -> None:
    growing = re.compile(r"count\s*\(\s*(\*|1|\w*id)\s*\)[^;]*?\bfrom\s+(ticks|signals|orders|trades)\b", re.I | re.S)
    for path in sources("hybrid_engine", "proofs"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not growing.search(node.value), f"{path}:{node.lineno}"
    assert growing.search("SELECT COUNT(*) FROM ticks")  # the net has no hole of its own


def loaded_by(statement: str) -> set[str]:
    """Modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("\n")[-2].split())


NETWORK = {"socket", "_socket", "ssl", "_ssl", "websocket", "http.client", "urllib.request", "asyncio", "select"}


@pytest.mark.holds("S9", "I1")
def test_execution_cannot_reach_a_network() -> None:
    found = loaded_by("import hybrid_engine.stages.execution")
    assert "hybrid_engine.stages.execution" in found
    assert found & NETWORK == set()
    assert loaded_by("import socket") & NETWORK  # what would be found is found


@pytest.mark.holds("I1")
def test_a_synthetic_run_loads_no_websocket(tmp_path: Path) -> None:
    run = (
        "import sys\nfrom hybrid_engine import cli\n"
        f"try: cli.main(['run', '--db', {str(tmp_path / 'x.db')!r}, '--seconds', '0.2', '--ingest', 'SYNTHETIC'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
    )
    found = loaded_by(run)
    assert "hybrid_engine.ingest.synthetic" in found
    assert found & {"websocket", "ssl", "_ssl", "http.client", "urllib.request", "hybrid_engine.ingest.feed"} == set()
    assert found & {"msgspec", "hybrid_engine.config.sources"} == set()  # a sixth of its start


def test_a_feed_loads_the_network_with_its_first_connection() -> None:
    found = loaded_by("import hybrid_engine.engine, hybrid_engine.ingest.feed")
    assert {"hybrid_engine.ingest.connection_attempt", "msgspec"} <= found
    assert found & {"websocket", "ssl", "_ssl", "hybrid_engine.ingest.connection"} == set()
