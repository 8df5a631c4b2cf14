"""A release on the disk as it is built and compiled on a host, and ways in which it can be another one."""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import py_compile
import sys
from collections.abc import Callable
from pathlib import Path

FILES = {
    "bin/run": b"#!/bin/sh\n",
    "lib/one.py": b"def one():\n    return 1\n",
    "lib/one.pyi": b"def one() -> int: ...\n",
    "lib/py.typed": b"",
}


def make_release(folder: Path) -> Path:
    """A release below `folder`."""
    files = {path: hashlib.sha256(body).hexdigest() for path, body in FILES.items()}
    digest = hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()
    home = folder / f"0.1.0-{digest[:12]}"
    for path, body in FILES.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(body)
        (home / path).chmod(0o644)
    for folder in (home, home / "bin", home / "lib"):
        folder.chmod(0o755)
    about = {"name": home.name, "digest": digest, "files": files}
    (home / "release.json").write_text(json.dumps(about))
    (home / "bytecode.json").write_text("{}")
    compile_into(home, home / "lib/one.py")
    return home


def compile_into(home: Path, source: Path) -> None:
    """Leave the bytecode of `source` where Python looks for that of lib/one.py."""
    target = home / "lib/__pycache__" / f"one.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(source), str(target), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def other_bytecode(home: Path) -> None:
    other = home.parent / "other.py"
    other.write_text("def one():\n    return 2\n")
    compile_into(home, other)


def smaller_stack(home: Path) -> None:
    """Code that is equal to the compiled one, and makes Python write beyond its frame."""
    target = home / "lib/__pycache__" / f"one.{sys.implementation.cache_tag}.pyc"
    body = target.read_bytes()
    target.write_bytes(body[:16] + marshal.dumps(marshal.loads(body[16:]).replace(co_stacksize=0)))


def sourceless(home: Path) -> None:
    """Python runs it where there is no source of that name."""
    py_compile.compile(str(home / "lib/one.py"), str(home / "lib/two.pyc"))


def beside(name: str) -> Callable[[Path], object]:
    """A file of which Python may make something by its name alone."""

    def put(home: Path) -> None:
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("import os\n")

    return put


def pipe(name: str) -> Callable[[Path], object]:
    """A pipe, of which reading it would never end, in the place of a file or beside it."""

    def put(home: Path) -> None:
        (home / name).unlink(missing_ok=True)
        os.mkfifo(home / name)

    return put


def other_manifest(home: Path) -> None:
    """One that fits the altered file, and no longer the digest."""
    (home / "lib/one.py").write_bytes(b"")
    about = json.loads((home / "release.json").read_text())
    about["files"]["lib/one.py"] = hashlib.sha256(b"").hexdigest()
    (home / "release.json").write_text(json.dumps(about))


def linked(home: Path) -> None:
    (home / "lib/one.py").rename(home.parent / "one.py")
    (home / "lib/one.py").symlink_to(home.parent / "one.py")


def linked_folder(home: Path) -> None:
    (home.parent / "two").mkdir()
    (home / "lib/two").symlink_to(home.parent / "two")


DIFFERENCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda home: (home / "bin/run").write_bytes(b"#!/bin/ls\n"), "bin/run is not as it was built"),
    "a missing file": (lambda home: (home / "bin/run").unlink(), "bin/run is missing"),
    "one file more": (lambda home: (home / "lib/two.py").write_text(""), "lib/two.py is not as it was built"),
    "other bytecode": (other_bytecode, ".pyc is not as it was built"),
    "equal bytecode": (smaller_stack, ".pyc is not as it was built"),
    "bytecode alone": (sourceless, "lib/two.pyc is not as it was built"),
    "bytecode of another level": (beside("lib/__pycache__/one.cpython-311.opt-1.pyc"), ".pyc is not as it was built"),
    "a package in a module's place": (beside("lib/one/__init__.py"), "lib/one/__init__.py is not as it was built"),
    "a module at the start": (beside("lib/sitecustomize.py"), "lib/sitecustomize.py is not as it was built"),
    "a list of paths": (beside("lib/more.pth"), "lib/more.pth is not as it was built"),
    "a pipe more": (pipe("lib/two.py"), "lib/two.py is not as it was built"),
    "a pipe for an empty file": (pipe("lib/py.typed"), "lib/py.typed is not as it was built"),
    "a file of all": (lambda home: (home / "lib/one.py").chmod(0o666), "lib/one.py "),
    "a folder of all": (lambda home: (home / "lib").chmod(0o777), "lib can be written by others"),
    "bytecode of all": (lambda home: next(home.rglob("*.pyc")).chmod(0o664), ".pyc "),
    "a manifest that fits": (other_manifest, "release.json is not of the digest that it names"),
    "a link": (linked, "lib/one.py is not as it was built"),
    "a linked folder": (linked_folder, "lib/two is not as it was built"),
    "no manifest": (lambda home: (home / "release.json").unlink(), "FileNotFoundError"),
    "a manifest of nonsense": (lambda home: (home / "release.json").write_text("[]"), "TypeError"),
}
