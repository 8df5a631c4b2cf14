"""Faults of the process: storage, retention, configuration, gate of LIVE, pressure, log, exit codes, layers."""

from tests.mutations.fault import in_file

_SOURCE = "it is about the source, not about what runs"
_LIVE = "the way into LIVE needs a signed bundle of the host, which a proof's run does not have yet"
_AFTER = 'con.execute(f"PRAGMA busy_timeout = {TRY_MS}")\n'
_REFERENCES = "no row of the engine has a reference that is missing"
_ROLLED_BACK = "SQLite itself rolls back where a disk is full or fails, and nothing else ends a transaction on a host"
_LAYER = "from typing import NamedTuple\n"


def _undone(pragma: str) -> str:
    """A PRAGMA that is set to something else once it was read back."""
    return f'{_AFTER}    con.execute("PRAGMA {pragma}")\n'


FAULTS = (
    *in_file(
        "hybrid_engine/storage/database.py",
        ("synchronous-off-after-check", "S1", _AFTER, _undone("synchronous = 0")),
        ("foreign-keys-off-after-check", "S1", _AFTER, _undone("foreign_keys = 0"), _REFERENCES),
        (
            "temp-store-on-disk-after-check",
            "S1",
            _AFTER,
            _undone("temp_store = 1"),
            "no statement of the engine needs a temporary table",
        ),
        ("synchronous-off", "S1", 'SYNCHRONOUS = {"normal": 1', 'SYNCHRONOUS = {"normal": 0'),
        (
            "pragmas-not-compared",
            "G3",
            "if actual[pragma] != value:",
            "if actual[pragma] is None:",
            "SQLite refuses none of these PRAGMAs on a host",
        ),
        ("database-not-checked", "G3", "        if size:\n", "        if size > 2**40:\n"),
        ("second-writer-allowed", "G3", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
        (
            "lock-is-a-failure",
            "G5",
            "_LOCKS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)",
            "_LOCKS = (sqlite3.SQLITE_LOCKED,)",
        ),
        ("transaction-not-rolled-back", "CHAINS", 'con.execute("ROLLBACK")', 'con.execute("COMMIT")', _ROLLED_BACK),
        ("writer-waits-5-s-for-a-lock", "I6", "TRY_MS = 250", "TRY_MS = 5000"),
    ),
    *in_file(
        "hybrid_engine/storage/schema.py",
        (
            "foreign-database-accepted",
            "G3",
            "    if application_id != APPLICATION_ID:",
            "    if application_id and application_id != APPLICATION_ID:",
        ),
        ("corrupt-database-accepted", "G3", '    if result != "ok":', "    if not result:"),
        ("start-checks-the-whole-database", "GROWTH", "CHECK_S = 0.02", "CHECK_S = 600.0"),
    ),
    *in_file(
        "hybrid_engine/storage/retention.py",
        ("retention-halved", "RETENTION", "round(days * DAY_MS)", "round(days * DAY_MS / 2)"),
        (
            "retention-takes-one-more",
            "RETENTION",
            "ends = old[0][0], old[-1][0]\n",
            "ends = old[0][0], old[-1][0] + 1\n",
        ),
        (
            "retention-not-counted",
            "RETENTION",
            "ticks_expired = ticks_expired + ?",
            "ticks_expired = ticks_expired + 0 * ?",
        ),
        (
            "young-gaps-deleted",
            "RETENTION",
            "lambda row: row[1] is None or row[1] < cutoff_ms, rows)",
            "lambda row: True, rows)",
        ),
        ("retention-searches-the-table", "GROWTH", "ORDER BY id DESC LIMIT 1", "ORDER BY id + 0 DESC LIMIT 1"),
        (
            "foreign-keys-off-after-retention",
            "S1",
            'con.execute("PRAGMA foreign_keys = ON")',
            'con.execute("PRAGMA foreign_keys")',
            _REFERENCES,
        ),
    ),
    *in_file(
        "hybrid_engine/storage/checkpointer.py",
        (
            "failed-sync-ignored",
            "S13",
            "self.failure = error\n            self._hold_log_open(con)",
            "return not error",
            "a disk that fails to sync cannot be made on a host",
        ),
        ("log-grows-for-ever", "GROWTH", "if self._pages_unmoved >= CHECKPOINT_PAGES:", "if self._pages_unmoved < 0:"),
    ),
    *in_file(
        "hybrid_engine/health.py",
        (
            "health-counts-every-tick",
            "GROWTH",
            '"SELECT * FROM runs ORDER',
            '"SELECT *, (SELECT sum(price) FROM ticks) AS total FROM runs ORDER',
        ),
        ("health-without-accounting", "ACCOUNTING", 'run["received"] == total', 'run["received"] >= 0'),
        (
            "health-of-a-dead-engine",
            "DEPLOY",
            'running = Check("running", age_ms <= allowed_ms',
            'running = Check("running", age_ms <= 1000 * allowed_ms',
        ),
    ),
    *in_file(
        "hybrid_engine/engine.py",
        (
            "ready-before-the-store",
            "S1",
            "store = self._open_store(info)\n",
            'self._notifier.ready("running")\n        store = self._open_store(info)\n',
        ),
        (
            "stuck-and-pinging",
            "WATCHDOG",
            "self._notifier.status(f\"stuck: {', '.join(stuck_stages)}\")",
            "self._notifier.watchdog()",
        ),
        ("no-stacks-when-killed", "WATCHDOG", "faulthandler.enable()", "faulthandler.disable()"),
        ("final-metrics-without-exit-code", "G4", "**fields, exit_code=int(code))", "**fields)"),
        (
            "final-metrics-admit-nothing",
            "G4",
            "fields = {**pipeline.heartbeat_fields(), **self",
            'fields = {**pipeline.heartbeat_fields(), "admitted": 0, **self',
        ),
        (
            "heartbeats-half-as-often",
            "G4",
            "next_heartbeat + engine.heartbeat_interval_secs, now)",
            "next_heartbeat + 2 * engine.heartbeat_interval_secs, now)",
        ),
        ("gaps-open-over-heartbeats", "MISSED", "pipeline.admission.close_gaps(now_ms())\n", "\n"),
        (
            "overload-deadline-tripled",
            "G5",
            "elif now - began >= limit_s:",
            "elif now - began >= 3 * limit_s:",
        ),
        (
            "disk-that-came-back-is-an-overload",
            "G5",
            "            self._measured_from = now\n",
            "            pass\n",
            "the proof's disk comes back with a new process",
        ),
        (
            "lock-never-ends-the-run",
            "G5",
            "if blocked_since is not None and time",
            "if blocked_since is not None and limit_s < 0 and time",
        ),
        (
            "unstored-exits-0",
            "S13",
            "failure = failure or (unstored or late if late is None or isinstance(late, StorageError) else late)",
            "failure = failure or (None if late is None or isinstance(late, StorageError) else late)",
        ),
        ("run-end-not-written", "REBOOT", "store.end_run(int(code), now_ms())", "int(code)"),
        ("reload-keeps-log-level", "RELOAD", "set_level(engine.log_level)\n        self._pressure", "self._pressure"),
        (
            "reload-ignores-throttle",
            "G2",
            "received = pipeline.reload(engine, in_force)",
            "received = pipeline.reload(engine, engine.sample_every)",
        ),
        ("throttle-not-applied", "G2", "if in_force != before:", "if in_force < before:"),
        (
            "refused-reload-ends-the-run",
            "RELOAD",
            'log.error("reload refused, the old configuration stays in force", error=str(error))',
            "raise",
        ),
    ),
    *in_file(
        "hybrid_engine/pressure.py",
        (
            "pressure-of-the-host",
            "G2",
            'read_psi(self._folder, "{}.pressure")',
            'read_psi(self._proc / "pressure", "{}")',
        ),
        (
            "ladder-in-one-jump",
            "G2",
            "return self._move(+1, now, reason)",
            "return self._move(TOP - self.level, now, reason)",
        ),
        ("ladder-never-descends", "G2", "if lasted_s >= engine.psi_calm_s:", "if lasted_s >= 100 * engine.psi_calm_s:"),
        ("unknown-counts-as-calm", "G2", "calm = len(known) == len(KINDS) and all(", "calm = all("),
        ("second-step-keeps-more", "G2", 'Step("THROTTLE2", 10)', 'Step("THROTTLE2", 5)'),
        (
            "no-pause-between-steps",
            "G2",
            "if now - self._moved_at < engine.psi_cooldown_s:",
            "if now < self._moved_at:",
        ),
        ("io-pressure-ignored", "G2", 'KINDS = ("cpu", "memory", "io")', 'KINDS = ("cpu", "memory", "memory")'),
    ),
    *in_file(
        "hybrid_engine/runtime/log.py",
        ("lowest-level-lost", "G4", "if LEVELS[level] < _threshold:", "if LEVELS[level] <= _threshold:"),
        ("warnings-as-debug", "G4", 'warn = partialmethod(_write, "WARN")', 'warn = partialmethod(_write, "DEBUG")'),
        ("errors-as-info", "G4", 'error = partialmethod(_write, "ERROR")', 'error = partialmethod(_write, "INFO")'),
        ("log-line-folded", "G4", 'separators=(",", ":"), default=_describe)', "indent=1, default=_describe)"),
        ("unread-log-ends-the-engine", "G5", "with _lock, suppress(OSError):", "with _lock, suppress(TimeoutError):"),
    ),
    *in_file(
        "hybrid_engine/runtime/errors.py",
        (
            "parse-exits-10",
            "G5",
            "class ParseError(EngineError, code=ExitCode.PARSE)",
            "class ParseError(EngineError, code=ExitCode.NETWORK)",
        ),
        (
            "storage-exits-1",
            "G5",
            "class StorageError(EngineError, code=ExitCode.STORAGE)",
            "class StorageError(EngineError, code=ExitCode.BUG)",
        ),
        (
            "config-exits-1",
            "CONFIG12",
            "class ConfigError(EngineError, code=ExitCode.CONFIG)",
            "class ConfigError(EngineError, code=ExitCode.BUG)",
        ),
        ("refusal-in-many-lines", "CONFIG12", '" ".join(text.splitlines())', "text"),
    ),
    *in_file(
        "hybrid_engine/runtime/systemd.py",
        (
            "pings-lost-in-a-full-socket",
            "WATCHDOG",
            'watchdog = partialmethod(_send, "WATCHDOG=1")',
            'watchdog = partialmethod(_send, "WATCHDOG=0")',
        ),
        ("watchdog-time-ignored", "WATCHDOG", "int(usec) / 1e6 if usec", "60.0 + int(usec) / 1e6 if usec"),
    ),
    *in_file(
        "hybrid_engine/cli.py",
        ("bug-exits-0", "G5", "return int(ExitCode.BUG)", "return int(ExitCode.COMPLETE)"),
        (
            "usage-exits-2",
            "CONFIG12",
            'raise ConfigError(f"command line: {message}; see `{self.prog} --help`")',
            "self.exit(2, message)",
        ),
        (
            "reload-into-live-ungated",
            "G1",
            "reload=lambda: _load_runnable_config(args)",
            "reload=lambda: _load_config(args)",
        ),
        (
            "armed-shadow-has-no-own-adapter",
            "S9",
            "= WITHOUT_NETWORK.get(config.settings.mode)\n",
            "= None if config.settings.live_armed else WITHOUT_NETWORK.get(config.settings.mode)\n",
        ),
        (
            "unreadable-config-is-default",
            "CONFIG12",
            "return load_config(args.config, overrides)",
            "return load_config(args.config if args.config and args.config.exists() else None, overrides)",
        ),
    ),
    *in_file(
        "hybrid_engine/config/settings.py",
        ("paper-is-the-default", "G0", 'mode: str = key(\n        "SHADOW",', 'mode: str = key(\n        "PAPER",'),
        ("armed-by-default", "G1", "live_armed: bool = key(False", "live_armed: bool = key(True"),
        (
            "tick-channel-may-be-0",
            "CONFIG12",
            'in events", (1, 1_000_000))\n    signal',
            'in events", (0, 1_000_000))\n    signal',
        ),
        ("sampling-may-be-0", "CONFIG12", '1 keeps all", (1, 1_000_000))', '1 keeps all", (0, 1_000_000))'),
        (
            "proof-age-without-bound",
            "CONFIG12",
            'at most so many hours old", (0.01, 8760)',
            'at most so many hours old", (0.01, 1e9)',
        ),
        ("log-level-needs-restart", "RELOAD", "log_level: str = on_sighup(", "log_level: str = key("),
        ("proof-age-a-year", "G1", "PROOF_MAX_AGE_H = 168.0", "PROOF_MAX_AGE_H = 8760.0"),
        (
            "caps-not-in-digest",
            "G1",
            'NOT_IN_DIGEST = frozenset({"mode",',
            'NOT_IN_DIGEST = frozenset({"risk_caps.max_exposure_usd", "mode",',
        ),
    ),
    *in_file(
        "hybrid_engine/config/load.py",
        (
            "bounds-unchecked",
            "CONFIG12",
            "if not valid or not low <= value <= high or not math",
            "if not valid or not math",
        ),
        ("upper-bounds-unchecked", "CONFIG12", "not low <= value <= high", "value < low"),
        ("choices-unchecked", "CONFIG12", "if by_name and name not in by_name:", "if by_name and not name:"),
        ("unknown-keys-pass", "CONFIG12", "    if name not in KEYS:\n", "    if name not in KEYS and not name:\n"),
        ("refusal-without-allowed", "CONFIG12", "must be {kind} from {low:.15g} to {high:.15g}", "is wrong"),
        (
            "paper-without-a-file",
            "G0",
            "values = {name: item.default for name, item in KEYS.items()}",
            'values = {name: item.default for name, item in KEYS.items()} | ({} if path else {"mode": "PAPER"})',
        ),
        (
            "paper-with-a-command-line",
            "G0",
            "values = {name: item.default for name, item in KEYS.items()}",
            'values = {name: item.default for name, item in KEYS.items()} | ({"mode": "PAPER"} if overrides else {})',
        ),
    ),
    *in_file(
        "hybrid_engine/runtime/unit.py",
        ("gate-takes-other-environments", "G1", "if name not in OF_ONE_PROCESS]", 'if name == "PATH"]'),
        ("gate-takes-unread-files", "G1", 'if shown["NeedDaemonReload"] != "no":', 'if not shown["NeedDaemonReload"]:'),
        ("gate-takes-other-drop-ins", "G1", " {shown['DropInPaths']}\".split()", '".split()'),
    ),
    *in_file(
        "hybrid_engine/config/limits.py",
        (
            "deadline-of-a-day-is-no-matter",
            "G5",
            '"engine.network_deadline_s", "G5", (5, 600)',
            '"engine.network_deadline_s", "G5", (5, 86400)',
        ),
    ),
    *in_file(
        "hybrid_engine/live_gate.py",
        ("gate-needs-no-arming", "G1", "if not config.settings.live_armed:", "if config.settings.live_armed is None:"),
        ("gate-takes-any-signature", "G1", "if verified.returncode == 0:", "if verified.returncode >= 0:", _LIVE),
        ("gate-takes-any-age", "G1", "if age_s > max_age_h * 3600:", "if age_s > max_age_h * 3600e6:"),
        ("gate-takes-the-future", "G1", "if age_s < -CLOCK_SLACK_S:", "if age_s < -1e9 * CLOCK_SLACK_S:"),
        (
            "gate-takes-other-hosts",
            "G1",
            'if not machine_id or predicate["host"]["machine_id"] != machine_id:',
            "if not machine_id:",
        ),
        ("gate-takes-other-configurations", "G1", "if config.digest != config_digest:", "if not config_digest:"),
        ("gate-takes-other-releases", "G1", "if release.digest != release_digest:", "if not release_digest:"),
        (
            "gate-takes-other-units",
            "G1",
            'if unit.digest(parts) != statement["subject"][2]["digest"]["sha256"]:',
            'if not statement["subject"][2]["digest"]["sha256"]:',
        ),
        ("gate-takes-other-authorities", "G1", "[*unit.unit_parts(), *held_files(config)]", "unit.unit_parts()"),
        ("gate-takes-void-guarantees", "G1", "if void := void_guarantees(config.values):", "if void := ():"),
        ("gate-without-crash", "G1", '"failover", "crash", "overload"', '"failover", "overload"'),
        ("gate-without-hardening", "G1", '"rollback", "hardening"),', '"rollback"),'),
        ("gate-without-shadow", "G1", '"stop", "shadow", "gate"', '"stop", "gate"'),
        (
            "gate-takes-void-proofs",
            "G1",
            'if proof["mutant"]["verdict"] != "FAIL":',
            'if proof["mutant"]["verdict"] == "PASS":',
        ),
        ("gate-takes-unrestored-hosts", "G1", 'if proof["restored"] is not True:', 'if proof["restored"] is False:'),
        ("gate-takes-inconclusive", "G1", 'if proof["verdict"] != "PASS":', 'if proof["verdict"] == "FAIL":'),
        (
            "gate-takes-inconclusive-runs",
            "G1",
            'if predicate["verdict"] != "PASS":',
            'if predicate["verdict"] == "FAIL":',
        ),
        ("gate-takes-signers-of-the-group", "G1", "& (stat.S_IWGRP | stat.S_IWOTH) and", "& stat.S_IWOTH and"),
        ("gate-takes-repeated-keys", "G1", "if len(values) != len(pairs):", "if len(values) > len(pairs):"),
        (
            "gate-takes-repeated-proofs",
            "G1",
            'if len(proofs) != len(predicate["proofs"]):',
            'if len(proofs) > len(predicate["proofs"]):',
        ),
        ("gate-takes-no-release", "G1", "if release.digest == UNRELEASED:", 'if release.digest == "":'),
        (
            "gate-takes-other-statements",
            "G1",
            'if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:',
            'if statement["_type"] != STATEMENT_TYPE:',
        ),
        (
            "gate-of-another-purpose",
            "G1",
            '"verify", "-I", name, "-n", NAMESPACE)',
            '"check-novalidate", "-n", NAMESPACE)',
            _LIVE,
        ),
    ),
    *in_file(
        "hybrid_engine/domain/events.py",
        ("domain-imports-storage", "LAYERS", _LAYER, f"{_LAYER}\nimport hybrid_engine.storage\n", _SOURCE),
    ),
    *in_file(
        "hybrid_engine/exchanges/gemini.py",
        (
            "exchange-imports-ingest",
            "LAYERS",
            '            case {"e": str()} |',
            '            case {"import": _}:\n                import hybrid_engine.ingest.failure  # noqa: F401\n'
            '            case {"e": str()} |',
            _SOURCE,
        ),
    ),
    *in_file(
        "hybrid_engine/stages/risk.py",
        (
            "stage-imports-engine",
            "LAYERS",
            "        self.open_orders = 0",
            "        from hybrid_engine import health  # noqa: F401\n\n        self.open_orders = 0",
            _SOURCE,
        ),
    ),
    *in_file(
        "proofs/verdict.py",
        (
            "verdict-imports-engine",
            "OUTSIDE",
            "class Verdict(StrEnum):",
            "import hybrid_engine\n\n\nclass Verdict(StrEnum):",
            _SOURCE,
        ),
    ),
    *in_file(
        "proofs/host/lock.py",
        (
            "host-imports-engine",
            "OUTSIDE",
            "import fcntl\n",
            "import fcntl\n\nimport hybrid_engine.config.settings\n",
            _SOURCE,
        ),
    ),
    *in_file(
        "proofs/evidence/atomic_file.py",
        (
            "evidence-imports-engine",
            "OUTSIDE",
            "import os\n",
            "import os\n\nfrom hybrid_engine.runtime import clock\n",
            _SOURCE,
        ),
    ),
)
