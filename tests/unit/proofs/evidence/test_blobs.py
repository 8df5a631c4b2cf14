"""Reading a bundle's files: a small one takes little memory, however large it might have been."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from proofs.evidence import blobs


def test_small_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert blobs.slurp(path, largest=64 * 1024 * 1024) == b"x" * 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024
