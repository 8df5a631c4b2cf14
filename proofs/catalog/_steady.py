"""The steady states that proofs start from: the unit runs on a scratch config, on mock exchanges or without, and stores
ticks."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from proofs.catalog._checks import last_fields
from proofs.experiment.case import Case, Deployed
from proofs.experiment.exchange import Exchange
from proofs.experiment.subject import Subject, config, sources_of
from proofs.host.unit import State
from proofs.verdict import Json

GOOD = config(ingest_mode="SYNTHETIC", tick_interval_ms=20, flush_interval_ms=100, heartbeat_interval_secs=1)
STEADY_TICKS = 10
UP_S = 15.0  # how long a start may take before it counts as "no steady state"


def steady(subject: Subject, text: str = GOOD) -> None:
    """The unit runs on that scratch config and stores ticks."""
    subject.put("config.toml", text)
    before = subject.store.last_tick()
    subject.restart(check=False)
    subject.host.wait_for(f"{subject.unit.name} running", UP_S, lambda: subject.unit.state().running)
    await_ticks(subject, before + STEADY_TICKS)


def await_ticks(subject: Subject, least: int = 1) -> None:
    """Wait until so many ticks are stored. Raises WaitTimeout."""
    subject.host.wait_for("ticks being stored", UP_S, lambda: subject.store.last_tick() >= least, every=0.05)


class OnExchanges(Case):
    """The engine gets its trades from mock exchanges of this case, which end with it."""

    cursor: str  # of the journal, before the run on them
    old: State  # the unit before the fault

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(deployed)
        self.exchanges: dict[str, Exchange] = {}

    @property
    def exchange(self) -> Exchange:
        """The only one."""
        return self.exchanges["mock"]

    def counted(self, name: str) -> int:
        """What it has counted so far under that name; the question is not recorded."""
        return int(self.exchange.stats(quiet=True)[name])

    def start(self, subject: Subject, settings: Mapping[str, Json], **engine: Json) -> None:
        """Start the engine, with an empty database, on one exchange. settings: the exchange's; engine: the engine's."""
        self.exchanges["mock"] = exchange = Exchange(subject.host, "mock", first_id=1, **settings)
        subject.fresh()
        subject.put("config.toml", config(**engine, ingest_mode="MOCK_WS", ws_url=exchange.url()))
        self.cursor = subject.unit.cursor()
        subject.restart()

    def start_exchanges(
        self, subject: Subject, text: str, primary: Mapping[str, Json] = MappingProxyType({}), **settings: Json
    ) -> None:
        """Start two exchanges and configure the engine for them, which is stopped and has an empty database.

        text: of config.toml. primary: settings of the first exchange alone. settings: of both.
        """
        own: dict[str, Json] = {"primary": {"first_id": 1, **primary}, "secondary": {"first_id": 1_000_000}}
        with ThreadPoolExecutor() as pool:  # starting is most of what a case costs: both at once
            starting = [pool.submit(Exchange, subject.host, name, **settings, **own[name]) for name in own]
            subject.fresh()
            for name, one in zip(own, starting, strict=True):
                self.exchanges[name] = one.result()
        subject.put("config.toml", text)
        subject.put_sources(sources_of(self.exchanges))

    def await_primary(self, subject: Subject) -> None:
        """Start the engine and wait until it stores the primary's trades. Raises WaitTimeout."""
        subject.restart()
        subject.host.wait_for("the primary's trades", UP_S, lambda: subject.store.first_of("primary"), every=0.05)

    def await_counted(self, subject: Subject, trades: int) -> None:
        """Wait for a heartbeat that counts so many trades, all stored; should none come, its last one is judged."""

        def complete() -> bool:
            beat = last_fields(subject.unit.journal(self.cursor, quiet=True), "HEARTBEAT", self.old.invocation)
            return beat.get("received", 0) >= trades and beat.get("admitted") == beat.get("ticks_stored")

        subject.host.poll("a heartbeat that has seen it all", 6, complete, every=0.2)

    def release(self, subject: Subject) -> None:
        for exchange in self.exchanges.values():
            exchange.end()
