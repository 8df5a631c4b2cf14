"""Scratch copies of the repository, with a fault applied, and programs that run in one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutations.fault import Fault
from tests.support import programs
from tests.support.process import ROOT, clean_environment

# Caches that every copy shares: wheels and releases are named by their content.
_SHARED = ("build", ".venv")
_OWN = ("tests/mutations/", "tests/unit/repository/test_mutations", "Makefile")


class Output(NamedTuple):
    """How a program ended; `rc` is None where it took too long."""

    rc: int | None
    text: str


def tracked_files() -> list[str]:
    """The files of the working tree: those in git, as they are now, and new ones that git does not ignore."""
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({name for name in names if name and (ROOT / name).is_file()})


def tree_digest() -> str:
    """The digest of the working tree, without this package: results are of one tree."""
    digest = hashlib.sha256()
    for name in tracked_files():
        if name.startswith(_OWN) or name.endswith(".md"):
            continue
        digest.update(name.encode() + b"\0" + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


class Copy:
    """A copy of the working tree."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._program: programs.Program | None = None
        self.remove()
        for name in tracked_files():
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
        for name in _SHARED:
            if (ROOT / name).exists():
                (place / name).symlink_to((ROOT / name).resolve())
        imported = self.run([sys.executable, "-c", "import hybrid_engine, proofs; print(hybrid_engine.__file__)"], 60)
        if imported.text.strip() != str(place / "hybrid_engine" / "__init__.py"):
            raise RuntimeError(f"{place} imports another hybrid_engine: {imported.text.strip()}")

    def apply(self, fault: Fault) -> None:
        """Put the fault in. Raises ValueError where its old text is not there once."""
        text = (ROOT / fault.file).read_text()
        if text.count(fault.old) != 1:
            raise ValueError(f"{fault.name}: {fault.file} has its old text {text.count(fault.old)} times")
        self._write(fault.file, text.replace(fault.old, fault.new))

    def revert(self, fault: Fault) -> None:
        """Take the fault out."""
        self._write(fault.file, (ROOT / fault.file).read_text())

    def _write(self, file: str, text: str) -> None:
        """Replace a file's text. What was compiled of it goes: a compiled module is told by size and second alone."""
        path = self.place / file
        path.write_text(text)
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()

    def run(self, argv: Sequence[str], timeout_s: float, **environment: str) -> Output:
        """Run a program in the copy, and kill it with all that it started after `timeout_s`."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        own = {"PYTHONPATH": str(self.place), "PATH": path, "ANSIBLE_NOCOLOR": "1"}
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        program = programs.start(argv, cwd=self.place, env=clean_environment({**own, **environment}), **streams)
        self._program = program
        try:
            return _finished(program, timeout_s)
        finally:
            self._program = None
            program.kill_session()
            program.wait()

    def cancel(self) -> None:
        """End the program that runs now. Called from another thread."""
        program = self._program
        if program is not None and program.poll() is None:
            program.kill_session()

    def remove(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


def _finished(program: programs.Program, timeout_s: float) -> Output:
    try:
        text, _ = program.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Output(None, "")
    return Output(program.returncode, text)
