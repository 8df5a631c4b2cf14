"""The command `hybrid-engine`. The only place where errors become exit codes and where the process ends."""

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hybrid_engine import __version__
from hybrid_engine.config.load import DEFAULT_PATH, KEYS, Config, load_config
from hybrid_engine.runtime.address import show_address
from hybrid_engine.runtime.errors import ConfigError, EngineError, ExitCode
from hybrid_engine.runtime.log import Logger
from hybrid_engine.stages.adapter import WITHOUT_NETWORK, ExecutionAdapter

SYSTEMD = Path("/run/systemd/system")  # exists where systemd is the init system

_OVERRIDES = (  # option of the command line, key of the configuration, metavar, help
    ("--mode", "mode", "MODE", "SHADOW (default), PAPER or LIVE"),
    ("--seconds", "engine.run_seconds", "SECONDS", "stop after so many seconds (0: never)"),
    ("--db", "app.db_path", "FILE", "database file"),
    ("--ingest", "engine.ingest_mode", "MODE", "SYNTHETIC, REPLAY, MOCK_WS or REAL_WS"),
    ("--ws-url", "engine.ws_url", "URL", "URL of the exchange of MOCK_WS"),
    ("--sample-every", "engine.sample_every", "N", "keep every Nth trade of each symbol"),
)
_EXIT_CODES = "\n".join(f"  {code:<2}  {code.name:<8}  {code.meaning}" for code in ExitCode)
_RUN_EPILOG = f"""exit codes:
{_EXIT_CODES}

examples:
  hybrid-engine run --ingest SYNTHETIC --db /tmp/demo.db --seconds 10
  hybrid-engine run --ingest MOCK_WS --ws-url ws://127.0.0.1:9001/ws/btcusdt@trade --db /tmp/demo.db
  hybrid-engine config check --config /etc/hybrid-engine/config.toml
  HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5 hybrid-engine run
"""

_CAPTURE_EPILOG = """Each line of FILE is {"received_at": seconds UTC, "frame": the text as it arrived}. NAME is a
[[source]] of ws_sources.toml beside the configuration file, or "mock" for engine.ws_url in MOCK_WS. Every frame is
recorded. The database is not used, so the engine may run meanwhile. Ctrl-C ends the recording and keeps the file.

exit codes:
  0   the time has elapsed, or it was asked to stop
  10  the source failed; the frames before are kept
  12  the command line or the configuration is wrong, or FILE exists already
  14  FILE cannot be written any more; its complete lines are kept

examples:
  hybrid-engine capture --source coinbase --seconds 60 --out coinbase.jsonl
  hybrid-engine capture --config ./config.toml --source gemini --seconds 3600 --out night.jsonl
  python -m proofs.mock_exchange --capture coinbase.jsonl --speed 10      (replays it, from a checkout)
"""

_BACKUP_EPILOG = """FILE appears whole, checked and synced under its name, or not at all.
To go back to it, stop the engine, move hybrid.db and hybrid.db-wal away, and copy FILE to where hybrid.db was, as the
engine's user. docs/storage.md has the details.

exit codes:
  0    FILE is complete
  12   the command line or the configuration is wrong, or FILE exists already
  13   another program held the database locked
  14   the database cannot be read or is corrupt, or FILE cannot be written
  130  Ctrl-C (143: SIGTERM, 129: SIGHUP); FILE was not made

examples:
  hybrid-engine backup /mnt/backup/hybrid-$(date +%F).db
  hybrid-engine backup --db /var/lib/hybrid-engine/hybrid.db copy.db
"""

_EXPORT_EPILOG = """Times are when this host received the tick: 2026-01-31T12:00:00Z (with a zone), 2026-01-31 (midnight
UTC), or milliseconds since 1970. The interval has --from in it, and --to no more. Of gaps it has those that touch it,
and with --symbol also those of every symbol. bars are the minutes of each symbol that had a tick; one that the interval
cuts has the ticks inside it. Columns, and what CSV does with =, +, - and @: docs/storage.md.

exit codes:
  0    all rows are written, or nobody reads them any more
  12   the command line or the configuration is wrong, FILE exists already, or pyarrow is missing
  13   another program held the database locked
  14   the database cannot be read, or the rows cannot be written
  130  Ctrl-C (143: SIGTERM, 129: SIGHUP); FILE was not made

examples:
  hybrid-engine export --table ticks --from 2026-01-31 --to 2026-02-01 --output ticks.csv
  hybrid-engine export --table bars --symbol BTC/USD --format jsonl | head
  hybrid-engine export --table gaps --from 2026-01-31T22:00:00Z
  hybrid-engine export --table trades --format parquet --output trades.parquet --db backup.db
"""


_REPORT_EPILOG = """A run begins flat. Positions are at average cost; result is realised and unrealised less the fees;
win_rate is the share of trades that reduced a position with a gain; drawdown is the largest fall of the result from its
highest value, looked at with every tick. Caps are shown where the run had the present configuration. Runs are numbered
from 1, and a run in REPLAY is compared with the recorded one by --against.

exit codes:
  0    the report is complete
  12   the command line or the configuration is wrong, or there is no such run
  13   another program held the database locked
  14   the database cannot be read
  130  Ctrl-C

examples:
  hybrid-engine report
  hybrid-engine report --run 7 --against 3
  hybrid-engine report --json --db backup.db
"""


class _Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived in a command that has to clean up."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # After argparse's own exit code 2 systemd would restart the unit for ever.
        raise ConfigError(f"command line: {message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hybrid-engine",
        description="A market-data and shadow-trading engine: ingest -> strategy -> execution -> persist.",
        epilog=_RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="run | config | health | capture | backup | export | report | version"
    )
    file = _Parser(add_help=False)
    file.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration file (default: {DEFAULT_PATH}, if it exists)"
    )
    override, database = _Parser(add_help=False), _Parser(add_help=False)
    for option, key, metavar, text in _OVERRIDES:
        override.add_argument(option, dest=key, metavar=metavar, help=text)
        if option == "--db":
            database.add_argument(option, dest=key, metavar=metavar, help=f"{text} (default: app.db_path)")
    commands.add_parser(
        "run",
        parents=[file, override],
        help="run the engine until SIGTERM, SIGINT or --seconds",
        description="Run the engine. SIGTERM and SIGINT drain and stop it, SIGHUP re-reads the configuration.",
        epilog=_RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    config = commands.add_parser("config", help="check or show the configuration in force")
    config_commands = config.add_subparsers(dest="config_command", required=True, metavar="check | show")
    for command, text in (
        ("check", "validate it, and print each value and where it comes from"),
        ("show", "print the effective configuration as a commented TOML file"),
    ):
        config_commands.add_parser(command, parents=[file, override], help=text)
    health = commands.add_parser(
        "health",
        parents=[file],
        help="exit 0 when the engine is healthy, 1 when it is not",
        description="Check the engine's health from its database and from systemd, in constant time.",
        epilog="docs/operations.md explains each check and the output of --json.",
    )
    health.add_argument("--json", action="store_true", help="print the checks and the newest run's counters as JSON")
    health.add_argument(
        "--unit",
        metavar="NAME",
        help="the unit that must be active; '' for none (default: hybrid-engine.service; with --config none)",
    )
    capture = commands.add_parser(
        "capture",
        parents=[file],
        help="record the frames of a source as they arrive",
        description="Record the frames of one source, with the same connection code as the engine.",
        epilog=_CAPTURE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    capture.add_argument("--source", metavar="NAME", required=True, help="name of a configured source")
    capture.add_argument("--seconds", metavar="N", required=True, help="stop after so many seconds")
    capture.add_argument(
        "--out", type=Path, metavar="FILE", required=True, help="a new file; an existing one is not overwritten"
    )
    backup = commands.add_parser(
        "backup",
        parents=[file, database],
        help="copy the database into one file, also while the engine runs",
        description="Copy the database into one new file and check it. The engine may run meanwhile, or be stopped.",
        epilog=_BACKUP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="a new file; an existing one is not overwritten")
    export = commands.add_parser(
        "export",
        parents=[file, database],
        help="write ticks, gaps, orders, trades or minute bars as CSV, JSON Lines or Parquet",
        description="Write the rows of a table to stdout or a new file. The engine may run meanwhile, or be stopped.",
        epilog=_EXPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables, formats = ("ticks", "gaps", "orders", "trades", "bars"), ("csv", "jsonl", "parquet")
    export.add_argument("--table", required=True, choices=tables, help="what to write")
    export.add_argument("--format", default="csv", choices=formats, help="csv (default), jsonl or parquet")
    export.add_argument("--from", dest="begin", metavar="TIME", help="the first moment (default: the first row)")
    export.add_argument(
        "--to", dest="end", metavar="TIME", help="the moment after the last one (default: the last row)"
    )
    export.add_argument(
        "--symbol", action="append", default=[], metavar="NAME", help="this symbol only; several: give it repeatedly"
    )
    export.add_argument(
        "--output", type=Path, metavar="FILE", help="a new file (default: stdout); an existing one is not overwritten"
    )
    report = commands.add_parser(
        "report",
        parents=[file, database],
        help="print how a run's trades would have done: result, fees, drawdown, exposure",
        description="Compute how a run's trades would have done, by symbol. The engine may run meanwhile.",
        epilog=_REPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("--run", type=int, dest="run_id", metavar="N", help="the run (default: the newest)")
    report.add_argument("--against", type=int, metavar="N", help="another run, to compare with")
    report.add_argument("--json", action="store_true", help="print it as JSON (docs/storage.md)")
    version = commands.add_parser("version", help="print the version and the release")
    version.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


def _load_config(args: argparse.Namespace) -> Config:
    overrides = {key: value for key, value in vars(args).items() if key in KEYS and value is not None}
    return load_config(args.config, overrides)


def _load_runnable_config(args: argparse.Namespace, in_unit: bool = True) -> Config:
    """The configuration, when an engine may run with it: in mode LIVE the gate must be open. Raises ConfigError.

    in_unit: this process is the engine itself, so that the unit that it runs in has to be the proven one.
    """
    config = _load_config(args)
    if config.settings.mode == "LIVE":
        from hybrid_engine import live_gate  # no other mode needs it

        live_gate.check(config, in_unit)
    return config


def _run(args: argparse.Namespace) -> int:
    log = Logger("hybrid_engine")
    try:
        from hybrid_engine.engine import Engine

        config = _load_runnable_config(args)
        adapter: ExecutionAdapter | None = WITHOUT_NETWORK.get(config.settings.mode)
        if adapter is None:
            from hybrid_engine import live_gate

            adapter = live_gate.load_adapter(config)
        Engine(config, adapter, reload=lambda: _load_runnable_config(args)).run()
    except EngineError as error:
        log.error(str(error), exit_code=int(error.code), exit_name=error.code.name)
        return int(error.code)
    except Exception as error:  # noqa: BLE001 - a bug: logged with its traceback, exit 1
        log.error(f"bug: {type(error).__name__}: {error}", exit_code=1, traceback=traceback.format_exc())
        return int(ExitCode.BUG)
    return int(ExitCode.COMPLETE)


def _config(args: argparse.Namespace) -> int:
    config = _load_runnable_config(args, in_unit=False)
    if args.config_command == "show":
        print(_format_toml(config))
        return 0
    from hybrid_engine import live_gate
    from hybrid_engine.config.limits import void_guarantees
    from hybrid_engine.stages.strategy import load_strategy

    load_strategy(config.settings.engine)  # `check` refuses what `run` would refuse
    width = max(map(len, config.values))
    for name, value in config.values.items():
        shown = show_address(value) if name == "engine.ws_url" else value
        default = "" if value == KEYS[name].default else f", default {json.dumps(KEYS[name].default)}"
        print(f"{name:<{width}} = {json.dumps(shown):<32} # {config.origins[name]}{default}")
    for part in live_gate.held_files(config):
        print(f"holds {part}")
    for text in void_guarantees(config.values):
        print(f"void {text}")
    for source in config.sources:
        symbols = ", ".join(source.symbols) or "(own symbols)"
        print(f"source {source.name}: {source.kind} {symbols} priority {source.priority} {show_address(source.url)}")
    print(f"config digest {config.digest}")
    return 0


def _format_toml(config: Config) -> str:
    lines: list[str] = []
    section = ""
    for name, value in sorted(config.values.items(), key=lambda item: item[0].rpartition(".")[0]):
        table, _, key = name.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        meta = KEYS[name].metadata
        reload = " (SIGHUP applies it)" if meta["reloadable"] else ""
        # A JSON text is a TOML text too, except for surrogate pairs and DEL.
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines += [f"# {meta['doc']}{reload}", f"{key} = {text}"]
    return "\n".join(lines)


def _health(args: argparse.Namespace) -> int:
    from hybrid_engine.health import check_health

    unit = args.unit
    if unit is None and args.config is None and SYSTEMD.is_dir():
        unit = "hybrid-engine.service"
    health = check_health(_load_config(args), unit or None)  # the gate of LIVE does not matter for the health
    if args.json:
        print(json.dumps(health.as_json()))
    else:
        for check in health.checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    return 0 if health.healthy else 1


def _capture(args: argparse.Namespace) -> int:
    from hybrid_engine.ingest.capture import Capture, find_source, parse_seconds

    config = _load_config(args)
    Capture(config, find_source(config, args.source), parse_seconds(args.seconds), args.out).run()
    return int(ExitCode.COMPLETE)


def _backup(args: argparse.Namespace) -> int:
    from hybrid_engine.storage.backup import back_up

    database = Path(_load_config(args).settings.app.db_path)
    _raise_at_signals()
    back_up(database, args.file)
    return int(ExitCode.COMPLETE)


def _export(args: argparse.Namespace) -> int:
    from hybrid_engine.storage.export import export, parse_selection

    selection = parse_selection(args.table, args.begin, args.end, args.symbol)
    database = Path(_load_config(args).settings.app.db_path)
    _raise_at_signals()
    export(database, selection, args.format, args.output)
    return int(ExitCode.COMPLETE)


def _report(args: argparse.Namespace) -> int:
    from hybrid_engine.storage.run_report import format_json, format_report, make_report

    config = _load_config(args)
    database = Path(config.settings.app.db_path)
    risk = config.settings.risk_caps
    caps = (risk.max_exposure_usd, risk.max_symbol_exposure_usd)
    report = make_report(database, args.run_id, config.digest, caps)
    against = make_report(database, args.against, config.digest, caps) if args.against is not None else None
    print((format_json if args.json else format_report)(report, against))
    return int(ExitCode.COMPLETE)


def _raise_at_signals() -> None:
    """From now on the first signal that asks to end raises _Interrupted, and no other one disturbs the cleaning up."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]

    def interrupt(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise _Interrupted(number)

    for number in numbers:
        signal.signal(number, interrupt)


def _version(args: argparse.Namespace) -> int:
    from hybrid_engine.runtime.release import read_release

    release = read_release()
    if args.json:
        print(json.dumps({"version": __version__, "release_name": release.name, "release_digest": release.digest}))
    else:
        print(f"hybrid-engine {__version__} ({release.name})")
    return 0


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed, before a database gets its descriptor."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w"))  # noqa: SIM115 - for the process's life


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The command `hybrid-engine`."""
    commands = {
        "run": _run,
        "config": _config,
        "health": _health,
        "capture": _capture,
        "backup": _backup,
        "export": _export,
        "report": _report,
        "version": _version,
    }
    _open_standard_streams()
    code = 0
    try:
        args = _parser().parse_args(argv)
        code = commands[args.command](args)
    except EngineError as error:
        print(f"hybrid-engine: {error}", file=sys.stderr)
        code = int(error.code)
    except _Interrupted as interrupt:
        print("hybrid-engine: interrupted", file=sys.stderr)
        code = 128 + interrupt.number
    except BrokenPipeError:  # nobody reads the output any more, as after `hybrid-engine config show | head`
        pass
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody reads the output, or the disk is full: the exit code is that of the run.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if any(thread.name.startswith(("connect-", "checkpointer")) for thread in threading.enumerate()):
        # At an ordinary exit OpenSSL cleans up, and a thread that is still connecting then crashes (observed: SIGSEGV).
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
