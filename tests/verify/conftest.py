"""What the assertions of `make verify` share. They need --hosts, which playbooks/verify.yml gives; else none is run."""

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
_JOURNALS: dict[str, list[str]] = {}
_FAILED: set[str] = set()
_REFUSED: list[str] = []
_STATES: dict[str, dict[str, Any]] = {}
STATE_BYTES = 1 << 25  # of what collect.py prints
STATE_S = 300
MESSAGE = 4000  # characters of a failure that are shown
JOURNAL_LINES = 40
# What the assertions rely on; what is deeper down they look at themselves.
SHAPE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("drift", "history", "stat", "limits", "mounts", "environ", "journal"), (list,)),
    **dict.fromkeys(("running", "unit", "status", "init_status", "namespaces", "dropins", "rolled_back"), (dict,)),
    **dict.fromkeys(("recorder", "config_check", "health"), (dict,)),
    **dict.fromkeys(("deployed", "release", "releases"), (dict, type(None))),
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    ignored = config.getoption("hosts", default=None) is None and collection_path.is_relative_to(HERE)
    return True if ignored else None


def pytest_configure(config: pytest.Config) -> None:
    """A host that never stops answering costs this process so much memory and no more."""
    if config.getoption("hosts", default=None) is not None:
        most = 4 * host_input.MEMORY_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


@pytest.fixture(scope="session")
def notes() -> list[str]:
    """Lines for the summary that are no failure, such as what is rolled back."""
    return _NOTES


@pytest.fixture
def state(host: Any) -> dict[str, Any]:
    """What collect.py read on the host: once for all assertions, so that they speak of the same moment."""
    name = host.backend.get_pytest_id()
    if name not in _STATES:
        try:
            _STATES[name] = _read_state(host)
            _JOURNALS[name] = _read_journal(host)
        except HostInputError as error:
            # One line for all of them: there is nothing that could be asserted.
            _REFUSED.append(f"the host cannot be verified: {error}")
            pytest.exit(_REFUSED[-1], returncode=3)
    return _STATES[name]


def _read_state(host: Any) -> dict[str, Any]:
    """What collect.py prints, checked. Raises HostInputError."""
    script = (HERE / "collect.py").read_text()
    with host_input.receiving(STATE_S):
        result = host.run("python3 -ISc %s %s %s", script, UNIT, DRIFT.read_text())
    if result.rc != 0:
        reason = result.stderr.strip()[-host_input.LINE :] or result.rc
        raise HostInputError(f"its state could not be read: {reason}")
    state = parse_state(result.stdout)
    if state["deployed"] is None and state["release"] is None:
        raise HostInputError("nothing was ever deployed to it, or it was uninstalled: make deploy")
    if history := state["history"]:
        _NOTES.append(f"LAST: {_describe(history[-1])}: {history[-1].get('outcome')}")
    return state


def parse_state(text: str) -> dict[str, Any]:
    """collect.py's JSON without terminal escapes. Raises HostInputError where it has another shape."""
    value = host_input.printable_data(host_input.parse_json(text, "its state", STATE_BYTES))
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


def _read_journal(host: Any) -> list[str]:
    """The last lines of the unit's journal, as a terminal shows them. Raises HostInputError."""
    with host_input.receiving(STATE_S):
        text = host.run("journalctl --no-pager -o short-iso -n %s -u %s", str(JOURNAL_LINES), UNIT).stdout
    return [host_input.printable(line) for line in text.splitlines()[-JOURNAL_LINES:]]


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
        for name, lines in _JOURNALS.items():
            terminalreporter.section(f"journal of {UNIT} on {name}, the last lines")
            for line in lines:
                terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    """The last line is what the playbook fails with."""
    for line in _REFUSED:
        print(line)
