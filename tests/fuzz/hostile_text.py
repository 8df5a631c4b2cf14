"""The property of tests/property/test_hostile_text.py with many more texts, outside CI:

python -m tests.fuzz.hostile_text 20000
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.support import proof_run
from tests.support.hostile import TEXTS, check_pages, check_terminal


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        directory = proof_run.record(Path(folder))
        proof_run.enlist(patch)

        @settings(max_examples=int(sys.argv[1]), deadline=None)
        @given(TEXTS)
        def check(text: str) -> None:
            check_pages(directory, text)
            check_terminal(directory, text)

        check()


if __name__ == "__main__":
    main()
