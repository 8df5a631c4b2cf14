"""Where the packages of a lab's root file system come from."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from tests.lab.labs import LAB_PY


@pytest.fixture
def rootfs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that builds root file systems."""
    monkeypatch.syspath_prepend(str(LAB_PY.parent))
    return importlib.import_module("lab_rootfs")


DEB822 = """\
# a comment
Types: deb deb-src
URIs: https://mirror.test/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main
# in between
Signed-By: /usr/share/keyrings/x.gpg
"""


@pytest.mark.parametrize(
    ("system", "files", "suite", "mirror"),
    [
        ("debian", {"sources.list": "deb http://a.test/debian bookworm main\n"}, "bookworm", "http://a.test/debian"),
        (
            "debian",
            {"sources.list": "deb [arch=amd64 x=y] http://a.test/d bookworm main\n"},
            "trixie",
            "http://a.test/d",
        ),
        ("debian", {"sources.list.d/d.sources": DEB822}, "trixie", "https://mirror.test/debian"),
        ("debian", {"sources.list.d/d.sources": DEB822 + "Enabled: no\n"}, "bookworm", ""),
        ("debian", {"sources.list": "# deb http://a.test/debian bookworm main\n"}, "bookworm", ""),
        ("debian", {"sources.list": "deb http://sec.test/debian bookworm-security main\n"}, "bookworm", ""),
        ("debian", {"sources.list": "deb http://tool.test/apt bookworm stable\n"}, "bookworm", ""),
        ("debian", {"sources.list": "deb cdrom:[Debian]/ bookworm main\n"}, "bookworm", ""),
        ("ubuntu", {"sources.list": "deb http://u.test/ubuntu noble main\n"}, "bookworm", ""),
        ("debian", {}, "bookworm", ""),
    ],
)
def test_mirror_comes_from_apt_sources(
    rootfs: ModuleType, tmp_path: Path, system: str, files: dict[str, str], suite: str, mirror: str
) -> None:
    codename = "bookworm" if system == "debian" else "noble"
    (tmp_path / "os-release").write_text(f'ID={system}\nVERSION_CODENAME="{codename}"\n')
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    for path, text in files.items():
        (tmp_path / "apt" / path).write_text(text)
    assert rootfs.machine_mirror(suite, tmp_path) == mirror
