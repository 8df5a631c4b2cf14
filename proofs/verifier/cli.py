"""verify, sign, live, diff: what is done with a bundle once it is there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from proofs.evidence import host_input
from proofs.evidence.atomic_file import write_atomically
from proofs.host import deployed
from proofs.verifier import policy
from proofs.verifier.policy import Asked, Report, Unusable

UNUSABLE = 2
Command = Callable[[str, str, object], argparse.ArgumentParser]


def add(command: Command) -> None:
    """Add these commands. command: makes a subparser from a name, what it does, and what does it."""
    verify = command("verify", "ALLOW (0) or DENY (1) a bundle, with every reason; 2: no sense in the call", _verify)
    verify.add_argument("dir", type=Path, help="directory with statement.json, statement.sig, events.jsonl")
    verify.add_argument(
        "--allowed-signers", type=Path, required=True, metavar="FILE", help="whose signature counts (ssh-keygen(1))"
    )
    verify.add_argument(
        "--keep", type=Path, metavar="DIR", help="where it is allowed, put the statement and signature that were there"
    )
    sign = command("sign", "sign a bundle that `verify` would allow; never on the host that was tested", _sign)
    sign.add_argument("dir", type=Path, help="directory with statement.json and events.jsonl")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key, or public one of an agent")
    for sub in (verify, sign):
        _add_asked(sub)
    command("live", "release, config and host that are live here, as JSON; looks only", _live)
    diff = command("diff", "what differs between two runs; 0 when the verdicts are the same, 1 when not", _diff)
    for name in ("one", "other"):
        diff.add_argument(name, type=Path, metavar="RUN", help="directory with statement.json")


def _add_asked(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="say it as JSON")
    place = sub.add_argument_group(
        "what is live",
        "read off this host where an engine is installed, else not compared, and the answer says so; to compare"
        " elsewhere give all three digests",
    )
    place.add_argument("--live", action="store_true", help="read it off this host (the default)")
    place.add_argument("--release-digest", default="", metavar="D", help="sha256 of the release that is live")
    place.add_argument("--config-digest", default="", metavar="D", help="sha256 of the config that is live")
    place.add_argument("--machine-id", default="", metavar="M", help="/etc/machine-id of the host")
    place.add_argument("--skip-live", action="store_true", help="compare with none; the answer says so")
    sub.add_argument(
        "--max-age-h", type=_hours, default=policy.MAX_AGE_H, metavar="H", help="oldest allowed (%(default)g)"
    )
    sub.add_argument(
        "--required", type=_names, metavar="A,B,...", help="what has to PASS (default: all of that kind of host)"
    )


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 < hours < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number of hours above 0")
    return hours


def _names(text: str) -> list[str]:
    from proofs.verifier.verify import JUDGED

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in JUDGED:
            raise argparse.ArgumentTypeError(f"no proof is called {name!r}: there are {', '.join(JUDGED)}")
    return names


def _asked(args: argparse.Namespace, signers: Path | None) -> Asked:
    given = (args.release_digest, args.config_digest, args.machine_id)
    if sum([any(given), args.live, args.skip_live]) > 1:
        raise Unusable("--live, --skip-live and the digests of what is live exclude each other")
    if any(given) and not all(given):
        raise Unusable("--release-digest, --config-digest and --machine-id belong together: give all three")
    current: Callable[[], deployed.Live] | None = deployed.read
    # A controller has nothing live to compare with; the answer says that it was not compared. What is signed has to be.
    if args.skip_live or (signers and not (args.live or any(given) or deployed.ENGINE.exists())):
        current = None
    elif any(given):
        current = partial(deployed.Live, *given)
    return Asked(signers, current, args.max_age_h, args.required)


def _verify(args: argparse.Namespace) -> int:
    from proofs.verifier import verify

    try:
        asked = _asked(args, args.allowed_signers)
    except Unusable as error:
        return _complain(str(error))
    try:
        report = verify.verify(args.dir, asked)
    except Unusable as error:  # what cannot be looked at is not allowed either
        report = Report(args.dir, {"signature": [str(error)]})
    if report.allowed and args.keep:
        try:
            _keep(report, args.keep)
        except OSError as error:
            return _complain(f"{args.keep}: {error.strerror}")
    _tell(report, args.json)
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
        report = verify.verify(args.dir, _asked(args, None))
        if not report.allowed:
            _tell(report, args.json)
            return 1
        made = signature.sign(report.body, args.key.expanduser(), args.dir)  # not the file: that may be another by now
    except (Unusable, signature.NoTool, signature.CannotSign, OSError) as error:
        return _complain(f"not signed: {error}")
    print(json.dumps({**report.as_json(), "signature": str(made)}) if args.json else f"signed: {made}")
    return 0


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
        return
    about = report.statement["predicate"] if report.statement else {}
    what = f"run {about['run']}, ended {about['finished']}" if about else "no statement"
    by = f", signed by {report.signer}" if report.signer else ""
    lines = [f"{'ALLOW' if report.allowed else 'DENY'}: {report.directory}: {what}{by}"]
    lines += [f"  {reason}" for reason in report.reasons]
    lines += [f"  ({step}: {why})" for step, why in report.skipped.items()]
    print("\n".join(plain(line) for line in lines))


def plain(line: str) -> str:
    """A line that a terminal shows as it is: what a stranger's bundle says must not move the cursor to say ALLOW."""
    return host_input.printable(line, len(line))


def _live(_: argparse.Namespace) -> int:
    try:
        print(json.dumps(deployed.read().as_json()))
    except deployed.NotLive as error:
        return _complain(str(error))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from proofs.report import diff as compare

    try:
        lines, same = compare.runs(args.one, args.other)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _complain(f"no statements that can be compared: {error}")
    print("\n".join(plain(line) for line in lines))
    return 0 if same else 1


def _complain(text: str) -> int:
    print(plain(f"hybrid-proofs: {text}"), file=sys.stderr)
    return UNUSABLE
