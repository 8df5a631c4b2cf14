"""What comes from a host is written whole into a fresh directory or not at all, and nothing is written elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.evidence import folder as evidence_folder
from proofs.evidence.folder import FolderError
from proofs.evidence.host_input import HostInputError

RUN = "20260102T030405Z-0a1b"
BLOB = f"blobs/{'0' * 64}"


def write(root: Path, name: str = "events.jsonl", host: str = "nuc1", run: str = RUN) -> None:
    with evidence_folder.fresh_folder(root, host, run) as folder:
        folder.write(name, iter([b"a", b"b"]))


def paths(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_run_appears_whole(tmp_path: Path) -> None:
    root = tmp_path / "new" / "evidence"
    with evidence_folder.fresh_folder(root, "nuc1", RUN) as folder:
        folder.write("events.jsonl", iter([b"a", b"b"]))
        folder.write(BLOB, iter([b"c"]))
        assert not (root / "nuc1" / RUN).exists()
    home = root / "nuc1" / RUN
    assert ((home / "events.jsonl").read_bytes(), (home / BLOB).read_bytes()) == (b"ab", b"c")
    assert os.listdir(home.parent) == [RUN]


def test_nothing_stays_of_what_broke(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"c"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), evidence_folder.fresh_folder(tmp_path, "nuc1", RUN) as folder:
        folder.write(BLOB, parts())
    assert paths(tmp_path) == ["nuc1"]


def test_what_exists_is_named_and_stays(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "nuc1" / RUN / "events.jsonl").write_text("first")
    for refuse in (write, lambda root: evidence_folder.refuse_existing(root, "nuc1", RUN)):
        with pytest.raises(FolderError, match=f"nuc1/{RUN} exists already"):
            refuse(tmp_path)
    assert (tmp_path / "nuc1" / RUN / "events.jsonl").read_text() == "first"
    assert paths(tmp_path) == ["nuc1", f"nuc1/{RUN}", f"nuc1/{RUN}/events.jsonl"]


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_no_link_is_followed(tmp_path: Path, target: str) -> None:
    root, elsewhere = tmp_path / "evidence", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "nuc1").symlink_to(tmp_path / target)
    with pytest.raises(FolderError, match="link"):
        write(root)
    with pytest.raises(FolderError, match="is a link"):
        evidence_folder.refuse_existing(root, "nuc1", RUN)
    with pytest.raises(FolderError, match="link"):
        evidence_folder.write_new_file(root, "nuc1", "x.txt", b"x")
    (root / "nuc2").mkdir()
    (root / "nuc2" / RUN).symlink_to(elsewhere)
    (root / "nuc2" / "x.txt").symlink_to(elsewhere / "x.txt")
    with pytest.raises(FolderError, match="exists already"):
        write(root, host="nuc2")
    with pytest.raises(FolderError, match="exists already"):
        evidence_folder.write_new_file(root, "nuc2", "x.txt", b"x")
    assert list(elsewhere.iterdir()) == []


@given(name=st.text() | st.sampled_from(["../x", "/tmp/x", "blobs/../../x", "blobs/", "x/y", ".", "..", "blobs/.."]))
def test_no_name_leads_out(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("top")
    root = top / "evidence"
    for attempt in (
        lambda: write(root, name),
        lambda: write(root, host=name),
        lambda: write(root, run=name),
        lambda: evidence_folder.write_new_file(root, "nuc1", name, b"x"),
        lambda: evidence_folder.write_new_file(root, name, "x.txt", b"x"),
    ):
        try:
            attempt()
        except (FolderError, HostInputError, OSError, ValueError):
            pass
    assert [path for path in paths(top) if path.split("/")[0] != "evidence"] == []
    nuc1 = root / "nuc1"
    assert {path.name for path in nuc1.iterdir()} <= {RUN, name, "x.txt"}
    assert not any(path.is_dir() for path in nuc1.iterdir() if path.name != RUN)


def test_a_name_leads_into_no_other_folder(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(FolderError, match="no name of a file"):
        evidence_folder.write_new_file(tmp_path, "nuc1", f"{RUN}/x", b"x")
    with evidence_folder.fresh_folder(tmp_path, "nuc2", RUN) as folder:
        for name in ("../x", f"../../nuc1/{RUN}/x", "blobs/", ".."):
            with pytest.raises(FolderError, match="no place for a file"):
                folder.write(name, iter([b"x"]))
    assert paths(tmp_path) == ["nuc1", f"nuc1/{RUN}", f"nuc1/{RUN}/events.jsonl", "nuc2", f"nuc2/{RUN}"]


def test_a_second_file_of_a_name_is_refused(tmp_path: Path) -> None:
    with evidence_folder.fresh_folder(tmp_path, "nuc1", RUN) as folder:
        folder.write("events.jsonl", iter([b"a"]))
        with pytest.raises(FileExistsError):
            folder.write("events.jsonl", iter([b"b"]))
    assert (tmp_path / "nuc1" / RUN / "events.jsonl").read_bytes() == b"a"


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = evidence_folder.write_new_file(tmp_path, "nuc1", "x.txt", b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FolderError, match="exists already"):
        evidence_folder.write_new_file(tmp_path, "nuc1", "x.txt", b"y")
    assert path.read_bytes() == b"x"
