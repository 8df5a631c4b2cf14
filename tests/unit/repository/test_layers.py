"""Which modules may import which, what the process loads, and where it ends.

`docs/architecture.md` explains the layers.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from hybrid_engine import cli
from tests.support.process import ROOT, clean_environment

# A package's rooms (its files and folders), the lowest layer first. A room may import itself and lower layers; two
# rooms of one layer know nothing of each other. Imports inside functions and behind TYPE_CHECKING count.
LAYERS: dict[str, list[set[str]]] = {
    "hybrid_engine": [
        {"domain", "runtime"},
        {"exchanges", "storage"},
        {"config"},
        {"stages"},
        {"ingest"},
        {"pipeline", "pressure"},
        {"engine", "health", "live_gate"},
        {"cli"},
        {"__main__"},
    ],
    "proofs": [
        {"errors"},
        {"verdict"},
        {"evidence"},
        {"host"},
        {"restore"},
        {"experiment"},
        {"catalog"},
        {"runner", "report"},
        {"soak"},
        {"verifier"},
        {"cli", "demo"},
    ],
    "plugins": [{"module_utils"}, {"modules"}, {"action", "callback"}],
}
# Processes of their own, which import nothing of the package that they lie in; others may import them.
STANDALONE = {"proofs": {"mock_exchange"}}
MOST_ROOMS = {"hybrid_engine": 14, "proofs": 15}
WHERE = "docs/architecture.md has the layers and why they are so"


def room(module: str) -> str:
    """The file or folder of its package that a dotted module lies in."""
    return module.split(".")[1]


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name; a folder's own is named with `__init__`."""
    paths = [path for package in LAYERS for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """Modules of the packages that this one imports, wherever in it."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            # Ansible puts the utilities of modules where modules import them from.
            source = (node.module or "").replace("ansible.module_utils", "plugins.module_utils")
            inner = [f"{source}.{alias.name}" for alias in node.names]
            targets = [target for target in inner if target in MODULES] or [source]
        for target in targets:
            yield from {target, f"{target}.__init__"} & MODULES.keys()


def layer(package: str, name: str) -> int | None:
    """The number of a room's layer, 0 for one that stands alone; None for a package's own `__init__`."""
    if name == "__init__":
        return None
    if name in STANDALONE.get(package, ()):
        return 0
    numbers = [number for number, rooms in enumerate(LAYERS[package], 1) if name in rooms]
    assert numbers, f"{package}/{name} is in no layer of this test's table; {WHERE}"
    return numbers[0]


@pytest.mark.holds("LAYERS")
@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_one_way(name: str) -> None:
    package, own = name.split(".")[0], room(name)
    here = layer(package, own)
    wrong = []
    for other in imports(name):
        same_package = other.split(".")[0] == package
        if not same_package or room(other) == own or here is None:
            continue
        there = layer(package, room(other))
        if own in STANDALONE.get(package, ()) or (there is not None and there >= here and here > 0):
            wrong.append(other)
    assert wrong == [], f"{name} imports against the layers: {wrong}; {WHERE}"


def test_there_is_no_import_circle() -> None:
    graph = {name: set(imports(name)) - {name} for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}; {WHERE}")


@pytest.mark.parametrize("package", MOST_ROOMS)
def test_a_package_has_few_rooms(package: str) -> None:
    rooms = {room(name) for name in MODULES if name.startswith(f"{package}.")} - {"__init__"}
    assert len(rooms) <= MOST_ROOMS[package], sorted(rooms)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.holds("OUTSIDE")
def test_proofs_do_not_import_the_engine() -> None:
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
    modules = [path.name for path in sources("hybrid_engine") if exits.search(path.read_text())]
    assert modules == ["cli.py"]


def test_command_does_not_end_the_test_process() -> None:
    result = threading.Event()
    thread = threading.Thread(target=result.wait, name="connect-slow", daemon=True)
    thread.start()  # with which a command ends by os._exit
    with pytest.raises(SystemExit) as end:
        cli.main(["no-such-command"])  # not one that succeeds: what it ends, it ends with this code
    result.set()
    assert end.value.code == 12


def test_no_count_of_growing_tables() -> None:
    growing = re.compile(r"count\s*\(\s*(\*|1|\w*id)\s*\)[^;]*?\bfrom\s+(ticks|signals|orders|trades)\b", re.I | re.S)
    for path in sources("hybrid_engine", "proofs"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not growing.search(node.value), f"{path}:{node.lineno}"
    assert growing.search("SELECT COUNT(*) FROM ticks")  # the net has no hole of its own


def loaded_by(statement: str) -> set[str]:
    """Modules in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys; print(*sorted(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split("\n")[-2].split())


NETWORK = {"socket", "_socket", "ssl", "_ssl", "websocket", "http.client", "urllib.request", "asyncio", "select"}


@pytest.mark.holds("S9", "I1")
def test_execution_loads_no_network() -> None:
    modules = loaded_by("import hybrid_engine.stages.execution")
    assert "hybrid_engine.stages.execution" in modules
    assert modules & NETWORK == set()
    assert loaded_by("import socket") & NETWORK  # what would be found is found


@pytest.mark.holds("I1")
def test_synthetic_run_loads_no_websocket(tmp_path: Path) -> None:
    run = (
        "import sys\nfrom hybrid_engine import cli\n"
        f"try: cli.main(['run', '--db', {str(tmp_path / 'x.db')!r}, '--seconds', '0.2', '--ingest', 'SYNTHETIC'])\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
    )
    modules = loaded_by(run)
    assert "hybrid_engine.ingest.synthetic" in modules
    assert modules & {"websocket", "ssl", "_ssl", "http.client", "urllib.request", "hybrid_engine.ingest.feed"} == set()
    assert modules & {"msgspec", "hybrid_engine.config.sources"} == set()  # a sixth of its start
    assert modules & {"hybrid_engine.live_gate", "hybrid_engine.runtime.unit"} == set()  # of LIVE alone


def test_feed_loads_network_with_first_connection() -> None:
    modules = loaded_by("import hybrid_engine.engine, hybrid_engine.ingest.feed")
    assert {"hybrid_engine.ingest.connection_attempt", "msgspec"} <= modules
    assert modules & {"websocket", "ssl", "_ssl", "hybrid_engine.ingest.connection"} == set()
