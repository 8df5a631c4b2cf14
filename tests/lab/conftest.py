"""Labs for tests: `lab` is one for a whole file, `make_lab` gives more. Names are unique, so xdist may run them."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.labs import STATE, SUITE, Lab, MakeLab, lab_py
from tests.lab.proof_runs import install

# Begun in this order, before the other files, so that no worker has a long one left when the rest is done.
LONGEST_FIRST = (
    *("test_killed_steps", "test_proofs", "test_deploy", "test_drift", "test_deploy_gate", "test_rollback"),
    *(
        "test_lifecycle",
        "test_adoption",
        "test_subverted_engine",
        "test_soak",
        "test_other_suite",
        "test_killed_proofs",
    ),
    *("test_lost_connection", "test_connections"),
    *("test_flight_recorder", "test_hostile_host", "test_pressure", "test_lab_teardown", "test_lab"),
)


def pytest_configure() -> None:
    """Name a lab that all workers of this run share: they inherit it."""
    os.environ.setdefault("LAB_ORIGINAL", f"t{os.getpid()}-original")


def pytest_sessionfinish() -> None:
    if os.environ["LAB_ORIGINAL"] == f"t{os.getpid()}-original" and (STATE / os.environ["LAB_ORIGINAL"]).exists():
        lab_py("down", os.environ["LAB_ORIGINAL"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(scope="session")
def lab_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Names for labs that this process alone uses; whatever has one in the end is removed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a lab needs root on Linux")
    payloads = _shared(tmp_path_factory) / "payloads"
    payloads.mkdir(exist_ok=True)
    os.environ["LAB_PAYLOADS"] = str(payloads)
    # A run that is told to end takes its labs down, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _sweep()
    given: list[str] = []

    def name() -> str:
        given.append(f"t{os.getpid()}-{len(given)}")
        return given[-1]

    yield name
    for used in given:
        lab_py("down", used)


@pytest.fixture(scope="session")
def make_lab(lab_names: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> MakeLab:
    """A function that boots another lab: make_lab(suite="trixie") -> Lab. The session's end removes it."""

    def up(name: str, suite: str, *words: str) -> Lab:
        lab_py("up", name, "--suite", suite, *words)
        inventory = tmp_path_factory.mktemp(name) / "hosts.yml"
        inventory.write_text(lab_py("inventory", name).stdout)
        return Lab(name, suite, inventory)

    def make(suite: str = SUITE, proofs: bool = False, copy: str = "") -> Lab:
        if not proofs:
            return up(lab_names(), suite, *(("--copy", copy) if copy else ()))
        original = os.environ["LAB_ORIGINAL"]
        with (_shared(tmp_path_factory) / original).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (STATE / original).exists():
                try:
                    install(up(original, suite))
                    lab_py("poweroff", original)
                except BaseException:
                    lab_py("down", original)
                    raise
        return make(suite, copy=original)

    return make


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """A clean lab for the tests of one file (suite: LAB_SUITE)."""
    made = make_lab()
    yield made
    made.down()


@pytest.fixture(scope="module")
def installed(make_lab: MakeLab) -> Iterator[Lab]:
    """A lab for the tests of one file, with engine and proofs on it."""
    made = make_lab(proofs=True)
    yield made
    made.down()


def _shared(factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this test run have in common."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _sweep() -> None:
    """Remove labs of test runs that were killed before they could."""
    for path in STATE.glob("t*-*"):
        owner = re.fullmatch(r"t(\d+)-\w+", path.name)
        if owner and not Path("/proc", owner[1]).exists():
            lab_py("down", path.name)
