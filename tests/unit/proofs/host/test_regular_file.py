"""What stands in the place of a file is not opened: by the proofs, the drift program and the flight recorder alike."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proofs.errors import ProofError
from proofs.host import regular_file
from proofs.host.regular_file import IrregularFile, read_regular
from roles.flight_recorder.files import health_snapshot
from tests.unit.plugins.loading import shared

PROGRAMS: list[Any] = [regular_file, shared("drift"), health_snapshot]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.with_name("target").write_text("not to be read")
    path.symlink_to(path.with_name("target"))


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("to-be-made"))


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 7))  # /dev/full
    except PermissionError:
        pytest.skip("only root makes a device, and not everywhere")


PLANTED: list[tuple[Callable[[Path], object], str]] = [
    (link, "a link"),
    (dangling, "a link"),
    (fifo, "a FIFO"),
    (Path.mkdir, "a directory"),
    (bound_socket, "a socket"),
    (device, "a device"),
]


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.__name__.rpartition(".")[2])
def program(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(("plant", "kind"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_APPEND | os.O_CREAT])
def test_other_kinds_are_refused_at_once(
    program: Any, tmp_path: Path, plant: Callable[[Path], object], kind: str, flags: int
) -> None:
    path = tmp_path / "hybrid.db"
    plant(path)
    with pytest.raises(OSError, match=f"is {kind} where a file belongs, and was not opened") as error:
        program.open_regular(str(path), flags)
    assert str(path) in str(error.value)
    assert not (tmp_path / "to-be-made").exists()


def test_file_is_opened_and_made(program: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        program.open_regular(str(path))
    with pytest.raises(FileNotFoundError):
        program.open_regular(str(tmp_path / "no" / "file"), os.O_WRONLY | os.O_CREAT)
    for text in (b"one", b"two"):
        handle = program.open_regular(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
        os.write(handle, text)
        os.close(handle)
    handle = program.open_regular(str(path))
    assert os.read(handle, 99) == b"onetwo"
    assert not os.get_inheritable(handle)
    os.close(handle)
    assert path.stat().st_mode & 0o777 == 0o640


def test_file_of_a_third_user_is_refused(program: Any, tmp_path: Path) -> None:
    """A hard link to a file of somebody else: it has that one's owner, or a second name."""
    path, me = tmp_path / "file", os.geteuid()
    path.touch()
    status, another = path.lstat(), me + 1001
    assert program.irregular(status, another) == ""
    assert program.irregular(status, 0) == ""
    third = os.stat_result((status.st_mode, 1, 1, 1, another + 1, 0, 0, 0, 0, 0))
    assert program.irregular(third, another) == f"belongs to the user {another + 1} in a directory of {another}"
    os.link(path, tmp_path / "second")
    assert program.irregular(path.lstat(), another) == f"has 2 names in a directory of {another}"
    assert program.irregular(path.lstat(), me) == ""


def test_path_is_never_exchanged_after_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is what is opened, whatever stands there by then."""
    path, secret = tmp_path / "file", tmp_path / "secret"
    path.write_text("mine")
    secret.write_text("not mine")
    look = regular_file.irregular

    def exchange(status: os.stat_result, owner: int) -> str:
        path.unlink()
        path.symlink_to(secret)
        return look(status, owner)

    monkeypatch.setattr(regular_file, "irregular", exchange)
    assert read_regular(path) == b"mine"


def test_refusal_is_one_line_of_the_proofs(tmp_path: Path) -> None:
    link(tmp_path / "file")
    with pytest.raises(IrregularFile) as error:
        read_regular(tmp_path / "file")
    assert isinstance(error.value, ProofError)
    assert len(str(error.value).splitlines()) == 1
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(IrregularFile, match="more than 10 bytes"):
        read_regular(tmp_path / "large", 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can open files as another user")
def test_library_opens_as_the_owner_in_one_thread_alone(tmp_path: Path) -> None:
    folder, secret = tmp_path / "state", tmp_path / "secret"
    folder.mkdir()
    secret.write_text("of root")
    secret.chmod(0o600)
    os.chown(folder, 54321, 54321)
    at = os.open(folder, os.O_PATH)  # for the directories above are root's alone
    made = Path(f"/proc/self/fd/{at}/made")
    with ThreadPoolExecutor(1) as other:
        other.submit(os.getpid).result()  # a thread that is begun later would have its beginner's user
        with regular_file.as_owner_of(folder):
            made.touch()
            with pytest.raises(PermissionError):
                secret.read_text()
            assert other.submit(secret.read_text).result() == "of root"
    os.close(at)
    assert secret.read_text() == "of root"
    assert (folder / "made").stat().st_uid == 54321
    with regular_file.as_owner_of(tmp_path):
        assert secret.read_text() == "of root", "root's own directory"


def test_directory_of_any_depth_is_removed(tmp_path: Path) -> None:
    """An engine may nest more directories than shutil.rmtree() goes down, and so hold up the undo."""
    handle = os.open(tmp_path, os.O_RDONLY)
    for name in ["tree", *["x"] * 3000]:
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.symlink(tmp_path / "kept", "link", dir_fd=handle)
    os.close(handle)
    (tmp_path / "kept").mkdir()
    regular_file.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == ["kept"]
