"""Fixtures of every test. The tests are packages, so `tests.support` is imported from the root."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from hybrid_engine.runtime import log
from tests.support import programs
from tests.support.process import Launcher
from tests.support.scripted_exchange import ScriptedExchange

programs.stop_inheritance_of_ignored_signals()

# Deterministic, and without a deadline: on a busy machine a slow example is no failure.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("project")


def pytest_configure() -> None:
    """One seed for every worker: they inherit it."""
    os.environ.setdefault("PROOF_SEED", str(random.randrange(10**6)))


def pytest_report_header() -> str:
    return f"PROOF_SEED={os.environ['PROOF_SEED']} (at which steps proofs are killed)"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Launcher]:
    """Starts `hybrid-engine` processes with a configuration under tmp_path, and ends them with the test."""
    launcher = Launcher(tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture
def primary() -> Iterator[ScriptedExchange]:
    with ScriptedExchange() as exchange:
        yield exchange


@pytest.fixture
def secondary() -> Iterator[ScriptedExchange]:
    with ScriptedExchange() as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def _no_program_left() -> Iterator[None]:
    """What a test started ends with it, also when it fails."""
    yield
    programs.kill_all()


@pytest.fixture(autouse=True)
def _no_silent_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that a test calls in this process must not end all tests with its own exit code."""
    ours, end = os.getpid(), os._exit

    def exit_as_python_does(code: int) -> NoReturn:
        if os.getpid() == ours:
            raise SystemExit(code)
        end(code)

    monkeypatch.setattr(os, "_exit", exit_as_python_does)


@pytest.fixture(autouse=True)
def _journal_level() -> Iterator[None]:
    """The log level belongs to the process: a test that changes it must not affect the next one."""
    yield
    log.set_level("INFO")
