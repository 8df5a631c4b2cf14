"""Every error of the proofs has one root, and the command line turns one that nobody caught into a line and a code."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import pytest

import proofs
from proofs import cli
from proofs.errors import ProofError
from proofs.host.shell import HostError

# Run as files of their own where no proofs can be imported: in a unit's sandbox, in another process.
APART = ("proofs.experiment.sandbox_probe", "proofs.mock_exchange")


def errors() -> dict[str, type[Exception]]:
    """Every error that a module of the proofs defines, by its dotted name; what only ends a timed block is none."""
    names = [module.name for module in pkgutil.walk_packages(proofs.__path__, "proofs.")]
    modules = [importlib.import_module(name) for name in names if not name.startswith(APART)]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
    }


def test_every_error_derives_from_the_root() -> None:
    found = errors()
    assert len(found) > 10
    assert [name for name, error in found.items() if not issubclass(error, ProofError)] == []


def test_uncaught_error_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise HostError("systemctl restart: exit 1: no such unit")

    monkeypatch.setattr(cli, "_list", fail)
    assert cli.main(["list"]) == 1
    assert capsys.readouterr().err == "hybrid-proofs: systemctl restart: exit 1: no such unit\n"
