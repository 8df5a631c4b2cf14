"""The command line. The one place where errors become exit codes and the process ends."""

import argparse
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hybrid_engine import __version__
from hybrid_engine.config import load
from hybrid_engine.runtime import log as journal
from hybrid_engine.runtime.errors import ConfigError, EngineError, Exit, NetworkError, StorageError
from hybrid_engine.stages.adapter import WITHOUT_NETWORK, ExecutionAdapter

SYSTEMD = Path("/run/systemd/system")  # is there where systemd runs the machine

_OVERRIDES = {
    "mode": "mode",
    "seconds": "engine.run_seconds",
    "db": "app.db_path",
    "ingest": "engine.ingest_mode",
    "ws_url": "engine.ws_url",
    "sample_every": "engine.sample_every",
}

_EXITS = """exit codes:
  0   COMPLETE  asked to stop, or the time is over; everything admitted is stored
  10  NETWORK   no source could be used for engine.network_deadline_s
  11  PARSE     every source kept sending frames that do not decode
  12  CONFIG    the configuration or the command line is wrong; systemd leaves the unit down
  13  OVERLOAD  the house stayed full for engine.overload_after_s
  14  STORAGE   the database cannot be opened, verified or written
  1   a bug, with a traceback in the journal

examples:
  hybrid-engine run --ingest SYNTHETIC --db /tmp/demo.db --seconds 10
  hybrid-engine run --ingest MOCK_WS --ws-url ws://127.0.0.1:9001/ws/btcusdt@trade --db /tmp/demo.db
  hybrid-engine config check --config /etc/hybrid-engine/config.toml
  HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5 hybrid-engine run
"""


_CAPTURE = """Each line of FILE is {"received_at": seconds UTC, "frame": the text as it came}. NAME is a [[source]] of
ws_sources.toml beside the configuration, or "mock" for engine.ws_url in MOCK_WS. Nothing is decoded into the file and
nothing left out; no database is touched, so the engine may run meanwhile. Ctrl-C ends it, and keeps what was recorded.

exit codes:
  0   the time is over, or it was asked to stop
  10  the source failed; what came before is kept
  12  the command line or the configuration is wrong, or FILE is there already
  14  FILE cannot be written any more; what is whole in it is kept

examples:
  hybrid-engine capture --source coinbase --seconds 60 --out coinbase.jsonl
  hybrid-engine capture --config ./config.toml --source gemini --seconds 3600 --out night.jsonl
  python -m proofs.mock_exchange --capture coinbase.jsonl --speed 10      (plays it, from a checkout)
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse's own 2 would be restarted for ever; a wrong command line is the operator's mistake.
        raise ConfigError(f"command line: {message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hybrid-engine",
        description="A market-data and shadow-trading engine: ingest -> strategy -> execution -> persist.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run | config | health | capture | version")
    file = _Parser(add_help=False)
    file.add_argument(
        "--config", metavar="FILE", help=f"configuration file (default: {load.DEFAULT_PATH}, if it exists)"
    )
    override = _Parser(add_help=False)
    override.add_argument("--mode", help="SHADOW (default), PAPER or LIVE")
    override.add_argument("--seconds", help="stop after so many seconds (0: never)")
    override.add_argument("--db", metavar="FILE", help="database file")
    override.add_argument("--ingest", metavar="MODE", help="SYNTHETIC, REPLAY, MOCK_WS or REAL_WS")
    override.add_argument("--ws-url", metavar="URL", help="the exchange of MOCK_WS")
    override.add_argument("--sample-every", metavar="N", help="keep each Nth trade of a symbol")
    commands.add_parser(
        "run",
        parents=[file, override],
        help="run the engine until SIGTERM, SIGINT or --seconds",
        description="Run the engine. SIGTERM and SIGINT drain and stop it, SIGHUP re-reads the configuration.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show = commands.add_parser("config", help="check or show the configuration in force")
    shows = show.add_subparsers(dest="config_command", required=True, metavar="check | show")
    shows.add_parser("check", parents=[file, override], help="validate, and print each value with where it came from")
    shows.add_parser(
        "show", parents=[file, override], help="print the effective configuration as a commented TOML file"
    )
    health = commands.add_parser(
        "health",
        parents=[file],
        help="exit 0 when the engine is healthy, 1 when it is not",
        description="Is the engine well? Asked of its database and of systemd, in constant time.",
        epilog="docs/operations.md says what each check means and what --json prints.",
    )
    health.add_argument("--json", action="store_true", help="print the checks and the newest run's counters as JSON")
    health.add_argument(
        "--unit",
        metavar="NAME",
        help="the unit that has to be active, none for '' (default: hybrid-engine.service; with --config none)",
    )
    capture = commands.add_parser(
        "capture",
        parents=[file],
        help="record the frames of a source as they come",
        description="Record the frames of one source, over the same connection as the engine's.",
        epilog=_CAPTURE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    capture.add_argument("--source", metavar="NAME", required=True, help="which of the configured sources")
    capture.add_argument("--seconds", metavar="N", required=True, help="for how long")
    capture.add_argument("--out", metavar="FILE", required=True, help="a new file; one that exists is not overwritten")
    version = commands.add_parser("version", help="print the version and the release")
    version.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


def _read(args: argparse.Namespace) -> load.Config:
    given = {key: getattr(args, name, None) for name, key in _OVERRIDES.items()}
    overrides = {key: value for key, value in given.items() if value is not None}
    return load.load(Path(args.config) if args.config is not None else None, overrides)


def _load(args: argparse.Namespace) -> load.Config:
    """The configuration, if an engine may run with it."""
    loaded = _read(args)
    if loaded.settings.mode == "LIVE":
        from hybrid_engine import live_gate  # what it needs to check a signature, no other mode loads

        live_gate.check(loaded)
    return loaded


def _adapter(loaded: load.Config) -> ExecutionAdapter:
    if loaded.settings.mode == "LIVE":
        from hybrid_engine import live_gate

        return live_gate.load_adapter(loaded)
    return WITHOUT_NETWORK[loaded.settings.mode]


def _run(args: argparse.Namespace) -> int:
    log = journal.Logger("hybrid_engine")
    try:
        from hybrid_engine.engine import Engine

        loaded = _load(args)
        Engine(loaded, _adapter(loaded), reload=lambda: _load(args)).run()
    except EngineError as error:
        log.error(str(error), exit_code=int(error.code), exit_name=error.code.name)
        return int(error.code)
    except Exception as error:  # noqa: BLE001 - a bug: say so with its traceback, exit 1
        log.error(f"bug: {type(error).__name__}: {error}", exit_code=1, traceback=traceback.format_exc())
        return int(Exit.BUG)
    return int(Exit.COMPLETE)


def _config(args: argparse.Namespace) -> int:
    loaded = _load(args)
    if args.config_command == "show":
        print(_as_toml(loaded))
        return 0
    from hybrid_engine.stages.strategy import load as load_strategy

    load_strategy(loaded.settings.engine)  # what `run` would refuse, `check` refuses
    width = max(map(len, loaded.values))
    for name, value in loaded.values.items():
        print(f"{name:<{width}} = {json.dumps(value):<32} # {loaded.origins[name]}")
    for source in loaded.sources:
        symbols = ", ".join(source.symbols) or "(own symbols)"
        print(f"source {source.name}: {source.kind} {symbols} priority {source.priority} {source.url}")
    print(f"config digest {loaded.digest}")
    return 0


def _as_toml(loaded: load.Config) -> str:
    lines: list[str] = []
    section = ""
    for name, value in sorted(loaded.values.items(), key=lambda item: item[0].rpartition(".")[0]):
        table, _, key = name.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        meta = load.KEYS[name].metadata
        reload = " (SIGHUP applies it)" if meta["reloadable"] else ""
        # JSON's texts are TOML's, but for pairs of surrogates and for DEL
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        lines += [f"# {meta['doc']}{reload}", f"{key} = {text}"]
    return "\n".join(lines)


def _health(args: argparse.Namespace) -> int:
    from hybrid_engine.health import look

    unit = args.unit
    if unit is None and args.config is None and SYSTEMD.is_dir():
        unit = "hybrid-engine.service"
    health = look(_read(args), unit or None)  # how an engine is, is no question for the gate
    if args.json:
        print(json.dumps(health.as_json()))
    else:
        for check in health.checks:
            print(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    return 0 if health.healthy else 1


def _capture(args: argparse.Namespace) -> int:
    from hybrid_engine.ingest.capture import Capture, find_source, parse_seconds

    loaded = load.load(Path(args.config) if args.config is not None else None)
    source, out = find_source(loaded, args.source), Path(args.out)
    settings = loaded.settings
    try:
        Capture(source, settings.app.symbol, settings.engine.dead_after_s, parse_seconds(args.seconds), out).run()
    except (NetworkError, StorageError) as error:
        print(f"hybrid-engine: {error}", file=sys.stderr)
        return int(error.code)
    return int(Exit.COMPLETE)


def _version(args: argparse.Namespace) -> int:
    from hybrid_engine.runtime.release import this_release

    release = this_release()
    if args.json:
        about = {"version": release.version, "release_name": release.name, "release_digest": release.digest}
        print(json.dumps(about))
    else:
        print(f"hybrid-engine {__version__} ({release.name})")
    return 0


def _open_standard_streams() -> None:
    """A stream closed by whoever started us becomes /dev/null, before a database takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w"))  # noqa: SIM115 - for the process's life


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The command `hybrid-engine`."""
    commands = {"run": _run, "config": _config, "health": _health, "capture": _capture, "version": _version}
    _open_standard_streams()
    code = 0
    try:
        args = _parser().parse_args(argv)
        code = commands[args.command](args)
    except ConfigError as error:
        print(f"hybrid-engine: {error}", file=sys.stderr)
        code = int(error.code)
    except BrokenPipeError:
        pass  # whoever read the output has gone, as `hybrid-engine config show | head` does
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody reads, or the disk is full: that changes nothing about how the run ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if any(thread.name.startswith(("connect-", "checkpointer")) for thread in threading.enumerate()):
        # OpenSSL cleans up at an ordinary end, and a thread that still connects crashes in it (seen: SIGSEGV).
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
