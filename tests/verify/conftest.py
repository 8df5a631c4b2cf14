"""What the assertions of `make verify` share: the state of a host, as the action deployment_verify brings it.

They need --state, which that gives; else none is run.
"""

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
DRIFT = HERE.parents[1] / "plugins/module_utils/drift.py"
_NOTES: list[str] = []
_JOURNAL: list[str] = []
_FAILED: set[str] = set()
_REFUSED: list[str] = []
STATE_BYTES = 1 << 25  # of what collect.py prints
MESSAGE = 4000  # characters of a failure that are shown
# What the assertions rely on; what is deeper down they look at themselves.
SHAPE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("drift", "history", "stat", "limits", "mounts", "environ"), (list,)),
    **dict.fromkeys(("journal", "journal_end"), (list,)),
    **dict.fromkeys(("running", "unit", "status", "init_status", "namespaces", "dropins", "rolled_back"), (dict,)),
    **dict.fromkeys(("recorder", "config_check", "health", "state_directory"), (dict,)),
    "shell": (str,),
    **dict.fromkeys(("deployed", "release", "releases"), (dict, type(None))),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--state", help="the file with what collect.py printed on the host")
    parser.addoption("--make-words", default="", help="what the commands that are suggested tell make")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    ignored = config.getoption("state", default=None) is None and collection_path.is_relative_to(HERE)
    return True if ignored else None


def pytest_configure(config: pytest.Config) -> None:
    """Whatever a host answered, it costs this process so much memory and no more."""
    if config.getoption("state", default=None) is not None:
        most = 4 * host_input.MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


@pytest.fixture(scope="session")
def notes() -> list[str]:
    """Lines for the summary that are no failure, such as what is rolled back."""
    return _NOTES


@pytest.fixture(scope="session")
def make_words(pytestconfig: pytest.Config) -> str:
    """What the commands that are suggested tell make, such as its inventory."""
    return str(pytestconfig.getoption("make_words"))


@pytest.fixture(scope="session")
def state(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What collect.py read on the host: once for all assertions, so that they speak of the same moment."""
    try:
        return _read_state(Path(pytestconfig.getoption("state")))
    except HostInputError as error:
        # One line for all of them: there is nothing that could be asserted.
        _REFUSED.append(f"the host cannot be verified: {error}")
        pytest.exit(_REFUSED[-1], returncode=3)


def _read_state(path: Path) -> dict[str, Any]:
    """What collect.py printed, checked. Raises HostInputError."""
    state = parse_state(path.read_text())
    if state["deployed"] is None and state["release"] is None:
        raise HostInputError("nothing was ever deployed to it, or it was uninstalled: make deploy")
    if history := state["history"]:
        _NOTES.append(f"LAST: {_describe(history[-1])}: {history[-1].get('outcome')}")
    _JOURNAL.extend(host_input.printable(str(line)) for line in state["journal_end"])
    return state


def parse_state(text: str) -> dict[str, Any]:
    """collect.py's JSON without terminal escapes. Raises HostInputError where it has another shape."""
    value = host_input.printable_data(host_input.parse_json(text, "its state", STATE_BYTES))
    if isinstance(value, dict) and value.keys() == {"error"}:
        raise HostInputError(f"its state could not be read: {value['error']}")
    if not isinstance(value, dict) or value.keys() != SHAPE.keys():
        raise HostInputError("its state has other parts than were asked for")
    for key, kinds in SHAPE.items():
        if not isinstance(value[key], kinds):
            raise HostInputError(f"its state: {key} is no {kinds[0].__name__}")
    for line in value["history"]:
        if not isinstance(line, dict) or not isinstance(line.get("when"), str) or type(line.get("line")) is not int:
            raise HostInputError("its state: its history has a line that is none")
    for difference in value["drift"]:
        if not isinstance(difference, list) or [type(part) for part in difference] != [str, str]:
            raise HostInputError("its state: a difference is no rule and text")
    return value


def assert_none(state: dict[str, Any], rule: str) -> None:
    """Assert that the drift program found no difference by one of its rules."""
    differences = [text for name, text in state["drift"] if name == rule]
    assert not differences, "; ".join(differences)


def _describe(entry: dict[str, Any]) -> str:
    spec = importlib.util.spec_from_file_location("drift", DRIFT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.describe(entry))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        _FAILED.add(item.nodeid)
        report.longrepr = _shortened(report.longrepr, call.excinfo)


def _shortened(report: object, error: pytest.ExceptionInfo[BaseException] | None) -> object:
    """A failure as it is shown. What is no failed assertion comes of an answer that has another shape: one line."""
    if error is not None and not error.errisinstance((AssertionError, pytest.fail.Exception)):
        return f"the host's answer cannot be judged: {host_input.printable(repr(error.value))}"
    text = str(report)
    return report if len(text) <= MESSAGE else host_input.printable(text, MESSAGE, keep="\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in dict.fromkeys(_NOTES):
        terminalreporter.write_line(host_input.printable(line))
    if _FAILED:
        terminalreporter.section(f"journal of {UNIT}, the last lines")
        for line in _JOURNAL:
            terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    """The last line is what the playbook fails with."""
    for line in _REFUSED:
        print(line)
