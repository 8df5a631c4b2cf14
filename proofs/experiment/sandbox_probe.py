"""Probe what the unit's sandbox permits; prints one JSON line.

A proof puts this file into a unit's sandbox and runs it there before the unit's own program; root runs the same file
outside as the control. So it uses the standard library alone, and an attempt that succeeds changes nothing: files are
opened for writing and closed again, the module to load is no module.

    python3 attempts.py NAME[=ARGUMENT] ...
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

MARK = "proof_probe: "
_NEW_USER = 0x10000000  # CLONE_NEWUSER
_SEIZE = 0x4206  # PTRACE_SEIZE
_SET_DUMPABLE = 4  # PR_SET_DUMPABLE
_INIT_MODULE = {"x86_64": 175, "aarch64": 105}  # the system call's number
STATUS = ("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp", "Seccomp_filters")


class Refused(Exception):
    """The attempt failed; the message says how."""


def write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def see(pid: str) -> None:
    Path(f"/proc/{pid}/cmdline").read_bytes()


def open_socket(family: str, kind: str, protocol: int = 0) -> None:
    socket.socket(getattr(socket, family), getattr(socket, kind), protocol).close()


def _of_child(try_it: Callable[[], str]) -> str:
    """What a child returned; the name of the signal that ended it, where one did."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, try_it().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as output:
        reason = output.read()
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else reason


def gain_capability(_: str) -> None:
    """A user namespace makes whoever may create one root in it, with every capability there is to hold."""

    def unshare() -> str:
        if _libc().unshare(_NEW_USER) != 0:
            return errno.errorcode[ctypes.get_errno()]
        return "" if int(status()["CapEff"], 16) else "no capability in the new namespace"

    if reason := _of_child(unshare):
        raise Refused(reason)


def load_module(_: str) -> None:
    """Four bytes that are no module: who may load one is told so (or that nobody signed it), everybody else EPERM."""
    number = _INIT_MODULE.get(platform.machine())
    if number is None:
        raise Refused(f"the number of init_module on {platform.machine()} is not known here")
    _libc().syscall(number, b"none", 4, b"")
    if ctypes.get_errno() not in (errno.ENOEXEC, errno.EKEYREJECTED):
        raise Refused(errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno())))


def mount(_: str) -> None:
    """A file system that no kernel knows: who may mount is told so, everybody else EPERM."""
    _libc().mount(b"none", b"/", b"no-such-type", 0, None)
    if ctypes.get_errno() != errno.ENODEV:
        raise Refused(errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno())))


def trace(_: str) -> None:
    """A child of its own, which anybody may trace whom no filter forbids it."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        if _libc().ptrace(_SEIZE, child, None, None) != 0:
            raise Refused(errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno())))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def privileged_port(_: str) -> None:
    """The first that nobody else has; it listens to nothing."""
    for port in range(1, 20):
        with socket.socket() as own:
            try:
                return own.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    raise Refused("all are in use")


def set_user_id(_: str) -> None:
    """Of a file in memory."""
    own = os.memfd_create("probe")
    try:
        os.fchmod(own, 0o4700)
    finally:
        os.close(own)


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(path)


def _peers(place: str, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """A listener on a loopback address, or an abstract one (@) of its own, and a socket not connected to it yet."""
    family = socket.AF_UNIX if place[0] == "@" else socket.AF_INET6 if ":" in place else socket.AF_INET
    listener = socket.socket(family, kind)
    listener.settimeout(1)
    listener.bind(f"\0{place}-{os.getpid()}" if family == socket.AF_UNIX else (place, 0))
    return listener, socket.socket(family, kind)


def datagram(place: str) -> None:
    """One that arrives, from a socket that is not connected."""
    listener, sender = _peers(place, socket.SOCK_DGRAM)
    with listener, sender:
        sender.sendto(b"probe", listener.getsockname())
        listener.recv(8)


def stream(place: str) -> None:
    """A connection that is accepted."""
    listener, sender = _peers(place, socket.SOCK_STREAM)
    with listener, sender:
        listener.listen(1)
        sender.connect(listener.getsockname())
        listener.accept()[0].close()


def writable_code(_: str) -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


ATTEMPTS: dict[str, Callable[[str], None]] = {
    "write": write,
    "see": see,
    "inet-socket": lambda _: open_socket("AF_INET", "SOCK_STREAM"),
    "raw-socket": lambda _: open_socket("AF_INET", "SOCK_RAW", socket.IPPROTO_ICMP),
    "packet-socket": lambda _: open_socket("AF_PACKET", "SOCK_RAW"),
    "netlink-socket": lambda _: open_socket("AF_NETLINK", "SOCK_RAW"),
    "gain-capability": gain_capability,
    "load-module": load_module,
    "writable-code": writable_code,
    "list": lambda path: (os.listdir(path), None)[1],
    "mount": mount,
    "trace": trace,
    "signal": lambda pid: os.kill(int(pid), 0),
    "privileged-port": privileged_port,
    "set-user-id": set_user_id,
    "host-name": lambda _: socket.sethostname(socket.gethostname()),
    "connect": connect,
    "datagram": datagram,
    "stream": stream,
    "sync": lambda _: os.fdatasync(os.memfd_create("probe")),
}
# Made by a child without a core: a filter of system calls may kill whoever makes them.
_BY_CHILD = ("connect", "datagram", "stream", "netlink-socket")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def status(pid: int | str = "self") -> dict[str, str]:
    """What /proc/PID/status says of how a process is confined; empty when there is none."""
    return status_of(_read(f"/proc/{pid}/status"))


def status_of(text: str) -> dict[str, str]:
    """The same by the text of that file."""
    return {key: " ".join(value.split()) for key, value in re.findall(r"^(\w+):\s*(.*)$", text, re.M) if key in STATUS}


def interfaces(pid: int | str = "self") -> list[str]:
    """Names of the network interfaces that a process has; empty when there is none (or no such process)."""
    lines = _read(f"/proc/{pid}/net/dev").splitlines()
    return [line.partition(":")[0].strip() for line in lines if ":" in line]


def writable() -> list[str]:
    """Mounts at whose root this process can write."""
    places = {line.split()[4] for line in _read("/proc/self/mountinfo").splitlines()}
    return sorted(place for place in places if Path(place).is_dir() and os.access(place, os.W_OK))


def netns() -> str:
    """The network namespace of this process."""
    return str(Path("/proc/self/ns/net").readlink())


def attempt(words: str) -> str:
    """The result of one attempt: "" when it succeeded, else what prevented it."""
    name, _, argument = words.partition("=")

    def try_it() -> str:
        try:
            ATTEMPTS[name](argument)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        except Refused as refusal:
            return str(refusal)
        return ""

    def without_core() -> str:
        _libc().prctl(_SET_DUMPABLE, 0, 0, 0, 0)
        return try_it()

    return _of_child(without_core) if name in _BY_CHILD else try_it()


def main(words: list[str]) -> None:
    output = {
        "status": status(),
        "interfaces": interfaces(),
        "netns": netns(),
        "writable": writable(),
        "refused": {word: attempt(word) for word in words},
    }
    print(MARK + json.dumps(output), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
