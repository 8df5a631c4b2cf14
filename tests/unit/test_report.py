"""The report as a browser shows it: the marks are there, and are painted in the light and in the dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import pytest

from proofs import report
from tests.support.proof_run import record

CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip
# --fault of the page's two colour schemes, red green blue
FAULT = {"light": (0xC6, 0x30, 0x2B), "dark": (0xFF, 0x6B, 0x64)}
PAPER = {"light": (0xFF, 0xFF, 0xFF), "dark": (0x12, 0x16, 0x1C)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("chromium"), "no chromium: `make browser` as root installs it"
    return report.write(record(tmp_path_factory.mktemp("run")))


def browse(page: Path, tmp_path: Path, *flags: str) -> str:
    command = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_every_proof_and_case_has_its_marks(page: Path, tmp_path: Path) -> None:
    dom = browse(page, tmp_path, "--dump-dom")
    for name in ("toy", "toy2"):
        assert f'<tr data-proof="{name}">' in dom
        for case in ("first", "second"):
            assert f'id="{name}-{case}-fault"' in dom
            assert f'id="{name}-{case}-measured-0"' in dom
            assert f'id="{name}-{case}-bound-0"' in dom
    assert "FAIL, as it must" in dom
    names = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page.read_text())
    assert "http" not in names, "the page loads something"


@pytest.mark.parametrize(("scheme", "setting"), [("light", 1), ("dark", 0)])
def test_the_fault_is_painted_on_a_phone(page: Path, tmp_path: Path, scheme: str, setting: int) -> None:
    picture = tmp_path / "page.png"
    browse(page, tmp_path, f"--blink-settings=preferredColorScheme={setting}", "--window-size=390,1600",
           f"--screenshot={picture}")  # fmt: skip
    pixels = matplotlib.image.imread(picture)[:, :, :3]
    colours = {tuple(round(float(part) * 255) for part in pixel) for row in pixels for pixel in row}
    assert PAPER[scheme] in colours
    assert FAULT[scheme] in colours
