"""Assertions against a deployed host. They need --hosts, which playbooks/verify.yml gives; else none is collected."""

import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
UNIT = "hybrid-engine.service"
STATE = HERE.parents[1] / "roles/systemd_service/module_utils/deployed_state.py"
_TOLD: list[str] = []
_JOURNALS: dict[str, list[str]] = {}
_FAILED: set[str] = set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    wanted = config.getoption("hosts", default=None) is None and collection_path.is_relative_to(HERE)
    return True if wanted else None


@pytest.fixture(scope="session")
def told() -> list[str]:
    """What the summary should say although it is no failure, such as what is rolled back."""
    return _TOLD


_SEEN: dict[str, dict[str, Any]] = {}


@pytest.fixture
def seen(host: Any) -> dict[str, Any]:
    """All that collect.py found on the host: one look for all tests, so that they speak of the same moment."""
    name = host.backend.get_pytest_id()
    if name not in _SEEN:
        script = (HERE / "collect.py").read_text()
        done = host.run("python3 -ISc %s %s %s", script, UNIT, STATE.read_text())
        assert done.rc == 0, f"the host could not be looked at: {done.stderr}"
        _SEEN[name] = json.loads(done.stdout)
        if lines := _SEEN[name]["history"]:
            _TOLD.append(f"LAST: {_state().told(lines[-1])}: {lines[-1].get('outcome')}")
        _JOURNALS[name] = host.run("journalctl --no-pager -o short-iso -n 40 -u %s", UNIT).stdout.splitlines()
    return _SEEN[name]


def source(seen: dict[str, Any], *paths: str) -> str:
    """Which deployment put the first of these paths that it names into the state expected, for the end of a message."""
    found = next(filter(None, (_state().put_there_by(seen["history"], path) for path in paths)), None)
    return f"({_state().told(found)})"


@functools.cache
def _state() -> Any:
    spec = importlib.util.spec_from_file_location("deployed_state", STATE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        _FAILED.add(item.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in dict.fromkeys(_TOLD):
        terminalreporter.write_line(line)
    if _FAILED:
        for name, lines in _JOURNALS.items():
            terminalreporter.section(f"journal of {UNIT} on {name}, the last lines")
            for line in lines:
                terminalreporter.write_line(line)
