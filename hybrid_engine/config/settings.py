"""The settings: every key of the configuration with its default, its bounds and its description.

`load.py` fills them from files, the environment and the command line. The name of a time ends in its unit. The
descriptions are printed by `hybrid-engine config show` and in docs/config.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

# Keys of the first system that have another name now.
REPLACED = {
    "channels.tick_channel_size": "channels.tick",
    "channels.signal_channel_size": "channels.signal",
    "channels.persist_channel_size": "channels.persist",
}

PROOF_MAX_AGE_H = 168.0


def key(
    default: Any,
    doc: str,
    bounds: tuple[Any, Any] = (None, None),
    choices: Sequence[str] = (),
    reloadable: bool = False,
) -> Any:
    """A setting: `bounds`, the lowest and the highest value, are inclusive; `choices` are not case-sensitive."""
    meta = {"doc": doc, "low": bounds[0], "high": bounds[1], "choices": choices, "reloadable": reloadable}
    return field(default=default, metadata=meta)


on_sighup = partial(key, reloadable=True)  # a setting that can be changed while the engine runs


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The default symbol and the database."""

    symbol: str = key("BTC/USD", "symbol of ticks when neither their frames nor their source name one")
    db_path: str = key(
        "/var/lib/hybrid-engine/hybrid.db", "the database file; a relative path is relative to the working directory"
    )


@dataclass(frozen=True, slots=True)
class ReplayFrom:
    """The earlier run that REPLAY repeats."""

    database: str = key("", "REPLAY: database file of the earlier run")
    run: int = key(0, "REPLAY: id of the earlier run in that database (table runs)", (0, 10**12))


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where ticks come from and how they are processed: every time limit and threshold."""

    ingest_mode: str = key(
        "SYNTHETIC",
        "where ticks come from: SYNTHETIC a random walk, REPLAY an earlier run, MOCK_WS one exchange at ws_url, "
        "REAL_WS the exchanges of sources_file",
        choices=("SYNTHETIC", "REPLAY", "MOCK_WS", "REAL_WS"),
    )
    tick_interval_ms: int = key(500, "SYNTHETIC: milliseconds between two ticks", (1, 3_600_000))
    seed: int = key(1, "SYNTHETIC: seed of the random walk; the same seed gives the same prices", (0, 10**12))
    start_price: float = key(100.0, "SYNTHETIC: first price", (1e-9, 1e12))
    price_step: float = key(0.05, "SYNTHETIC: largest change of the price from tick to tick", (0, 1e12))
    volume: float = key(1.0, "SYNTHETIC: size of every tick", (1e-12, 1e12))
    replay_from: ReplayFrom = field(default_factory=ReplayFrom)
    ws_url: str = key("", "MOCK_WS: URL of the exchange, ws:// or wss://")
    sources_file: str = key(
        "ws_sources.toml", "REAL_WS: file of the sources; a relative path is relative to the config file's directory"
    )
    ca_file: str = key(
        "",
        "file of CA certificates to trust instead of the system's, for every source that has no ca_file of its own;"
        " a relative one is relative to this file",
    )
    sample_every: int = on_sighup(1, "sampling: keep every Nth trade of each symbol; 1 keeps all", (1, 1_000_000))
    strategy: str = key("periodic", 'the strategy: "periodic", or "module:factory" for one of your own')
    signal_every_n_ticks: int = key(10, "strategy periodic: a signal every N ticks", (1, 1_000_000))
    run_seconds: float = key(0.0, "stop the run after so many seconds; 0: never", (0, 1e9))
    heartbeat_interval_secs: float = key(10.0, "seconds between two HEARTBEAT log lines", (0.1, 3600))
    log_level: str = on_sighup("INFO", "lowest level of log lines to print", choices=("DEBUG", "INFO", "WARN", "ERROR"))
    dead_after_s: float = on_sighup(
        20.0,
        "a source has failed (is dead) when nothing at all, not even a pong, arrives from it for so many seconds",
        (0.5, 3600),
    )
    stale_after_s: float = on_sighup(
        60.0,
        "a source is left (is stale) when it delivers no trade of a symbol for so many seconds while another source "
        "does; when no source does, the market is quiet",
        (0.5, 86400),
    )
    never_traded_after_s: float = on_sighup(
        600.0,
        "tell of a symbol, once, that a source in use has brought no trade of in so many seconds since it was asked"
        " for it; 0: never",
        (0, 1e6),
    )
    silent_after_s: float = on_sighup(
        0.0,
        "the same since its last trade, for a market that is never that quiet; a source, or a symbol of it, may have a"
        " limit of its own in sources_file; 0: never",
        (0, 1e6),
    )
    standby: str = on_sighup(
        "cold",
        "hot: the next source is connected too, and its newest trades are used when it takes over; cold: it is not",
        choices=("cold", "hot"),
    )
    failback_after_s: float = on_sighup(
        60.0,
        "return to a source of higher priority after it has delivered for so many seconds beside the active one",
        (0.5, 86400),
    )
    network_deadline_s: float = on_sighup(
        120.0,
        "exit 10 when no source was usable for so many seconds; 11 when all sent frames that do not decode",
        (0.5, 86400),
    )
    parse_error_limit: int = on_sighup(
        20, "a source has failed after so many undecodable trade frames in a row", (1, 1_000_000)
    )
    admit_wait_ms: float = on_sighup(
        50.0, "milliseconds that ingest waits for room in the tick channel before it drops the oldest tick", (0, 1000)
    )
    overload_after_s: float = on_sighup(
        10.0,
        "exit 13 when ticks were dropped in every second, or commits blocked by a lock, for so many seconds",
        (0.5, 3600),
    )
    storage_deadline_s: float = on_sighup(
        30.0, "exit 14 when the database could not be opened or written for so many seconds", (0, 60)
    )
    psi_actions: str = on_sighup(
        "on",
        "pressure (PSI): on throttles the sampling, logonly only logs what it would do, off reads no pressure",
        choices=("on", "logonly", "off"),
    )
    psi_path: str = on_sighup(
        "",
        "pressure: directory of the files cpu.pressure, memory.pressure and io.pressure; empty: the unit's own cgroup",
    )
    psi_cpu_limit: float = on_sighup(20.0, "pressure: limit for CPU, in percent of time stalled (some avg10)", (1, 100))
    psi_memory_limit: float = on_sighup(
        10.0, "pressure: limit for memory, in percent of time stalled (some avg10)", (1, 100)
    )
    psi_io_limit: float = on_sighup(15.0, "pressure: limit for I/O, in percent of time stalled (some avg10)", (1, 100))
    psi_trip_s: float = on_sighup(
        10.0, "pressure: one step up the throttle ladder when a limit is exceeded for so many seconds", (0, 3600)
    )
    psi_calm_s: float = on_sighup(
        60.0, "pressure: one step down when every kind is under half its limit for so many seconds", (0, 86400)
    )
    psi_cooldown_s: float = on_sighup(30.0, "pressure: at least so many seconds between two steps", (0, 3600))
    psi_give_up_s: float = on_sighup(
        300.0,
        "pressure: log the decision ABORT when a limit is exceeded for so many seconds on the top step; the engine "
        "continues",
        (0, 86400),
    )
    batch_rows: int = on_sighup(1000, "commit when so many rows are waiting", (1, 100_000))
    flush_interval_ms: float = on_sighup(
        1000.0, "commit at the latest so many milliseconds after the first waiting row", (1, 60_000)
    )
    durability: str = key(
        "normal",
        "normal: committed rows survive a crash of the process; power: they survive a power cut too",
        choices=("normal", "power"),
    )
    retention_days: float = on_sighup(
        0.0,
        "delete rows that are older than so many days, while the engine is idle; 0 keeps everything; not in REPLAY",
        (0, 36_500),
    )


@dataclass(frozen=True, slots=True)
class RiskCaps:
    """The risk caps. An order that would exceed one is stored as REJECTED."""

    max_exposure_usd: float = key(10000.0, "risk cap: gross exposure over all symbols, in quote currency", (1e-9, 1e15))
    max_symbol_exposure_usd: float = key(5_000.0, "risk cap: exposure of one symbol, in quote currency", (1e-9, 1e15))
    max_open_orders: int = key(10, "risk cap: number of orders that rest at an exchange", (1, 1_000_000))


@dataclass(frozen=True, slots=True)
class ChannelSizes:
    """The capacities of the channels, in events."""

    tick: int = key(256, "capacity of the tick channel, between ingest and strategy, in events", (1, 1_000_000))
    signal: int = key(
        64,
        "capacity of the channel between strategy and execution, in events; a tick and its signal must fit",
        (2, 1_000_000),
    )
    persist: int = key(
        512,
        "capacity of the channel between execution and persist, in events; a tick, signal, order and trade must fit",
        (4, 1_000_000),
    )


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """The read-only dashboard."""

    host: str = key("127.0.0.1", "address of the read-only dashboard")
    port: int = key(8501, "port of the read-only dashboard", (1, 65535))
    refresh_seconds: float = key(1.0, "seconds between two reads of the database", (0.1, 3600))


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration of one process."""

    mode: str = key(
        "SHADOW",
        "how orders are executed: SHADOW and PAPER fill at the last price without a network, LIVE by a live adapter",
        choices=("SHADOW", "PAPER", "LIVE"),
    )
    live_armed: bool = key(False, "LIVE: must be true, the first of its conditions")
    proof_bundle: str = key("", "LIVE: directory of the proof bundle, with statement.json and statement.sig")
    proof_max_age_h: float = key(
        PROOF_MAX_AGE_H, "LIVE: the proof bundle may be at most so many hours old", (0.01, 8760)
    )
    app: AppSettings = field(default_factory=AppSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    risk_caps: RiskCaps = field(default_factory=RiskCaps)
    channels: ChannelSizes = field(default_factory=ChannelSizes)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)


# Arming LIVE changes these keys. They are no part of the config digest, or arming would void the proof that it needs.
NOT_IN_DIGEST = frozenset({"mode", "live_armed", "proof_bundle", "proof_max_age_h"})
