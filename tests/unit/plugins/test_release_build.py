"""A release is named by its content: the same sources give the same name, whoever builds it, when and where."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.plugins.loading import module, shared

PROJECT = """
[project]
name = "thing"
version = "1.2.3"
dependencies = ["dep==1.0"]
"""


@pytest.fixture(scope="module")
def layout() -> ModuleType:
    return shared("release_layout")


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return module("release_build")


@pytest.fixture(scope="module")
def record() -> ModuleType:
    return module("release_record")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    home = tmp_path / "checkout"
    (home / "thing").mkdir(parents=True)
    (home / "thing/__init__.py").write_text("")
    (home / "thing/cli.py").write_text("import dep\n\n\ndef main():\n    print('it runs', dep.NAME)\n    return 7\n")
    (home / "other").mkdir()
    (home / "other/__init__.py").write_text("")
    (home / "pyproject.toml").write_text(PROJECT)
    return home


def cached_wheel(builder: ModuleType, checkout: Path, files: dict[str, str]) -> None:
    """Put a wheel of `dep` where the builder caches wheels, so that nothing is fetched."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    key = builder.hashlib.sha256(json.dumps([["dep==1.0"], "3.11", "x86_64"]).encode()).hexdigest()[:12]
    home = checkout / f"build/wheels/py3.11-x86_64-{key}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dep-1.0-py3-none-any.whl").write_bytes(wheel.getvalue())
    sums = {"dep-1.0-py3-none-any.whl": builder.hashlib.sha256(wheel.getvalue()).hexdigest()}
    (home / "wheels.json").write_text(json.dumps(sums))


def build(builder: ModuleType, checkout: Path, **other: Any) -> dict[str, Any]:
    options = {
        "checkout": str(checkout),
        "build_dir": str(checkout / "build"),
        "packages": ["thing"],
        "requirements": ["dependencies"],
        "launcher": "thing",
        "entry": "thing.cli:main",
        "interpreter": sys.executable,
        "python_version": "3.11",
        "machine": "x86_64",
    }
    result = builder.build(options | other)
    assert isinstance(result, dict)
    return result


@pytest.fixture
def ready(builder: ModuleType, checkout: Path) -> Path:
    cached_wheel(builder, checkout, {"dep.py": "NAME = 'well'\n", "dep-1.0.data/purelib/more.py": ""})
    return checkout


def test_name_is_version_and_content(builder: ModuleType, layout: ModuleType, ready: Path) -> None:
    result = build(builder, ready)
    assert result["name"] == f"1.2.3-{result['digest'][:12]}"
    assert layout.NAME.fullmatch(result["name"])
    assert sorted(result["files"]) == [
        "bin/thing",
        "lib/dep.py",
        "lib/more.py",
        "lib/thing/__init__.py",
        "lib/thing/cli.py",
    ]
    assert result["digest"] == shared("drift").content_digest(result["files"])


def test_same_content_gives_the_same_archive(builder: ModuleType, ready: Path) -> None:
    first = build(builder, ready)
    data = Path(first["archive"]).read_bytes()
    Path(first["archive"]).unlink()
    for path in ready.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o755)
    cached_wheel(builder, ready, {"dep.py": "NAME = 'well'\n", "dep-1.0.data/purelib/more.py": ""})
    second = build(builder, ready)
    assert (second["name"], Path(second["archive"]).read_bytes()) == (first["name"], data)


@pytest.mark.parametrize("path", ["thing/__pycache__/x.pyc", "thing/.hidden", "thing/cli.py~", "other/new.py", "x.py"])
def test_other_files_do_not_change_the_name(builder: ModuleType, ready: Path, path: str) -> None:
    before = build(builder, ready)["name"]
    (ready / path).parent.mkdir(exist_ok=True)
    (ready / path).write_text("x = 1\n")
    assert build(builder, ready)["name"] == before


def test_any_byte_of_package_or_dependency_changes_the_name(builder: ModuleType, ready: Path) -> None:
    names = [build(builder, ready)["name"]]
    (ready / "thing/data.txt").write_text("")
    names.append(build(builder, ready)["name"])
    (ready / "thing/data.txt").write_text("\n")
    names.append(build(builder, ready)["name"])
    cached_wheel(builder, ready, {"dep.py": "NAME = 'other'\n"})
    names.append(build(builder, ready)["name"])
    assert len(set(names)) == 4


def test_unpacked_release_runs_isolated(builder: ModuleType, ready: Path, tmp_path: Path) -> None:
    with tarfile.open(build(builder, ready)["archive"]) as archive:
        archive.extractall(tmp_path / "there")
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "there")
    environment = {"PYTHONPATH": str(ready), "PYTHONHOME": "/nonsense"}
    done = subprocess.run([link / "bin/thing"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "it runs well\n", "")


def test_damaged_wheel_cache_is_not_used(builder: ModuleType, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next(ready.glob("build/wheels/*/dep*.whl")).write_bytes(b"half a download")
    monkeypatch.setattr(
        builder.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", "no network")
    )
    with pytest.raises(builder.BuildError, match=r"no wheels for dep==1.0 .*no network"):
        build(builder, ready)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"packages": ["absent"]}, "is not a package"),
        ({"requirements": ["nope"]}, "no list of requirements named 'nope'"),
        ({"entry": "thing.gone:main"}, "no package has that module"),
    ],
)
def test_impossible_build_is_refused(builder: ModuleType, ready: Path, other: dict[str, Any], message: str) -> None:
    with pytest.raises(builder.BuildError, match=message):
        build(builder, ready, **other)


def test_wheel_with_a_path_outside_the_tree_is_refused(builder: ModuleType, ready: Path) -> None:
    cached_wheel(builder, ready, {"../../etc/evil.py": ""})
    with pytest.raises(builder.BuildError, match="leads out of it"):
        build(builder, ready)


@pytest.mark.parametrize(
    ("history", "name", "replaces", "after"),
    [
        ([], "a", "", ["a"]),
        (["a"], "b", "a", ["a", "b"]),
        (["a", "b"], "b", "b", ["a", "b"]),
        (["a", "b", "c"], "a", "", ["a", "b", "c"]),  # gone back to: what came before it still does
        (["a", "b", "c"], "d", "a", ["b", "c", "a", "d"]),  # deployed after going back: what it replaced comes before
        (["a", "b", "c"], "c", "a", ["b", "a", "c"]),
    ],
)
def test_history_order(record: ModuleType, history: list[str], name: str, replaces: str, after: list[str]) -> None:
    assert record.reorder(history, name, replaces) == after
