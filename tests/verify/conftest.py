"""Assertions against a deployed host. They need --hosts, which playbooks/verify.yml gives; else none is collected."""

import functools
import importlib.util
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proofs.evidence import host_input
from proofs.evidence.host_input import HostInputError

HERE = Path(__file__).parent
UNIT = "hybrid-engine.service"
STATE = HERE.parents[1] / "plugins/module_utils/deployed_state.py"
_TOLD: list[str] = []
_JOURNALS: dict[str, list[str]] = {}
_FAILED: set[str] = set()
_REFUSED: list[str] = []
LARGEST = 1 << 25  # bytes of what collect.py prints; a release's files are listed in it
LOOK_S = 300
MESSAGE = 4000  # characters of a failure that are told
JOURNAL_LINES = 40
# What the tests rely on; what is deeper down they look at themselves.
SHAPE: dict[str, tuple[type, ...]] = {
    "unit": (dict,), "status": (dict,), "init_status": (dict,), "stat": (list,), "limits": (list,), "mounts": (list,),
    "environ": (list,), "cwd": (str,), "namespaces": (dict,), "journal": (list,), "deployed": (dict, type(None)),
    "found": (dict,), "dropins": (dict,), "rolled_back": (dict,), "home": (str,), "release": (dict, type(None)),
    "bytecode": (dict, type(None)), "above": (dict,), "tree": (dict,), "releases": (dict, type(None)),
    "history": (list,), "strays": (list,), "state": (dict,), "recorder": (dict,), "config_check": (dict,),
    "health": (dict,), "passwd": (dict,),
}  # fmt: skip


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    wanted = config.getoption("hosts", default=None) is None and collection_path.is_relative_to(HERE)
    return True if wanted else None


def pytest_configure(config: pytest.Config) -> None:
    """A host that never stops answering costs this process so much memory and no more."""
    if config.getoption("hosts", default=None) is not None:
        most = 4 * host_input.MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


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
        try:
            _SEEN[name] = _look(host)
            _JOURNALS[name] = _journal(host)
        except HostInputError as error:
            # One line for all of them: there is nothing that could be asserted.
            _REFUSED.append(f"the host cannot be verified: {error}")
            pytest.exit(_REFUSED[-1], returncode=3)
    return _SEEN[name]


def _look(host: Any) -> dict[str, Any]:
    """What collect.py prints, checked. Raises HostInputError."""
    script = (HERE / "collect.py").read_text()
    with host_input.receiving(LOOK_S):
        done = host.run("python3 -ISc %s %s %s", script, UNIT, STATE.read_text())
    if done.rc != 0:
        raise HostInputError(f"it could not be looked at: {done.stderr.strip()[-host_input.LINE :] or done.rc}")
    seen = parse_look(done.stdout)
    if lines := seen["history"]:
        _TOLD.append(f"LAST: {_state().told(lines[-1])}: {lines[-1].get('outcome')}")
    return seen


def parse_look(text: str) -> dict[str, Any]:
    """collect.py's JSON without anything that moves a cursor. Raises HostInputError where it is another's."""
    value = host_input.printable_data(host_input.parse_json(text, "what it says of itself", LARGEST))
    if not isinstance(value, dict) or value.keys() != SHAPE.keys():
        raise HostInputError("what it says of itself has other parts than were asked for")
    for key, kinds in SHAPE.items():
        if not isinstance(value[key], kinds):
            raise HostInputError(f"what it says of itself: {key} is no {kinds[0].__name__}")
    for line in value["history"]:
        if not isinstance(line, dict) or not isinstance(line.get("when"), str) or type(line.get("line")) is not int:
            raise HostInputError("what it says of itself: its history has a line that is none")
    return value


def _journal(host: Any) -> list[str]:
    """The last lines of the unit's journal, as a terminal shows them. Raises HostInputError."""
    with host_input.receiving(LOOK_S):
        text = host.run("journalctl --no-pager -o short-iso -n %s -u %s", str(JOURNAL_LINES), UNIT).stdout
    return [host_input.printable(line) for line in text.splitlines()[-JOURNAL_LINES:]]


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
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        _FAILED.add(item.nodeid)
        report.longrepr = _shortened(report.longrepr, call.excinfo)


def _shortened(report: object, error: pytest.ExceptionInfo[BaseException] | None) -> object:
    """A failure as it is told. What is no failed assertion comes of an answer that has another shape: one line."""
    if error is not None and not error.errisinstance((AssertionError, pytest.fail.Exception)):
        return f"the host's answer cannot be judged: {host_input.printable(repr(error.value))}"
    text = str(report)
    return report if len(text) <= MESSAGE else host_input.printable(text, MESSAGE, keep="\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in dict.fromkeys(_TOLD):
        terminalreporter.write_line(host_input.printable(line))
    if _FAILED:
        for name, lines in _JOURNALS.items():
            terminalreporter.section(f"journal of {UNIT} on {name}, the last lines")
            for line in lines:
                terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    """The last line is what the playbook fails with."""
    for line in _REFUSED:
        print(line)
