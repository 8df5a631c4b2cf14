"""Signs a statement and checks its signature with `ssh-keygen -Y`: the operator's key, in a namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.atomic_file import write_atomically

NAMESPACE = "hybrid-engine-proofs"  # live_gate requires it: a signature for another purpose does not count
SIGNATURE = "statement.sig"
_SECONDS = 20
_LARGEST = 1 << 16


class NoTool(ProofError):
    """ssh-keygen is not installed, so nothing can be signed or checked."""


class BadSignature(ProofError):
    """The signature does not hold; the message says why."""


class CannotSign(ProofError):
    """ssh-keygen did not sign; the message says why."""


def check(body: bytes, armored: bytes, allowed_signers: Path) -> str:
    """The name of the signer of these bytes, from the allowed signers.

    Raises BadSignature: the signer is not among them, or signed other bytes or for another namespace, or the key is not
    valid now; NoTool: ssh-keygen is missing or hangs.
    """
    if len(armored) > _LARGEST:
        raise BadSignature(f"{SIGNATURE} is no signature: {len(armored)} bytes")
    with _in_memory(armored) as signature:  # the bytes that were read, although the file may have changed since
        principals = _keygen(b"", "find-principals", "-s", signature, "-f", str(allowed_signers))
        names = [name for name in principals.stdout.decode(errors="replace").splitlines() if name and name[0] != "!"]
        if principals.returncode != 0 or not names:
            raise BadSignature(f"made by nobody whom {allowed_signers} names: {_why(principals)}")
        flags = ("-f", str(allowed_signers), "-n", NAMESPACE, "-s", signature)
        for name in names:
            if (verified := _keygen(body, "verify", *flags, "-I", name)).returncode == 0:
                return name
    raise BadSignature(f"does not hold for these bytes and the namespace {NAMESPACE}: {_why(verified)}")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path at which other programs can read these bytes, without writing to the host's disk."""
    if not hasattr(os, "memfd_create"):  # a controller that does not run Linux
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    fd = os.memfd_create(SIGNATURE, 0)
    try:
        os.write(fd, content)
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


def sign(body: bytes, key: Path, directory: Path) -> Path:
    """Sign these bytes with a private key, or the agent's key of a public one, and write the signature to `directory`.

    Raises CannotSign: ssh-keygen did not; NoTool: it is not installed.
    """
    signed = _keygen(body, "sign", "-f", str(key), "-n", NAMESPACE)
    if signed.returncode != 0 or not signed.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise CannotSign(f"{key}: {_why(signed)}")
    write_atomically(directory / SIGNATURE, signed.stdout)
    return directory / SIGNATURE


def _keygen(stdin: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise NoTool("ssh-keygen is not installed (Debian: openssh-client)")
    argv, environment = [program, "-Y", *arguments], {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=_SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise NoTool(f"ssh-keygen did not answer in {_SECONDS} s") from None


def _why(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"ssh-keygen ended with {done.returncode}"
