"""A release is named by its content: the same sources give the same name, whoever builds it, when and where."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.unit.plugins.loading import module, shared

ROOT = Path(__file__).parents[3]
release_wheels: Any = shared("release_wheels")
drift: Any = shared("drift")
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
GLIBC = (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
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


WHEEL = "dep-1.0-py3-none-any.whl"


def wheel_of(files: dict[str, str]) -> bytes:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return wheel.getvalue()


def lock(checkout: Path, sha: str) -> None:
    path = checkout / "requirements/dependencies.lock"
    path.parent.mkdir(exist_ok=True)
    path.write_text(release_wheels.lock_text({"dep==1.0": {WHEEL: sha}}))


def cache_name(text: str) -> str:
    """Where the builder looks for the wheels of a lock."""
    return f"py3.11-x86_64-{hashlib.sha256(f'{text}3.11x86_64'.encode()).hexdigest()[:12]}"


def cached_wheel(builder: ModuleType, checkout: Path, files: dict[str, str]) -> Path:
    """Lock a wheel of `dep`, and put it where the builder caches wheels, so that nothing is fetched."""
    wheel = wheel_of(files)
    lock(checkout, builder.hashlib.sha256(wheel).hexdigest())
    text = (checkout / "requirements/dependencies.lock").read_text()
    home = checkout / "build/wheels" / cache_name(text)
    home.mkdir(parents=True, exist_ok=True)
    (home / WHEEL).write_bytes(wheel)
    return home / WHEEL


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


@pytest.mark.parametrize(
    ("other", "unmet"),
    [
        ({"python_version": "3.9"}, f"python 3.9 and this host has {VERSION}"),
        ({"machine": "s390x"}, f"machine s390x and this host has {os.uname().machine}"),
        ({"glibc": "99.1"}, f"glibc 99.1 and this host has {GLIBC}"),
    ],
)
def test_release_of_another_host_says_so_in_one_line(
    builder: ModuleType,
    checkout: Path,
    tmp_path: Path,
    other: dict[str, str],
    unmet: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And so does drift.unmet_needs, which asks the interpreter that the release names."""
    (checkout / "pyproject.toml").write_text(PROJECT.replace('"dep==1.0"', ""))
    options = {"python_version": VERSION, "machine": os.uname().machine, **other}
    glibc = options.pop("glibc", "")
    monkeypatch.setattr(builder.release_wheels, "glibc_of", lambda wheels: glibc)
    with tarfile.open(build(builder, checkout, **options)["archive"]) as archive:
        archive.extractall(tmp_path / "there")
    done = subprocess.run([tmp_path / "there/bin/thing"], capture_output=True, text=True, check=False)
    line = f"{tmp_path}/there/bin/thing: this release needs {unmet}: deploy again, which brings one that fits\n"
    assert (done.returncode, done.stdout, done.stderr) == (12, "", line)
    assert drift.unmet_needs(str(tmp_path / "there")) == f"the release needs {unmet}"


def test_release_of_this_host_has_no_unmet_needs(builder: ModuleType, ready: Path, tmp_path: Path) -> None:
    with tarfile.open(build(builder, ready, python_version=VERSION, machine=os.uname().machine)["archive"]) as archive:
        archive.extractall(tmp_path)
    assert drift.unmet_needs(str(tmp_path)) == ""
    (tmp_path / "release.json").write_text('{"python": "3.9", "files": {}}')  # of before the others were recorded
    assert drift.unmet_needs(str(tmp_path)) == f"the release needs python 3.9 and this host has {VERSION}"
    (tmp_path / "release.json").write_text('{"interpreter": "/usr/bin/absent"}')
    assert drift.unmet_needs(str(tmp_path)) == "the release needs /usr/bin/absent, which does not run on this host"


@pytest.mark.parametrize(
    ("wheels", "glibc"),
    [
        ([], ""),
        (["a-1-py3-none-any.whl", "b-1-cp311-cp311-linux_x86_64.whl"], ""),
        (["b-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl"], "2.17"),
        (["b-1-cp311-cp311-manylinux_2_9_x86_64.whl", "c-1-cp311-cp311-manylinux_2_28_x86_64.whl"], "2.28"),
    ],
)
def test_glibc_of_wheels(wheels: list[str], glibc: str) -> None:
    assert release_wheels.glibc_of(wheels) == glibc


def test_going_back_skips_a_release_that_cannot_run(record: ModuleType, tmp_path: Path) -> None:
    names = ["1.0-aaaaaaaaaaaa", "1.0-bbbbbbbbbbbb", "1.0-cccccccccccc"]
    for name, python in zip(names, (VERSION, "3.9", VERSION), strict=True):
        home = tmp_path / "releases" / name
        home.mkdir(parents=True)
        (home / "release.json").write_text(json.dumps({"interpreter": sys.executable, "python": python}))
    record_of = {"history": names, "void": []}
    warnings: list[str] = []

    def go_back(name: str, live: str) -> str:
        return str(record.resolve({"root": str(tmp_path), "name": name}, record_of, live, warnings.append))

    with pytest.raises(ValueError, match=f"release {names[0]} is not what it was built as"):  # it was found
        go_back("previous", names[2])
    assert warnings == [f"Release {names[1]} is skipped: the release needs python 3.9 and this host has {VERSION}."]
    with pytest.raises(ValueError, match=f"release {names[1]} cannot run on this host: .* python 3.9"):
        go_back(names[1], names[2])
    (tmp_path / "releases" / names[0] / "release.json").write_text('{"python": "3.8"}')
    with pytest.raises(ValueError, match=r"no release that was live before .* can run on this host: .*3\.8.*; .*3\.9"):
        go_back("previous", names[2])


def test_cached_wheel_with_a_byte_more_is_refused(builder: ModuleType, checkout: Path) -> None:
    wheel = cached_wheel(builder, checkout, {"dep.py": ""})
    expected = builder.hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheel.write_bytes(wheel.read_bytes() + b"x")
    actual = builder.hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(builder.WheelError) as error:
        build(builder, checkout)
    assert str(error.value).startswith(f"{wheel} is refused: expected sha256 {expected}, actual {actual}")
    assert "\n" not in str(error.value)


def test_cached_wheel_that_no_lock_has_is_refused(builder: ModuleType, ready: Path) -> None:
    (next(ready.glob("build/wheels/*")) / "evil-1.0-py3-none-any.whl").write_bytes(wheel_of({"evil.py": ""}))
    with pytest.raises(builder.WheelError, match=r"evil-1.0-py3-none-any.whl is refused: .*dependencies.lock does not"):
        build(builder, ready)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip looks for wheels, instead of a package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    metadata = "Metadata-Version: 2.1\nName: dep\nVersion: 1.0\n"
    files = {"dep.py": "", "dep-1.0.dist-info/METADATA": metadata, "dep-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\n"}
    wheel = tmp_path / "index" / WHEEL
    wheel.write_bytes(wheel_of({**files, "dep-1.0.dist-info/RECORD": ""}))
    return wheel


def test_fetched_wheel_with_a_byte_more_is_refused(builder: ModuleType, checkout: Path, index: Path) -> None:
    """pip itself compares (--require-hashes); what it says in ten lines is one here."""
    expected = builder.hashlib.sha256(index.read_bytes()).hexdigest()
    lock(checkout, expected)
    assert "lib/dep.py" in build(builder, checkout)["files"]
    shutil.rmtree(checkout / "build")
    index.write_bytes(index.read_bytes() + b"x")
    actual = builder.hashlib.sha256(index.read_bytes()).hexdigest()
    with pytest.raises(builder.WheelError) as error:
        build(builder, checkout)
    assert str(error.value).startswith(f"{WHEEL} is refused: expected sha256 {expected}, actual {actual} (Python 3.11")
    assert "\n" not in str(error.value)
    assert list((checkout / "build/wheels").glob("py*")) == []


def test_wheel_that_another_needs_has_to_be_locked(builder: ModuleType, checkout: Path, index: Path) -> None:
    """Else pip would take whatever the index has of it."""
    metadata = "Metadata-Version: 2.1\nName: dep\nVersion: 1.0\nRequires-Dist: more\n"
    files = {"dep-1.0.dist-info/METADATA": metadata, "dep-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\n"}
    index.write_bytes(wheel_of({**files, "dep-1.0.dist-info/RECORD": ""}))
    (index.parent / "more-1.0-py3-none-any.whl").write_bytes(
        wheel_of(
            {
                "more-1.0.dist-info/METADATA": metadata.replace("dep", "more").partition("Requires")[0],
                "more-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\n",
                "more-1.0.dist-info/RECORD": "",
            }
        )
    )
    lock(checkout, builder.hashlib.sha256(index.read_bytes()).hexdigest())
    with pytest.raises(builder.WheelError, match="all requirements must have their versions pinned"):
        build(builder, checkout)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"dep==1\.0", "dep==1.1", "does not have dep==1.0: run make lock"),
        (r"--hash=sha256:\w{60}", f"--hash=sha256:{'0' * 60}", "differ: run make lock"),
        ("# dep-1", "# gone-1", "is refused: .* does not have it"),
    ],
)
def test_edited_lock_is_refused(builder: ModuleType, ready: Path, old: str, new: str, message: str) -> None:
    path = ready / "requirements/dependencies.lock"
    text = re.sub(old, new, path.read_text())
    path.write_text(text)
    next(ready.glob("build/wheels/*")).rename(ready / "build/wheels" / cache_name(text))
    with pytest.raises(builder.WheelError, match=message):
        build(builder, ready)
    path.unlink()
    with pytest.raises(builder.WheelError, match="run make lock"):
        build(builder, ready)


@pytest.mark.parametrize("group", ["dependencies", "proofs"])
def test_lock_of_the_project_covers_every_target(group: str) -> None:
    """What `make lock` wrote is of the versions in pyproject.toml, and has a wheel for each Python and machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = project["dependencies"] if group == "dependencies" else project["optional-dependencies"][group]
    path = release_wheels.lock_file(ROOT, group)
    pins = release_wheels.read_lock(path)
    assert set(names) <= pins.keys()
    assert release_wheels.lock_text(pins) == path.read_text()
    for pin, wheels in pins.items():
        machines = release_wheels.MACHINES
        tags = {(name.split("-")[-3], machine) for name in wheels for machine in machines if machine in name}
        desired = set(itertools.product((f"cp{each.replace('.', '')}" for each in release_wheels.PYTHONS), machines))
        assert tags == desired or [name for name in wheels if name.endswith("-none-any.whl")], pin
    build_yml = yaml.safe_load((ROOT / "playbooks/build.yml").read_text())
    assert set(build_yml[0]["vars"]["build_pythons"]) <= set(release_wheels.PYTHONS)


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
