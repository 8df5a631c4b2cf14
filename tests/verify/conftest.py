"""Assertions against a deployed host. They need --hosts, which playbooks/verify.yml gives; else none is collected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
UNIT = "hybrid-engine.service"
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
        done = host.run("python3 -ISc %s %s", script, UNIT)
        assert done.rc == 0, f"the host could not be looked at: {done.stderr}"
        _SEEN[name] = json.loads(done.stdout)
        _JOURNALS[name] = host.run("journalctl --no-pager -o short-iso -n 40 -u %s", UNIT).stdout.splitlines()
    return _SEEN[name]


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
