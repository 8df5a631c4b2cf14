"""The command `hybrid-proofs soak`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from proofs.soak.options import AS_CONFIGURED, MODES, PSI_ACTIONS, Options, mode_of, seconds_of, stall_of

Command = Callable[[str, str, object], argparse.ArgumentParser]
DOES = "watch the engine at its ordinary work for hours, and decide what neither systemd nor the engine can"
EPILOG = """\
systemd alone restarts the engine, the engine alone thins out under pressure; the soak watches both. What it does about
an exit of the engine:
  0   stop       the engine was stopped
  10  let        systemd restarts it; abort when no run holds
  11  mock       once it is repeated: a mock exchange, on a scratch database
  13  throttle   one step up the ladder (1, 5, 10, 20); abort above it
  12, 14, 1      abort: a restart cannot mend it
killed by its watchdog or a signal: as 10. Data that stands still although a market is there: a restart.

It acts through a drop-in under /run alone, which goes with it, also when it is killed. Another psi_actions or mode than
the configured one is put in force the same way; another mode runs on a scratch database, so that no made-up tick is
stored beside a real one. To end it from the host:  touch /run/hybrid-proofs/ABORT

  sudo hybrid-proofs soak                                  two hours as configured
  sudo hybrid-proofs soak --seconds 600 --psi-actions logonly
  sudo hybrid-proofs soak --mode MOCK_WS --stall-threshold-sec 30
  sudo systemctl start hybrid-soak                         as playbooks/soak.yml installed it

The evidence is a run of proofs: events.jsonl, statement.json, and decisions.jsonl, one decision a line.
exit: 0 PASS, 1 anything else, 2 refused before anything was touched, 130 asked to stop (and the host put back)
"""


def add(command: Command) -> None:
    soak = command("soak", DOES, _soak)
    soak.formatter_class = argparse.RawDescriptionHelpFormatter
    soak.epilog = EPILOG
    default = Options()
    add_ = soak.add_argument
    add_("--seconds", type=seconds_of, default=default.seconds, metavar="S", help="how long (default: %(default)g)")
    add_(
        "--psi-actions", choices=[AS_CONFIGURED, *PSI_ACTIONS], default=default.psi_actions,
        help="what the engine does about pressure (default: %(default)s)",
    )  # fmt: skip
    add_(
        "--stall-threshold-sec", type=stall_of, default=default.stall_s, metavar="S", dest="stall_s",
        help="how long the data may stand still; so long a run has to last to hold (default: %(default)g)",
    )  # fmt: skip
    add_(
        "--mode", type=mode_of, default=default.mode, metavar="MODE",
        help=f"ingest mode: {', '.join(MODES)} (default: %(default)s)",
    )  # fmt: skip
    add_("--unit", default="hybrid-engine.service", help="the unit that is watched (default: %(default)s)")
    add_("--git", default="", metavar="REV", help="revision of the checkout, for the record")
    add_("--as-installed", action="store_true", help="start hybrid-soak.service, print the run's id, and come back")
    add_("--inside", action="store_true", help=argparse.SUPPRESS)  # what a unit runs; not for typing
    add_("--run", default="", help=argparse.SUPPRESS)


def _soak(args: argparse.Namespace) -> int:
    from proofs.soak import start

    options = Options(args.seconds, args.stall_s, args.psi_actions, args.mode)
    if args.as_installed:
        return start.as_installed(args.unit)
    if args.inside:
        return start.inside(options, args.unit, args.run, args.git)
    return start.by_hand(options, args.unit, args.git)
