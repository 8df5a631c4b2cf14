"""The gate of LIVE: it opens only with a signed, recent proof of this release, configuration, unit and host.

The process checks the signature, the digests, the unit, the host, the age and the required proofs. The verifier on the
controller recomputes the verdicts from the recorded events; a bundle that it would deny is never signed.
"""

import hashlib
import json
import os
import stat
import subprocess
import time
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hybrid_engine.config.limits import void_guarantees
from hybrid_engine.config.load import Config
from hybrid_engine.runtime import unit
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.runtime.release import UNRELEASED, read_release, release_difference, release_home
from hybrid_engine.stages.adapter import ExecutionAdapter

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:hybrid-engine:proofs:v2"
NAMESPACE = "hybrid-engine-proofs"  # the namespace of the signature (ssh-keygen -Y sign -n)
ADAPTERS = "hybrid_engine.adapters"  # the entry point group of live adapters; none ships
# Proofs that LIVE requires, whatever a statement lists as required.
REQUIRED = (
    *("exit12", "stall", "sampling", "failover", "crash", "overload", "network"),
    *("parse", "storage", "stop", "shadow", "gate", "rollback", "hardening"),
)
KEYGEN = "/usr/bin/ssh-keygen"  # by its full name: whoever sets PATH does not choose who checks the signature
SIGNERS_OWNERS = {0}  # the users who may own allowed_signers and the directories above it
CLOCK_SLACK_S = 300.0
MAX_BYTES = 16 * 1024 * 1024
_REASONS = 3  # differences of the unit that are named


def check(config: Config, in_unit: bool = True) -> None:
    """Raises ConfigError with the first reason why the gate stays shut. Checks nothing in the other modes.

    in_unit: this process is the engine that is to trade; else the unit that it runs in is none that was proven.
    """
    if config.settings.mode != "LIVE":
        return
    try:
        _check(config, in_unit)
    except _GateClosed as reason:
        raise ConfigError(f"{config.path}: mode = LIVE: refused, {reason}") from None
    _find_adapter(config)


def held_files(config: Config) -> list[str]:
    """The files that the configuration names and that decide whom the engine trusts and what it trades, by content.

    They are parts of the unit, see unit.part. Raises ConfigError: one cannot be read.
    """
    files = [("ca_file", source.ca_file) for source in config.sources]
    module, has_module, _ = config.settings.engine.strategy.partition(":")
    try:
        if has_module:
            spec = find_spec(module)
            files.append(("strategy", spec.origin or "" if spec else ""))
        named = dict.fromkeys((kind, path) for kind, path in files if path)
        return [unit.part(kind, path, Path(path).read_bytes()) for kind, path in named]
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(f"{config.path}: a file that it names cannot be read: {error}") from None


def load_adapter(config: Config) -> ExecutionAdapter:
    """The live adapter that is installed. Raises ConfigError when there is none, more than one, or it is unusable."""
    entry = _find_adapter(config)
    where = f"{config.path}: mode = LIVE: the adapter {entry.name} ({entry.value})"
    try:
        adapter: ExecutionAdapter = entry.load()()
    except Exception as error:
        raise ConfigError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
    if not callable(getattr(adapter, "execute", None)):
        raise ConfigError(f"{where} has no execute(signal, price)")
    return adapter


def _find_adapter(config: Config) -> EntryPoint:
    entries = tuple(entry_points(group=ADAPTERS))
    if not entries:
        raise ConfigError(f"{config.path}: mode = LIVE: the gate is open, but no live adapter installed ({ADAPTERS})")
    if len(entries) > 1:
        names = ", ".join(sorted(f"{entry.name} ({entry.value})" for entry in entries))
        raise ConfigError(f"{config.path}: mode = LIVE: more than one live adapter is installed, keep one: {names}")
    return entries[0]


class _GateClosed(Exception):
    """The gate stays shut; the text says why."""


def _check(config: Config, in_unit: bool) -> None:
    if not config.settings.live_armed:
        raise _GateClosed("live_armed is false")
    _check_sources(config)
    if void := void_guarantees(config.values):
        raise _GateClosed(f"a setting makes a guarantee void, {void[0]}")
    if not config.settings.proof_bundle:
        raise _GateClosed("proof_bundle names no directory with statement.json and statement.sig")
    bundle = Path(config.settings.proof_bundle)
    body = _read_file(bundle / "statement.json")
    _check_signature(body, bundle / "statement.sig", config.path.parent / "allowed_signers")
    try:
        statement: Any = json.loads(body, object_pairs_hook=_refuse_repeated_keys)
        _check_statement(statement, config)
        if in_unit:
            _check_unit(statement, config)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _GateClosed(f"statement.json is not a statement of proofs: {type(error).__name__}: {error}") from None


def _check_sources(config: Config) -> None:
    """Real orders need prices of a real exchange, over a connection that says whose they are."""
    mode = config.settings.engine.ingest_mode
    if mode != "REAL_WS":
        raise _GateClosed(f"engine.ingest_mode = {mode} has no prices of an exchange; LIVE needs REAL_WS")
    for source in config.sources:
        if not source.url.lower().startswith("wss://"):
            raise _GateClosed(f"the source {source.name} is not encrypted (ws://), so anybody may answer; use wss://")


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> Any:
    """Of a key that occurs twice, one reader takes the first value and another one the last."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is there twice")
    return values


def _read_file(path: Path) -> bytes:
    """The content of a regular file of limited size: reading a pipe would block the start for ever."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise _GateClosed(f"{path} is not a file of at most {MAX_BYTES} bytes")
            return file.read(status.st_size)
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        raise _GateClosed(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_signature(body: bytes, signature: Path, signers: Path) -> None:
    for file in (signature, signers):
        _read_file(file)
    _check_owners(signers)
    if not Path(KEYGEN).is_file():
        raise _GateClosed(f"{KEYGEN}, which checks the signature, is not installed")

    def run(action: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        command = [KEYGEN, "-Y", action, "-f", str(signers), *arguments, "-s", str(signature)]
        return subprocess.run(command, input=body, capture_output=True, check=False, timeout=10)

    try:
        names = run("find-principals").stdout.decode("utf-8", "surrogateescape").splitlines()
        principals = [name for name in names if name and not name.startswith("!")]
        if not principals:
            raise _GateClosed(f"statement.sig was made by nobody that {signers} names")
        for name in principals:  # each may be allowed for other namespaces only
            verified = run("verify", "-I", name, "-n", NAMESPACE)
            if verified.returncode == 0:
                return
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _GateClosed(f"the signature could not be checked: {error}") from None
    output = (verified.stderr or verified.stdout).decode("utf-8", "replace").strip().splitlines()
    raise _GateClosed(f"the signature does not hold: {output[-1] if output else 'ssh-keygen gives no reason'}")


def _check_owners(signers: Path) -> None:
    """Whoever may write to allowed_signers, or replace it or a directory above it, decides who is believed."""
    for path in (signers.absolute(), *signers.absolute().parents):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise _GateClosed(f"{path} is a link, so {signers} vouches for nobody")
        if status.st_uid not in SIGNERS_OWNERS:
            raise _GateClosed(f"{path} belongs to user {status.st_uid} and not to root, so it vouches for nobody")
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX  # as /tmp: nobody replaces root's entry
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
            raise _GateClosed(f"{path} can be written by others than its owner, so it vouches for nobody")


def _check_statement(statement: Any, config: Config) -> None:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise _GateClosed(f"the statement is of another type: {statement['_type']}, {statement['predicateType']}")
    predicate = statement["predicate"]
    release_digest, config_digest, _ = (subject["digest"]["sha256"] for subject in statement["subject"])
    release = read_release()
    if release.digest == UNRELEASED:
        raise _GateClosed("this process runs from no release; a proof is of a release")
    if release.digest != release_digest:
        raise _GateClosed(f"the proof is of another release than this one, {release.name}")
    if config.digest != config_digest:
        raise _GateClosed(f"the proof is of another configuration than this one, digest {config.digest}")
    machine_id = _machine_identity()
    if not machine_id or predicate["host"]["machine_id"] != machine_id:
        reason = "its machine id, name or ssh host key is not this one's"
        raise _GateClosed(f"the proof is of another host, {predicate['host']['hostname']}: {reason}")
    _check_age(predicate["finished"], config.settings.proof_max_age_h)
    _check_required(predicate)
    if difference := release_difference(release_home()):
        raise _GateClosed(f"the release on the disk is not the one that was proven, {release.name}: {difference}")


def _machine_identity(root: Path = Path("/")) -> str:
    """As `machine_identity` of the proofs: hosts made from one image share their machine id. Raises _GateClosed."""
    machine_id = _read_file(root / "etc/machine-id").decode().strip()
    key = root / "etc/ssh/ssh_host_ed25519_key.pub"
    words = _read_file(key).decode().split() if key.exists() else []
    text = "\n".join((machine_id, os.uname().nodename, words[1] if len(words) > 1 else ""))
    return hashlib.sha256(text.encode()).hexdigest()[:32] if machine_id else ""


def _check_unit(statement: Any, config: Config) -> None:
    """The unit's files, the files that the configuration names, and the environment are those of the proof."""
    try:
        parts = [*unit.unit_parts(), *held_files(config)]
    except unit.UnitError as error:
        raise _GateClosed(str(error)) from None
    if unit.digest(parts) != statement["subject"][2]["digest"]["sha256"]:
        differences = unit.differences(statement["predicate"]["unit_parts"], parts)
        reasons = "; ".join(differences[:_REASONS]) or "its digest"
        raise _GateClosed(f"the proof is of another unit than this one: {reasons}")


def _check_age(finished: str, max_age_h: float) -> None:
    ended = datetime.fromisoformat(finished)
    if ended.tzinfo is None:
        raise _GateClosed(f"the proof ended {finished}, of no time zone")
    age_s = time.time() - ended.timestamp()
    if age_s < -CLOCK_SLACK_S:
        raise _GateClosed(f"the proof is from the future: it ended {finished}")
    if age_s > max_age_h * 3600:
        raise _GateClosed(f"the proof is {age_s / 3600:.1f} h old; proof_max_age_h is {max_age_h:g}")


def _check_required(predicate: Any) -> None:
    proofs = {proof["name"]: proof for proof in predicate["proofs"]}
    if len(proofs) != len(predicate["proofs"]):
        raise _GateClosed("a proof is there twice")
    if predicate["verdict"] != "PASS":
        raise _GateClosed(f"the run as a whole says {predicate['verdict']}")
    required = dict.fromkeys((*REQUIRED, *predicate["required"]))
    if missing := [name for name in required if name not in proofs]:
        raise _GateClosed(f"required proofs that were not run: {', '.join(missing)}")
    for name in required:
        proof = proofs[name]
        if proof["verdict"] != "PASS":
            raise _GateClosed(f"the proof {name} is required and says {proof['verdict']}")
        if proof["restored"] is not True:
            raise _GateClosed(f"the proof {name} did not put the host back")
        if proof["mutant"]["verdict"] != "FAIL":
            raise _GateClosed(f"the proof {name} is void: its mutant says {proof['mutant']['verdict']}")
