"""The commands on a recorded bundle: verify, sign, diff; and live, which prints what a bundle is compared with."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from proofs.evidence import host_input
from proofs.evidence.atomic_file import write_atomically
from proofs.evidence.terminal import complain, show
from proofs.host import deployed
from proofs.report.page import one_line
from proofs.verifier import policy
from proofs.verifier.policy import Report, Requirements, VerificationError

CALL_ERROR = 2
# What the check of a bundle may take, whatever it holds. That of all proofs takes a tenth of either, charts aside.
_SECONDS, _MEMORY = 25.0, 240 << 20
Command = Callable[[str, str, object], argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add these commands. command: makes a subparser from a name, a help text and the function to call."""
    verify = command("verify", "ALLOW (0) or DENY (1) a bundle, with every reason; 2: a mistake in the call", _verify)
    verify.add_argument("dir", type=Path, help="directory with statement.json, statement.sig, events.jsonl")
    verify.add_argument(
        "--allowed-signers", type=Path, required=True, metavar="FILE", help="whose signature counts (ssh-keygen(1))"
    )
    text = "check the rest as well where the signature does not hold; the answer stays DENY"
    verify.add_argument("--despite-signature", action="store_true", help=text)
    verify.add_argument(
        "--keep", type=Path, metavar="DIR", help="where it is allowed, put the statement and signature that were there"
    )
    sign = command("sign", "sign a bundle that `verify` would allow; never on the host that was tested", _sign)
    sign.add_argument("dir", type=Path, help="directory with statement.json and events.jsonl")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, or public one of an agent")
    for sub in (verify, sign):
        _add_requirements(sub)
    command("live", "release, config, unit and host that are live here, as JSON; looks only", _live)
    diff = command("diff", "what differs between two runs; 0 when the verdicts are the same, 1 when not", _diff)
    for name in ("one", "other"):
        diff.add_argument(name, type=Path, metavar="RUN", help="directory with statement.json")


def _add_requirements(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print the report as JSON")
    text = "read from this host where an engine is installed, else not compared, which the report says; to compare"
    live = sub.add_argument_group("what is live", f"{text} elsewhere give all four digests")
    live.add_argument("--live", action="store_true", help="read it from this host (the default)")
    live.add_argument("--release-digest", default="", metavar="D", help="sha256 of the live release")
    live.add_argument("--config-digest", default="", metavar="D", help="sha256 of the live config")
    live.add_argument("--machine-id", default="", metavar="M", help="the machine_id that `hybrid-proofs live` prints")
    live.add_argument("--unit-digest", default="", metavar="D", help="sha256 of the live unit's parts")
    live.add_argument("--skip-live", action="store_true", help="do not compare; the report says so")
    sub.add_argument(
        "--max-age-h", type=_hours, default=policy.MAX_AGE_H, metavar="H", help="greatest age of a bundle (%(default)g)"
    )
    text = "proofs that have to PASS (default: all of that kind of host)"
    sub.add_argument("--required", type=_names, metavar="A,B,...", help=text)


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: has to be a number of hours above 0")
    return hours


def _names(text: str) -> list[str]:
    from proofs.verifier.verify import JUDGED

    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in JUDGED]:
        raise argparse.ArgumentTypeError(f"no proof is called {unknown[0]!r}: there are {', '.join(JUDGED)}")
    return names


def _requirements(args: argparse.Namespace, signers: Path | None) -> Requirements:
    digests = (args.release_digest, args.config_digest, args.machine_id, args.unit_digest)
    if sum([any(digests), args.live, args.skip_live]) > 1:
        raise VerificationError("--live, --skip-live and the digests of what is live exclude each other")
    if any(digests) and not all(digests):
        raise VerificationError("the digests of release, config and unit and the machine id belong together: give all")
    current: Callable[[], deployed.Live] | None = deployed.read
    # A controller has nothing live to compare with, which the report says. Signing compares by default.
    if args.skip_live or (signers and not (args.live or any(digests) or deployed.ENGINE.exists())):
        current = None
    elif any(digests):
        current = partial(deployed.Live, *digests)
    despite = signers is not None and args.despite_signature
    return Requirements(signers, current, args.max_age_h, args.required, despite)


def _verify(args: argparse.Namespace) -> int:
    from proofs.verifier import verify

    try:
        requirements = _requirements(args, args.allowed_signers)
    except VerificationError as error:
        return _report_error(str(error))
    try:
        with host_input.receiving(_SECONDS, _MEMORY):
            report = verify.verify(args.dir, requirements)
    except VerificationError as error:  # a bundle that cannot be checked is not allowed either
        report = Report(args.dir, {"signature": [str(error)]})
    except host_input.HostInputError as error:
        report = Report(args.dir, {"recording": [f"checking the bundle is given up, {error}"]})
    if report.allowed and args.keep:
        try:
            _keep(report, args.keep)
        except OSError as error:
            return _report_error(f"{args.keep}: {error.strerror}")
    _print(report, args.json)
    return 0 if report.allowed else 1


def _keep(report: Report, directory: Path) -> None:
    """The bytes that were judged, for whoever carries them on: the files may be others by now."""
    from proofs.evidence import signature, statement

    write_atomically(directory / statement.STATEMENT, report.body)
    write_atomically(directory / signature.SIGNATURE, report.signature)


def _sign(args: argparse.Namespace) -> int:
    from proofs.evidence import signature
    from proofs.verifier import verify

    try:
        with host_input.receiving(_SECONDS, _MEMORY):
            report = verify.verify(args.dir, _requirements(args, None))
        if not report.allowed:
            _print(report, args.json)
            return 1
        # The bytes that were verified: the file may be another by now.
        path = signature.sign(report.body, args.key.expanduser(), args.dir)
    except (VerificationError, host_input.HostInputError, signature.NoTool, signature.CannotSign, OSError) as error:
        return _report_error(f"not signed: {error}")
    if args.json:
        print(json.dumps({**report.as_json(), "signature": str(path)}))
    else:
        show(f"signed: {path}")
    return 0


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
        return
    predicate = report.statement["predicate"] if report.statement else {}
    run = f"run {predicate['run']}, ended {predicate['finished']}" if predicate else "no statement"
    signer = f", signed by {report.signer}" if report.signer else ""
    lines = [f"{'ALLOW' if report.allowed else 'DENY'}: {report.directory}: {run}{signer}"]
    lines += [f"  {reason}" for reason in report.reasons]
    whys = dict.fromkeys(report.skipped.values())
    lines += [f"  ({', '.join(step for step, one in report.skipped.items() if one == why)}: {why})" for why in whys]
    show(*map(one_line, lines))


def _live(_: argparse.Namespace) -> int:
    try:
        print(json.dumps(deployed.read().as_json()))
    except deployed.NotLive as error:
        return _report_error(str(error))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from proofs.report import diff as comparison

    try:
        with host_input.receiving(_SECONDS, _MEMORY):
            lines, same = comparison.runs(args.one, args.other)
    except Exception as error:  # noqa: BLE001 - whatever they hold, they are no statements of ours
        return _report_error(f"the statements cannot be compared: {error or type(error).__name__}")
    show(*map(one_line, lines))
    return 0 if same else 1


def _report_error(text: str) -> int:
    complain(one_line(text))
    return CALL_ERROR
