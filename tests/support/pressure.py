"""Recorded pressure files, which tests put in place of the kernel's and replace while an engine reads them."""

from __future__ import annotations

from pathlib import Path

# The pressure of a real host while it was short of CPU.
PRESSED = {
    "cpu": "some avg10=58.80 avg60=58.69 avg300=57.76 total=388428096311\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=13272146\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=7698486\n",
    "io": "some avg10=0.08 avg60=0.11 avg300=0.10 total=2020886254\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=432194792\n",
}
CALM = {**PRESSED, "cpu": PRESSED["cpu"].replace("avg10=58.80", "avg10=7.01")}


def put(folder: Path, texts: dict[str, str]) -> Path:
    """Write the files of a cgroup, each replaced atomically."""
    folder.mkdir(exist_ok=True)
    for kind, text in texts.items():
        draft = folder / f"{kind}.draft"
        draft.write_text(text)
        draft.rename(folder / f"{kind}.pressure")
    return folder
