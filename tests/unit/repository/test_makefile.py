"""What `make` fetches by itself, seen with a PATH of the test's own, and what its targets hand to Ansible."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")
# What the rule itself may use; everything else has to be found, or fetched.
TOOLS = ("bash", "sh", "grep", "sort", "sed", "cat", "touch", "chmod")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH without chromium, whose apt-get writes down how it is called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


def apt_get(bare: Path, install: str) -> None:
    """A pretended apt-get whose `install` does that."""
    log = bare.parent / "log"
    script = f'#!/bin/sh\necho "$DEBIAN_FRONTEND apt-get $*" >> {log}\ncase "$*" in *install*) {install};; esac\n'
    (bare / "apt-get").write_text(script)
    (bare / "apt-get").chmod(0o755)


def make_browser(bare: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(shutil.which("make")), "browser"]
    return subprocess.run(
        argv, cwd=ROOT, env={"PATH": str(bare)}, capture_output=True, text=True, check=False, timeout=60
    )


def test_installed_browser_is_kept(bare: Path) -> None:
    apt_get(bare, "true")
    (bare / "chromium").symlink_to(sys.executable)
    process = make_browser(bare)
    assert (process.returncode, process.stdout + process.stderr) == (0, "")
    assert not (bare.parent / "log").exists()


def test_missing_browser_is_installed(bare: Path) -> None:
    apt_get(bare, f"touch {bare}/chromium; chmod 755 {bare}/chromium; echo 'Setting up chromium'")
    process = make_browser(bare)
    assert (process.returncode, process.stdout) == (0, "installing chromium, to test the report in a browser\n"), (
        process.stderr
    )
    update, install = (bare.parent / "log").read_text().splitlines()
    assert "apt-get update" in update
    assert install == "noninteractive apt-get install -y -qq --no-install-recommends chromium"
    assert make_browser(bare).stdout == "", "once"


@pytest.mark.parametrize("why", ["exit 100", "true", None])
def test_browser_install_failure_names_the_remedy(bare: Path, why: str | None) -> None:
    """It fails, it does nothing, or it is not there at all (no Debian)."""
    if why:
        apt_get(bare, f"echo 'E: Unable to locate package chromium' >&2; {why}")
    process = make_browser(bare)
    assert process.returncode != 0
    complaints = [line for line in process.stderr.splitlines() if not line.startswith("make: *** ")]
    assert (
        complaints[-1]
        == "make: no chromium, and apt-get did not bring it: install it as root, the tests look at the report"
    )


HOST_TARGETS = re.findall(
    r"^([a-z]+): setup ## .*\n(?:ifeq.*\n)?\t@\$\((?:LAB_)?PLAY\)", (ROOT / "Makefile").read_text(), re.M
)


@pytest.mark.parametrize("target", HOST_TARGETS)
@pytest.mark.parametrize("inventory", ["inventory/yours", ""])
def test_target_of_a_host_hands_on_check_and_arguments(target: str, inventory: str) -> None:
    words = ["make", "--dry-run", target, f"INVENTORY={inventory}", "CHECK=1", "ARGS=-e some=value"]
    output = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    plays = [line for line in output.splitlines() if "ansible-playbook" in line and "lab_up.yml" not in line]
    assert plays
    for line in plays:
        assert "--check --diff -e some=value" in line
        assert (f"-i {inventory}" in line) == bool(inventory)


def test_all_targets_of_a_host_are_seen() -> None:
    assert {"deploy", "verify", "rollback", "uninstall", "diagnose", "prove", "soak"} <= set(HOST_TARGETS)
