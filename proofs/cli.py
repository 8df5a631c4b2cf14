"""The command hybrid-proofs: list, plan, run, show, undo, render; soak; verify, sign, live, diff; diagnose."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from proofs.errors import ProofError
from proofs.evidence.terminal import complain, show
from proofs.soak import command as soak
from proofs.verifier import cli as bundles

FLIGHT_RECORDER = Path("/usr/local/libexec/hybrid-health-snapshot")
EPILOG = """\
A proof brings the engine to its steady state, injects a fault, shows by a witness that the fault took place, measures
the engine's reaction, restores the host, and gives a verdict: PASS, FAIL, INCONCLUSIVE or ERROR. Its mutants are copies
of the unit without the guard under test; each of them must FAIL. Faults lie under /run. A scratch config and a scratch
database are bound over the operator's, which are not touched.

  hybrid-proofs list                     the proofs: claim, bound, fault, mutants
  hybrid-proofs plan stall               show what `run stall` would do here
  sudo hybrid-proofs run exit12 stall    run two proofs
  hybrid-proofs show evidence/HOST/RUN   the verdicts of an earlier run
  sudo hybrid-proofs soak                watch the engine at its ordinary work for two hours
  hybrid-proofs verify evidence/HOST/RUN --allowed-signers evidence/allowed_signers
                                         check the signature, and compute the verdicts again from the events

exit status: 0 all required proofs say PASS, 1 not all, or an error, which is printed in one line; 2 refused before
anything was touched; 130 interrupted, and the host is restored
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.do(args))
    except BrokenPipeError:  # `hybrid-proofs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ProofError as error:  # not 2: by now something may have been touched
        complain(str(error))
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line instead of the whole usage."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hybrid-proofs",
        description="Break the engine on purpose, and keep the evidence of how it failed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, does: str, do: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=does, description=does)
        sub.set_defaults(do=do)
        return sub

    command("list", "list the proofs: claim, bound, fault, mutants, duration", _list)
    plan = command("plan", "show what `run` would do on this host; changes nothing", _call_runner)
    run = command("run", "run proofs on this host, as root", _call_runner)
    for sub in (plan, run):
        names = "proofs (default: those required of this kind of host)"
        sub.add_argument("names", nargs="*", metavar="NAME", help=names)
        sub.add_argument("--unit", default="hybrid-engine.service", help="the unit under test (default: %(default)s)")
    add = run.add_argument
    add("--run", default="", metavar="ID", help="the run's id; the evidence of a run that exists is appended to")
    add("--git", default="", metavar="REV", help="revision of the checkout, for the record")
    add("--nonce", default="", metavar="HEX", help="drawn by the controller: the first event of the evidence has it")
    cap = "undo a proof after S seconds, whatever its state (default: see plan)"
    add("--cap", type=float, default=0.0, metavar="S", help=cap)
    add("--no-wait", action="store_true", help="start the run, print its id and return; see `follow`")
    follow = command("follow", "print the progress of a run that was started with --no-wait, as JSON", _follow)
    answer = command("answer", "hand over the result of a proof's request, as JSON on stdin", _follow)
    undo = command("undo", "undo what a run left on this host; harmless when nothing is left", _call_runner)
    for sub in (follow, answer, undo):
        sub.add_argument("run", metavar="RUN", help="the run's id")
    add = follow.add_argument
    add("--from", dest="offset", type=int, default=0, help="byte to continue from: `next` of the last answer")
    answers = "print the proof's requests to the controller too; whoever follows has to answer them"
    add("--answers", action="store_true", help=answers)
    add("--seconds", type=float, default=5.0, help="how long to wait for progress (default: %(default)s)")
    answer.add_argument("number", metavar="ASK", type=int, help="the request's number")
    undo.add_argument("--by", default="hand", help=argparse.SUPPRESS)
    show = command("show", "print the verdicts of a run; 0 when the run says PASS", _show)
    show.add_argument("dir", type=Path, help="directory with statement.json")
    render = command("render", "write BUGLOG.md, log/ and report.html from events.jsonl (needs Jinja2)", _render)
    render.add_argument("dir", type=Path, help="directory with events.jsonl")
    does = "print what to look at on this host when something is wrong; changes nothing"
    out = "write it to this file, with mode 0600 (default: print it)"
    command("diagnose", does, _diagnose).add_argument("--out", type=Path, metavar="FILE", help=out)
    snapshot = command("snapshot", "print the state of this host and its engine as one JSON record", _snapshot)
    snapshot.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help=f"options of {FLIGHT_RECORDER}")
    command("after-boot", "undo the runs that a reboot ended; called by a unit at boot", _call_runner)
    bundles.add(command)
    soak.add(command)
    inside = commands.add_parser("inside")  # what the transient unit calls; hidden from the help
    inside.set_defaults(do=_call_runner)
    inside.add_argument("names", nargs="+")
    for flag in ("--run", "--git", "--nonce", "--unit"):
        inside.add_argument(flag, default="")
    inside.add_argument("--cap", type=float, default=0.0)
    return parser


def _follow(args: argparse.Namespace) -> int:
    from proofs.runner import progress

    if args.command == "answer":
        return progress.answer(args.run, args.number)
    return progress.follow(args.run, args.offset, args.seconds, args.answers)


def _call_runner(args: argparse.Namespace) -> int:
    """The commands that run proofs. They are imported when one is called, as most commands need none of it."""
    from proofs.catalog import PROOFS
    from proofs.runner import plan, run

    match args.command:
        case "plan":
            return plan.plan(args.names, args.unit)
        case "run":
            return run.start(
                args.names, args.unit, args.run, run.Origin(args.git, args.nonce), args.cap, not args.no_wait
            )
        case "inside":
            proofs = [PROOFS[name] for name in args.names]
            return run.inside(proofs, args.unit, args.run, run.Origin(args.git, args.nonce), args.cap)
        case "undo":
            return run.undo(args.run, args.by)
        case _:  # after-boot
            return run.after_boot()


def _snapshot(args: argparse.Namespace) -> int:
    """Replace this process by the flight recorder, a program of its own that works without this release."""
    if FLIGHT_RECORDER.exists():
        os.execv(FLIGHT_RECORDER, [str(FLIGHT_RECORDER), *args.words])
    complain(f"{FLIGHT_RECORDER} does not exist; deploy the engine first (playbooks/deploy.yml)")
    return 2


def _list(_: argparse.Namespace) -> int:
    from proofs.catalog import PROOFS

    for proof in PROOFS.values():
        show(f"{proof.name}  (about {proof.seconds:.0f} s)\n  claim   {proof.claim}\n  bound   {proof.bound}")
        show(f"  fault   {proof.fault}")
        for mutant in proof.mutants:
            show(f"  mutant  {mutant.name}: {mutant.what}; must FAIL")
    return 0


def _show(args: argparse.Namespace) -> int:
    from proofs.evidence import blobs, host_input
    from proofs.evidence import statement as bundle

    try:
        body = blobs.slurp(args.dir / bundle.STATEMENT)
        statement = host_input.parse_json(body, bundle.STATEMENT, host_input.STATEMENT_BYTES)
        bundle.refuse_former(statement, args.dir.name)
        lines = [host_input.printable(line, 4 * host_input.LINE) for line in bundle.table(statement).split("\n")]
        passed = statement["predicate"]["verdict"] == "PASS"
    except Exception as error:  # noqa: BLE001 - whatever it holds, it is no statement of ours
        return _complain(args.dir, "the statement cannot be read", error)
    show(*lines)
    return 0 if passed else 1


def _complain(directory: Path, what: str, error: Exception) -> int:
    """One line about a bundle that cannot be worked with; 2."""
    from proofs.evidence import host_input

    complain(host_input.printable(f"{directory}: {what}: {type(error).__name__}: {error}"))
    return 2


def _render(args: argparse.Namespace) -> int:
    from proofs.evidence import blobs, host_input, recorder
    from proofs.evidence import statement as bundle
    from proofs.report import buglog, html
    from proofs.soak import log

    try:
        with host_input.receiving(600.0, 1 << 32):  # seconds and bytes that rendering may take, whatever the events
            if os.path.lexists(path := args.dir / bundle.STATEMENT):
                body = blobs.slurp(path)
                statement = host_input.parse_json(body, bundle.STATEMENT, host_input.STATEMENT_BYTES)
                bundle.refuse_former(statement, args.dir.name)
            for path in buglog.write(args.dir):
                show(str(path))
            show(str(html.write(args.dir)))
            if decisions := log.rewrite(args.dir, recorder.read(args.dir / recorder.EVENTS)):
                show(str(decisions))
    except Exception as error:  # noqa: BLE001 - events that no run of ours leaves cannot be rendered, whatever they are
        return _complain(args.dir, "cannot render", error)
    return 0


def _diagnose(args: argparse.Namespace) -> int:
    from proofs.host import diagnose

    return diagnose.main(args)


if __name__ == "__main__":
    sys.exit(main())
