"""Signs a statement and checks its signature with `ssh-keygen -Y`: the operator's key, in a namespace of its own."""

import os
import stat
import subprocess
import tempfile
from pathlib import Path

from proofs.errors import ProofError
from proofs.evidence.atomic_file import write_atomically

NAMESPACE = "hybrid-engine-proofs"  # live_gate requires it: a signature for another purpose does not count
SIGNATURE = "statement.sig"
KEYGEN = Path("/usr/bin/ssh-keygen")  # by its full name: whoever sets PATH does not choose who checks the signature
_SECONDS = 20
_LARGEST = 1 << 16
_MEMORY = "/dev/shm"


class NoTool(ProofError):
    """ssh-keygen is not installed, so nothing can be signed or checked."""


class BadSignature(ProofError):
    """The signature does not hold; the message says why."""


class UnsafeSigners(ProofError):
    """Others decide who is among the allowed signers; the message says how."""


class CannotSign(ProofError):
    """ssh-keygen did not sign; the message says why."""


def check(body: bytes, armored: bytes, allowed_signers: Path) -> str:
    """The name of the signer of these bytes, from the allowed signers.

    Raises BadSignature: the signer is not among them, or signed other bytes or for another namespace, or the key is not
    valid now; NoTool: ssh-keygen is missing or hangs.
    """
    if len(armored) > _LARGEST:
        raise BadSignature(f"{SIGNATURE} is no signature: {len(armored)} bytes")
    # The bytes that were read, although the file may have changed since; in memory, for nothing is written to the disk.
    with tempfile.NamedTemporaryFile(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as file:
        file.write(armored)
        file.flush()
        principals = _keygen(b"", "find-principals", "-s", file.name, "-f", str(allowed_signers))
        names = [name for name in principals.stdout.decode(errors="replace").splitlines() if name and name[0] != "!"]
        if principals.returncode != 0 or not names:
            raise BadSignature(f"made by nobody whom {allowed_signers} names: {_why(principals)}")
        flags = ("-f", str(allowed_signers), "-n", NAMESPACE, "-s", file.name)
        for name in names:
            if (verified := _keygen(body, "verify", *flags, "-I", name)).returncode == 0:
                return name
    raise BadSignature(f"does not hold for these bytes and the namespace {NAMESPACE}: {_why(verified)}")


def check_signers(allowed_signers: Path) -> None:
    """Check that the file and every directory above it are no links, and only of who runs or installed this program.

    Raises UnsafeSigners: others may write to it, or replace it; OSError: one cannot be read.
    """
    trusted = {0, os.geteuid(), os.stat(__file__).st_uid}
    for path in (allowed_signers.absolute(), *allowed_signers.absolute().parents):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise UnsafeSigners(f"{path} is a link, so that {allowed_signers.name} vouches for nobody")
        if status.st_uid not in trusted:
            raise UnsafeSigners(f"{path} belongs to user {status.st_uid}, so that it vouches for nobody")
        is_folder = stat.S_ISDIR(status.st_mode)
        sticky = is_folder and status.st_mode & stat.S_ISVTX  # as /tmp: nobody replaces another's entry
        private = is_folder and status.st_uid == status.st_gid != 0  # a group of one user, as with umask 002
        others = stat.S_IWOTH if private else stat.S_IWOTH | stat.S_IWGRP
        if status.st_mode & others and not sticky:
            raise UnsafeSigners(f"{path} can be written by others than its owner, so that it vouches for nobody")


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
    if not KEYGEN.is_file():
        raise NoTool(f"{KEYGEN} is not installed (Debian: openssh-client)")
    argv, environment = [str(KEYGEN), "-Y", *arguments], {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=_SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise NoTool(f"ssh-keygen did not answer in {_SECONDS} s") from None


def _why(process: subprocess.CompletedProcess[bytes]) -> str:
    lines = (process.stderr or process.stdout).decode(errors="replace").strip().splitlines()
    return lines[0] if lines else f"ssh-keygen ended with {process.returncode}"
