"""Whatever Ansible reaches a host by, everything works by it: no part makes a connection of its own."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab.deployment import ENGINE_ALONE, play
from tests.lab.labs import CHECKOUT, Lab

pytestmark = pytest.mark.lab

RULE = "/etc/sudoers.d/operator"
PASSWORD = "correct-horse-7"


@contextmanager
def changed(lab: Lab, *, setup: str, undo: str) -> Iterator[None]:
    lab.root("sh", "-c", setup)
    try:
        yield
    finally:
        lab.root("sh", "-c", undo)


@contextmanager
def texts_written() -> Iterator[list[str]]:
    """What was seen in files that appeared in the directory for temporary ones, as an interrupt would leave it."""
    texts: list[str] = []
    over, place = threading.Event(), Path(tempfile.gettempdir())
    before = set(place.iterdir())

    def watch() -> None:
        while not over.wait(0.02):
            for path in set(place.iterdir()) - before:
                with suppress(OSError, UnicodeDecodeError):
                    texts.extend([path.name, path.read_text()] if path.is_file() else [path.name])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield texts
    finally:
        over.set()
        watcher.join(5)


def works(lab: Lab, *words: str) -> str:
    """Deploy (which changes nothing here), verify, and begin the proofs' installation; what verify said."""
    assert play(lab, "deploy", ENGINE_ALONE, *words).changes == []
    assert play(lab, "prove", "--tags=install", *words, release_checkout=CHECKOUT).changes == []
    verified = play(lab, "verify", *words)
    assert " passed in " in verified.text
    return verified.text


def test_sudo_that_asks_for_a_password(installed: Lab) -> None:
    """It is written to no file, and shown nowhere."""
    setup = f"echo operator:{PASSWORD} | chpasswd; sed -i 's/NOPASSWD: //' {RULE}"
    undo = f"sed -i 's/) ALL/) NOPASSWD: ALL/' {RULE}; passwd -q -d operator"
    with changed(installed, setup=setup, undo=undo), texts_written() as texts:
        shown = works(installed, "-v", "-e", f"ansible_become_password={PASSWORD}")
    assert not [text for text in texts if PASSWORD in text]
    assert PASSWORD not in shown


def test_root_without_sudo(installed: Lab) -> None:
    allow = "/etc/ssh/sshd_config.d/00-root.conf"
    setup = (
        f"mkdir -p -m 0700 /root/.ssh; cp ~operator/.ssh/authorized_keys /root/.ssh; mv /usr/bin/sudo /usr/bin/sudo.off"
        f"; echo 'PermitRootLogin prohibit-password' > {allow}"
    )
    undo = f"mv /usr/bin/sudo.off /usr/bin/sudo; rm -r /root/.ssh {allow}"
    with changed(installed, setup=setup, undo=undo):
        works(installed, "-e", "ansible_user=root ansible_become=false")


def test_sudo_that_wants_a_terminal(installed: Lab) -> None:
    rule = "/etc/sudoers.d/tty"
    with changed(installed, setup=f"echo 'Defaults requiretty' > {rule}", undo=f"rm {rule}"):
        works(installed, "-e", "ansible_pipelining=false")


def test_login_shell_that_prints(installed: Lab, tmp_path: Path) -> None:
    """Debian's own .bashrc is silent without a terminal; others are not. A proof is followed to its end."""
    home, words = "~operator/.bashrc", """echo 'welcome {"to": 1}'; echo key=value"""
    setup = f"touch {home}; cp -p {home} /root/kept; cat > {home} <<'END'\n{words}\nEND\n"
    with changed(installed, setup=setup, undo=f"mv /root/kept {home}"):
        works(installed)
        variables = {"proof_names": "exit12", "proof_evidence": tmp_path, "release_checkout": CHECKOUT}
        proved = installed.ansible("prove.yml", *(f"--extra-vars={name}={value}" for name, value in variables.items()))
    assert "exit12" in proved.stdout
    assert list(tmp_path.glob("*/*/BUGLOG.md"))
