"""The command `hybrid-proofs soak`."""

import argparse
from collections.abc import Callable
from dataclasses import asdict

from proofs.soak.options import MODES, PSI_ACTIONS, Options, mode_of, seconds_of, stall_of

DOES = "watch the engine at its ordinary work for hours, react to exits and stalls, and report a verdict"
EPILOG = """\
systemd restarts the engine after an exit, and the engine itself reacts to pressure. The soak watches both. An exit of
the engine leads to:
  0   stop       the engine was stopped
  10  let        systemd restarts it; abort when no run holds
  11  mock       when it is repeated: a mock exchange, on a scratch database
  13  throttle   one step up the ladder (1, 5, 10, 20); abort above it
  12, 14, 1      abort: a restart cannot mend it
An engine that is killed, by its watchdog or another signal, is treated as after 10. When no tick is stored although the
market is open, the soak restarts the engine.

The soak changes settings by one drop-in under /run, which is removed at its end, also when it is killed. Where
--psi-actions or --mode is not the configured value, the engine is restarted with it; with another mode it writes to a
scratch database, so that no synthetic tick is stored beside a real one. To end a soak: Ctrl-C, or on the host
  touch /run/hybrid-proofs/ABORT

  sudo hybrid-proofs soak                                  two hours as configured
  sudo hybrid-proofs soak --seconds 600 --psi-actions logonly
  sudo hybrid-proofs soak --mode MOCK_WS --stall-threshold-sec 30
  sudo systemctl start hybrid-soak                         with the options that playbooks/soak.yml installed

The evidence is that of a run of proofs (events.jsonl, statement.json), and decisions.jsonl with one decision a line.
exit status: 0 PASS, 1 anything else, 2 refused before anything was touched, 130 asked to stop, and the host is restored
"""


def add(command: Callable[[str, str, object], argparse.ArgumentParser]) -> None:
    soak = command("soak", DOES, _soak)
    soak.formatter_class = argparse.RawDescriptionHelpFormatter
    soak.epilog = EPILOG
    add_ = soak.add_argument
    add_("--seconds", type=seconds_of, metavar="S", help="how long (default: %(default)g)")
    add_("--psi-actions", choices=PSI_ACTIONS, help="what the engine does about pressure (default: %(default)s)")
    stall = "how long no tick may be stored; a run that lasts so long, and stores one, holds (default: %(default)g)"
    add_("--stall-threshold-sec", type=stall_of, metavar="S", dest="stall_s", help=stall)
    add_("--mode", type=mode_of, metavar="MODE", help=f"ingest mode: {', '.join(MODES)} (default: %(default)s)")
    soak.set_defaults(**asdict(Options()))
    add_("--unit", default="hybrid-engine.service", help="the unit that is watched (default: %(default)s)")
    add_("--git", default="", metavar="REV", help="revision of the checkout, for the record")
    add_("--as-installed", action="store_true", help="start hybrid-soak.service, print the run's id and return")
    add_("--inside", action="store_true", help=argparse.SUPPRESS)  # what a unit calls; hidden from the help
    add_("--run", default="", help=argparse.SUPPRESS)


def _soak(args: argparse.Namespace) -> int:
    from proofs.soak import run

    if not args.inside and run.refused(args.unit):
        return 2
    if args.as_installed:
        return run.as_installed(args.unit)
    options = Options(args.seconds, args.stall_s, args.psi_actions, args.mode)
    if args.inside:
        return run.inside(options, args.unit, args.run, args.git)
    return run.by_hand(options, args.unit, args.git)
