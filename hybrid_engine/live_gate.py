"""LIVE fails closed: it starts only with a proof of this release, this configuration and this host, fresh and signed.

The process checks what it can see by itself: signature, digests, host, age and the required set. Recomputing verdicts
from the raw events is the verifier's work on the controller, and what that would deny is never signed.
"""

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from hybrid_engine.config.load import Config
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.runtime.release import UNRELEASED, this_release
from hybrid_engine.stages.adapter import ExecutionAdapter

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:hybrid-engine:proofs:v1"
NAMESPACE = "hybrid-engine-proofs"  # what the signature must be made for (ssh-keygen -Y sign -n)
ADAPTERS = "hybrid_engine.adapters"  # the entry point group of live adapters; none ships
# Proofs without which nothing goes LIVE, whatever a statement says it required.
REQUIRED = (
    "exit12", "stall", "sampling", "failover", "crash", "overload", "network", "parse", "storage", "stop", "shadow",
    "gate", "rollback", "hardening",
)  # fmt: skip
CLOCK_SLACK_S = 300.0
MAX_BYTES = 16 * 1024 * 1024

Json = Any


def check(config: Config) -> None:
    """Raises ConfigError with the first reason when the mode is LIVE; says nothing for the other modes."""
    if config.settings.mode != "LIVE":
        return
    try:
        _check(config)
    except _Refused as reason:
        raise ConfigError(f"{config.path}: mode = LIVE: refused, {reason}") from None
    _adapter_entry(config)


def load_adapter(config: Config) -> ExecutionAdapter:
    """The live adapter that is installed. Raises ConfigError when there is none, more than one, or none of use."""
    entry = _adapter_entry(config)
    try:
        adapter = entry.load()()
    except Exception as error:
        raise ConfigError(
            f"{config.path}: mode = LIVE: the adapter {entry.name} ({entry.value}) cannot be made: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(adapter, "execute", None)):
        raise ConfigError(
            f"{config.path}: mode = LIVE: the adapter {entry.name} ({entry.value}) has no execute(signal, price)"
        )
    found: ExecutionAdapter = adapter
    return found


def _adapter_entry(config: Config) -> EntryPoint:
    entries = tuple(entry_points(group=ADAPTERS))
    if not entries:
        raise ConfigError(f"{config.path}: mode = LIVE: the gate is open, but no live adapter installed ({ADAPTERS})")
    if len(entries) > 1:
        names = ", ".join(sorted(f"{entry.name} ({entry.value})" for entry in entries))
        raise ConfigError(f"{config.path}: mode = LIVE: more than one live adapter is installed, keep one: {names}")
    return entries[0]


class _Refused(Exception):
    """Why the gate stays shut."""


def _check(config: Config) -> None:
    if not config.settings.live_armed:
        raise _Refused("live_armed is false")
    if not config.settings.proof_bundle:
        raise _Refused("proof_bundle names no directory with statement.json and statement.sig")
    bundle = Path(config.settings.proof_bundle)
    body = _bytes(bundle / "statement.json")
    _check_signature(body, bundle / "statement.sig", config.path.parent / "allowed_signers")
    try:
        statement: Json = json.loads(body, object_pairs_hook=_without_doubles)
        _check_statement(statement, config)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Refused(f"statement.json is not a statement of proofs: {type(error).__name__}: {error}") from None


def _without_doubles(pairs: list[tuple[str, Json]]) -> Json:
    """Of a key that is there twice each reader believes another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _bytes(path: Path) -> bytes:
    """A regular file of sane size: a pipe would hold up the start for ever."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
                raise _Refused(f"{path} is not a file of at most {MAX_BYTES} bytes")
            return file.read(MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise _Refused(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_signature(body: bytes, signature: Path, signers: Path) -> None:
    import shutil  # LIVE alone pays for it

    _bytes(signature)
    _bytes(signers)
    if signers.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Refused(f"{signers} can be written by others than its owner, so it vouches for nobody")
    keygen = shutil.which("ssh-keygen")
    if keygen is None:
        raise _Refused("ssh-keygen, which checks the signature, is not installed")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [keygen, "-Y", *arguments, "-s", str(signature)]
        return subprocess.run(
            command, input=body.decode("utf-8", "surrogateescape"), capture_output=True, text=True, check=False,
            errors="surrogateescape", timeout=10,
        )  # fmt: skip

    try:
        principals = run("find-principals", "-f", str(signers)).stdout.splitlines()
        principals = [name for name in principals if name and not name.startswith("!")]
        if not principals:
            raise _Refused(f"statement.sig was made by nobody that {signers} names")
        for name in principals:  # one line of several may allow it for our namespace
            verified = run("verify", "-f", str(signers), "-I", name, "-n", NAMESPACE)
            if verified.returncode == 0:
                return
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Refused(f"the signature could not be checked: {error}") from None
    said = (verified.stderr or verified.stdout).strip().splitlines()
    raise _Refused(f"the signature does not hold: {said[-1] if said else 'ssh-keygen gives no reason'}")


def _check_statement(statement: Json, config: Config) -> None:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise _Refused(f"the statement is of another type: {statement['_type']}, {statement['predicateType']}")
    predicate = statement["predicate"]
    of_release, of_config = (subject["digest"]["sha256"] for subject in statement["subject"])
    release = this_release()
    if release.digest == UNRELEASED:
        raise _Refused("this process runs from no release; a proof is of a release")
    if release.digest != of_release:
        raise _Refused(f"the proof is of another release than this one, {release.name}")
    if config.digest != of_config:
        raise _Refused(f"the proof is of another configuration than this one, digest {config.digest}")
    machine_id = _bytes(Path("/etc/machine-id")).decode().strip()
    if not machine_id or predicate["host"]["machine_id"] != machine_id:
        raise _Refused(f"the proof is of another host, {predicate['host']['hostname']}")
    _check_age(predicate["finished"], config.settings.proof_max_age_h)
    _check_required(predicate)


def _check_age(finished: str, max_age_h: float, now: Callable[[], float] = time.time) -> None:
    ended = datetime.fromisoformat(finished)
    if ended.tzinfo is None:
        raise _Refused(f"the proof ended {finished}, of no time zone")
    age_s = now() - ended.timestamp()
    if age_s < -CLOCK_SLACK_S:
        raise _Refused(f"the proof is from the future: it ended {finished}")
    if age_s > max_age_h * 3600:
        raise _Refused(f"the proof is {age_s / 3600:.1f} h old; proof_max_age_h is {max_age_h:g}")


def _check_required(predicate: Json) -> None:
    proofs = {proof["name"]: proof for proof in predicate["proofs"]}
    if len(proofs) != len(predicate["proofs"]):
        raise _Refused("a proof is there twice")
    if predicate["verdict"] != "PASS":
        raise _Refused(f"the run as a whole says {predicate['verdict']}")
    for name in dict.fromkeys((*REQUIRED, *predicate["required"])):
        proof = proofs.get(name)
        if proof is None:
            raise _Refused(f"the proof {name} is required and was not run")
        if proof["verdict"] != "PASS":
            raise _Refused(f"the proof {name} is required and says {proof['verdict']}")
        if proof["restored"] is not True:
            raise _Refused(f"the proof {name} did not put the host back")
        if proof["mutant"]["verdict"] != "FAIL":
            raise _Refused(f"the proof {name} is void: its mutant says {proof['mutant']['verdict']}")
