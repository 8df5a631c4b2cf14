"""The settings: every key with its default, its bounds and what it is for.

Only data and its shape live here; `config` reads files and the environment into it. Times end in their unit.
"""

from dataclasses import dataclass, field
from typing import Any

MODES = ("SHADOW", "PAPER", "LIVE")
INGEST_MODES = ("SYNTHETIC", "REPLAY", "MOCK_WS", "REAL_WS")

# Keys of the first system that have another name here.
REPLACED = {
    "channels.tick_channel_size": "channels.tick",
    "channels.signal_channel_size": "channels.signal",
    "channels.persist_channel_size": "channels.persist",
}


def key(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    reloadable: bool = False,
) -> Any:
    """A setting: bounds are inclusive, `choices` are read in either case, `reloadable` ones change on SIGHUP."""
    meta = {"doc": doc, "low": low, "high": high, "choices": choices, "reloadable": reloadable}
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What is traded, and where it is stored."""

    symbol: str = key("BTC/USD", "symbol of ticks whose frames and source name none")
    db_path: str = key("/var/lib/hybrid-engine/hybrid.db", "the database file; relative to the working directory")


@dataclass(frozen=True, slots=True)
class ReplayFrom:
    """The earlier run that REPLAY plays again."""

    database: str = key("", "database file of the earlier run")
    run: int = key(0, "the run's id in that database (table runs)", low=0, high=10**12)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Where ticks come from, and what becomes of them: every time limit and threshold."""

    ingest_mode: str = key("SYNTHETIC", "where ticks come from", choices=INGEST_MODES)
    tick_interval_ms: int = key(500, "SYNTHETIC: time between two ticks", low=1, high=3_600_000)
    seed: int = key(1, "SYNTHETIC: the walk's seed; the same seed gives the same prices", low=0, high=10**12)
    start_price: float = key(100.0, "SYNTHETIC: first price", low=1e-9, high=1e12)
    price_step: float = key(0.05, "SYNTHETIC: largest change from tick to tick", low=0, high=1e12)
    volume: float = key(1.0, "SYNTHETIC: size of every tick", low=1e-12, high=1e12)
    replay_from: ReplayFrom = field(default_factory=ReplayFrom)
    ws_url: str = key("", "MOCK_WS: where the exchange listens, ws:// or wss://")
    sources_file: str = key("ws_sources.toml", "REAL_WS: the sources; relative to the config file")
    ca_file: str = key("", "certificates to trust instead of the system's, for every source that names none")
    sample_every: int = key(1, "keep each Nth trade of a symbol", low=1, high=1_000_000, reloadable=True)
    strategy: str = key("periodic", 'what makes signals: "periodic" or "module:factory"')
    signal_every_n_ticks: int = key(10, "periodic: a signal every N ticks", low=1, high=1_000_000)
    run_seconds: float = key(0.0, "stop after so long, 0 for never", low=0, high=1e9)
    heartbeat_interval_secs: float = key(10.0, "time between two HEARTBEAT lines", low=0.1, high=3600)
    log_level: str = key(
        "INFO", "least level that is printed", choices=("DEBUG", "INFO", "WARN", "ERROR"), reloadable=True
    )
    dead_after_s: float = key(
        20.0,
        "a source that sends nothing at all for so long, no pong either, failed",
        low=0.5,
        high=3600,
        reloadable=True,
    )
    stale_after_s: float = key(
        60.0,
        "a source that does not trade for so long while another one of the symbol does is left; where none does, the "
        "market is quiet",
        low=0.5,
        high=86400,
        reloadable=True,
    )
    standby: str = key(
        "cold",
        "hot: the next source is connected as well and takes over with its newest trades",
        choices=("cold", "hot"),
        reloadable=True,
    )
    failback_after_s: float = key(
        60.0,
        "a better source is gone back to once it was useful for so long beside the one in use",
        low=0.5,
        high=86400,
        reloadable=True,
    )
    network_deadline_s: float = key(
        120.0,
        "no usable source for so long: exit 10, or 11 when all sent garbage",
        low=0.5,
        high=86400,
        reloadable=True,
    )
    parse_error_limit: int = key(
        20, "so many undecodable trade frames in a row, and a source failed", low=1, high=1_000_000, reloadable=True
    )
    admit_wait_ms: float = key(
        50.0, "how long ingest waits for room before the oldest tick is dropped", low=0, high=1000, reloadable=True
    )
    overload_after_s: float = key(
        10.0, "commits blocked, or drops in every second, for so long: exit 13", low=0.5, high=3600, reloadable=True
    )
    storage_deadline_s: float = key(
        30.0, "the database cannot be opened or written for so long: exit 14", low=0, high=60, reloadable=True
    )
    psi_actions: str = key(
        "on",
        "pressure: on throttles, logonly says what it would do, off reads nothing",
        choices=("on", "logonly", "off"),
        reloadable=True,
    )
    psi_path: str = key(
        "",
        "pressure: directory of cpu.pressure, memory.pressure, io.pressure; empty for the unit's own cgroup",
        reloadable=True,
    )
    psi_cpu_limit: float = key(
        20.0, "pressure: percent of time stalled for CPU (avg10) that is borne", low=1, high=100, reloadable=True
    )
    psi_memory_limit: float = key(
        10.0, "pressure: percent of time stalled for memory (avg10) that is borne", low=1, high=100, reloadable=True
    )
    psi_io_limit: float = key(
        15.0, "pressure: percent of time stalled for I/O (avg10) that is borne", low=1, high=100, reloadable=True
    )
    psi_trip_s: float = key(
        10.0, "pressure: over a limit for so long, one step up the ladder", low=0, high=3600, reloadable=True
    )
    psi_calm_s: float = key(
        60.0, "pressure: all under half their limit for so long, one step down", low=0, high=86400, reloadable=True
    )
    psi_cooldown_s: float = key(30.0, "pressure: no step so soon after another", low=0, high=3600, reloadable=True)
    psi_give_up_s: float = key(
        300.0,
        "pressure: at the top and still over a limit for so long, the decision ABORT is logged; the engine goes on",
        low=0,
        high=86400,
        reloadable=True,
    )
    batch_rows: int = key(100, "commit when so many rows wait", low=1, high=100_000, reloadable=True)
    flush_interval_ms: float = key(
        1000.0, "commit at the latest so long after a row came", low=1, high=60_000, reloadable=True
    )
    durability: str = key(
        "normal", "normal: survives a crash of the process; power: survives a power cut", choices=("normal", "power")
    )
    retention_days: float = key(
        0.0, "delete what is older, when idle; 0 keeps everything; not in REPLAY", low=0, high=36_500, reloadable=True
    )


@dataclass(frozen=True, slots=True)
class RiskCaps:
    """What an order may not exceed; one that would is stored as REJECTED."""

    max_exposure_usd: float = key(10_000.0, "cap on gross exposure, in quote currency", low=1e-9, high=1e15)
    max_symbol_exposure_usd: float = key(
        5_000.0, "cap on one symbol's exposure, in quote currency", low=1e-9, high=1e15
    )
    max_open_orders: int = key(10, "cap on orders that rest at an exchange", low=1, high=1_000_000)


@dataclass(frozen=True, slots=True)
class ChannelSizes:
    """How much may wait between two stages, in events."""

    tick: int = key(256, "events that may wait in front of strategy", low=1, high=1_000_000)
    signal: int = key(
        64, "events that may wait in front of execution (a tick and its signal fit)", low=2, high=1_000_000
    )
    persist: int = key(
        512, "events that may wait in front of persist (a tick, signal, order, trade fit)", low=4, high=1_000_000
    )


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """The read-only page."""

    host: str = key("127.0.0.1", "address of the read-only page")
    port: int = key(8501, "port of the read-only page", low=1, high=65535)
    refresh_seconds: float = key(1.0, "how often the page reads the database", low=0.1, high=3600)


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration of one process."""

    mode: str = key("SHADOW", "what execution does with orders", choices=MODES)
    live_armed: bool = key(False, "first of LIVE's conditions")
    proof_bundle: str = key("", "LIVE: directory of statement.json and statement.sig, the proof that opens it")
    proof_max_age_h: float = key(168.0, "LIVE: hours after which a proof is too old", low=0.01, high=8760)
    app: AppSettings = field(default_factory=AppSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    risk_caps: RiskCaps = field(default_factory=RiskCaps)
    channels: ChannelSizes = field(default_factory=ChannelSizes)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)


# What arming LIVE changes must not void the proof that arming needs, so these are no part of the config's digest.
NOT_IN_DIGEST = frozenset({"mode", "live_armed", "proof_bundle", "proof_max_age_h"})
