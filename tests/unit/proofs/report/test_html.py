"""report.html in a browser: every case has its chart, with the fault visible in the light and the dark colours."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import pytest

from proofs.report import chart, html
from tests.support.proof_run import record

CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
# --fault of the page's two colour schemes, red green blue
FAULT = {"light": (0xC6, 0x30, 0x2B), "dark": (0xFF, 0x6B, 0x64)}
PAPER = {"light": (0xFF, 0xFF, 0xFF), "dark": (0x12, 0x16, 0x1C)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert shutil.which("chromium"), "no chromium: `make browser` as root installs it"
    return html.write(record(tmp_path_factory.mktemp("run")))


def browse(page: Path, tmp_path: Path, *flags: str) -> str:
    command = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_every_case_has_its_chart(page: Path, tmp_path: Path) -> None:
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
def test_fault_is_visible_on_a_phone(page: Path, tmp_path: Path, scheme: str, setting: int) -> None:
    picture = tmp_path / "page.png"
    browse(
        page,
        tmp_path,
        f"--blink-settings=preferredColorScheme={setting}",
        "--window-size=390,1600",
        f"--screenshot={picture}",
    )
    pixels = matplotlib.image.imread(picture)[:, :, :3]
    colours = {tuple(round(float(part) * 255) for part in pixel) for row in pixels for pixel in row}
    assert PAPER[scheme] in colours
    assert FAULT[scheme] in colours


TIMELINE = {
    "began_ms": 10_000,
    "ended_ms": 20_000,
    "bucket_ms": 250,
    "ticks": [[0, 5], [250, 5], [1750, 4], [7000, 3], [7250, 5]],
    "marks": [
        {"ms": 11_990, "by": "engine", "what": "connected primary"},
        {"ms": 12_010, "by": "engine", "what": "heartbeat"},
        {"ms": 14_000, "by": "systemd", "what": "watchdog timeout"},
        {"ms": 14_100, "by": "systemd", "what": "main process exited"},
        {"ms": 16_500, "by": "systemd", "what": "started"},
    ],
}
SPANS = [{"name": "seen", "measured": 2.0, "bound": 4.0}, {"name": "first new tick", "measured": 0.5, "bound": 2.0}]


def test_chart_marks_fault_detection_restart_and_recovery() -> None:
    case = chart.of_case("x", TIMELINE, 12_000, SPANS)
    assert case.roles == {"detection": 2.0, "restart": 4.5, "recovery": 5.0}
    marks = [(mark["number"], round(mark["at_s"], 2), mark["what"]) for mark in case.numbered]
    assert marks == [
        (1, -0.01, "engine: connected primary"),
        (2, 0.01, "engine: heartbeat"),
        (3, 2.0, "systemd: watchdog timeout (detection), systemd: main process exited"),
        (4, 4.5, "systemd: started (restart)"),
    ]
    svg = chart.draw(case)
    for what in (
        "fault",
        "detection",
        "restart",
        "recovery",
        "mark-0",
        "mark-3",
        "bound-0",
        "measured-0",
        "measured-1",
    ):
        assert f'id="x-{what}"' in svg
    # Each bar starts where its time is measured from: that of the new tick at the restart.
    lines = {
        name: re.search(rf'id="x-{name}">\s*<path d="M ([\d.]+) ', svg) for name in ("bound-0", "bound-1", "restart")
    }
    begins = {name: float(found[1]) for name, found in lines.items() if found}
    assert begins["bound-1"] == pytest.approx(begins["restart"], abs=0.1)
    assert begins["bound-0"] < begins["bound-1"]


def test_name_of_a_check_is_no_formula() -> None:
    spans = [{"name": "$x^{$ <b>", "measured": None, "bound": 4.0}]
    assert "$x^{$ &lt;b&gt;: never, bound 4 s" in chart.draw(chart.of_case("x", TIMELINE, 12_000, spans))


def test_page_fits_a_phone(page: Path, tmp_path: Path) -> None:
    measured = tmp_path / "measured.html"
    script = "<script>document.body.dataset.wide = document.documentElement.scrollWidth</script></body>"
    measured.write_text(page.read_text().replace("</body>", script))
    wide = re.search(r'data-wide="(\d+)"', browse(measured, tmp_path, "--dump-dom", "--window-size=390,1600"))
    assert wide
    assert int(wide[1]) <= 500  # headless Chromium lays out no narrower than this
    assert 'data-label="measured"' in page.read_text()
