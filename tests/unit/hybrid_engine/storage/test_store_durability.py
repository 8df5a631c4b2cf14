"""With `durability = "power"` each commit waits for the disk, shown by syncs that fail."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT, clean_environment

COMMITS = 5
# The numbers of fsync and fdatasync.
SYNCS = {"x86_64": (74, 75), "aarch64": (82, 83)}


def refuse_to_sync() -> None:
    """Make fsync and fdatasync of this process fail with EIO, by a seccomp filter."""
    fsync, fdatasync = SYNCS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06  # BPF: load the word at k; jump if it equals k; return k
    refused, allowed = 0x00050000 | errno.EIO, 0x7FFF0000
    program = [(load, 0, 0, 0), (equal, 1, 0, fsync), (equal, 0, 1, fdatasync)]
    program += [(answer, 0, 0, refused), (answer, 0, 0, allowed)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filters = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, first, second in ((38, 1, None), (22, 2, filters)):  # no new privileges; this filter
        if libc.prctl(option, ctypes.c_ulong(first), second, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def commit_without_a_disk(path: str, durability: str) -> None:
    """Open a database, make its syncs fail, commit and print the result; end without closing it."""
    from hybrid_engine.domain.accounting import AdmissionCounters, FeedState, StageCounters
    from hybrid_engine.runtime.errors import StorageError
    from hybrid_engine.storage.store import Store
    from tests.support.pipeline import INFO
    from tests.support.rows import chains

    store = Store(Path(path), durability)
    store.begin_run(INFO, 1000)
    refuse_to_sync()
    for number in range(1, COMMITS + 1):
        try:
            store.write(
                chains(number, 1, received_ms=11, exchange_ms=10), AdmissionCounters(), StageCounters(), FeedState(), ()
            )
            print("stored", flush=True)
        except StorageError as error:
            print(str(error).partition("(")[2], flush=True)
    os._exit(0)


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in SYNCS, reason="no filter of system calls is known here"
)
@pytest.mark.holds("S1")
@pytest.mark.parametrize(("durability", "message"), [("normal", "stored"), ("power", "SQLITE_IOERR_FSYNC)")])
def test_commit_waits_for_disk_only_with_power(tmp_path: Path, durability: str, message: str) -> None:
    db = tmp_path / "hybrid.db"
    run = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as t; t.commit_without_a_disk({str(db)!r}, {durability!r})"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout.splitlines()) == (0, [message] * COMMITS), run.stderr
