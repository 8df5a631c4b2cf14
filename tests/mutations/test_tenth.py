"""A random tenth of the faults, by everything that may catch them: for hours, in `make test-long`."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.support import programs
from tests.support.process import ROOT


@pytest.mark.lab
@pytest.mark.long
def test_random_tenth_is_caught(tmp_path: Path) -> None:
    seed = os.environ.get("PROOF_SEED") or str(random.randrange(10**6))
    print(f"PROOF_SEED={seed} repeats this tenth")
    argv = [
        sys.executable,
        "-m",
        "tests.mutations",
        "--tenth",
        f"--seed={seed}",
        f"--results={tmp_path / 'tenth.jsonl'}",
    ]
    program = programs.start(argv, cwd=ROOT)
    try:
        assert program.wait() == 0, f"see the table above, and PROOF_SEED={seed}"
    finally:
        program.terminate()  # which takes its labs down; to be killed would leave them
        program.wait()
