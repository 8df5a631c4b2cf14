"""What a soak puts over the deployed unit: one drop-in under /run, announced to the lease, gone with it.

Settings go over the operator's through the environment, which outranks the file. Where they would bring made-up ticks
beside real ones, or real ones beside made-up ones, a scratch directory is bound over the state, as proofs do it.
"""

from __future__ import annotations

import os
from pathlib import Path

from proofs.experiment.exchange import Exchange
from proofs.experiment.subject import STATE_DIR
from proofs.host.database import Store
from proofs.host.shell import Host
from proofs.host.unit import Unit
from proofs.restore.lease import SYSTEMD_RUN, Lease

NAME = "zz-soak.conf"
DATABASE = "hybrid.db"
RATE = 5  # trades a second of the mock exchange: about what the quieter of the real ones have


class Override:
    """Empty at first, and then it is not there: an engine that runs as it is configured is only watched."""

    def __init__(self, host: Host, unit: Unit, lease: Lease, owner: tuple[int, int]) -> None:
        self.host, self.unit = host, unit
        self._lease, self._owner = lease, owner
        self.settings: dict[str, str] = {}
        self.exchange: Exchange | None = None
        self.scratch: Path | None = None

    @property
    def in_force(self) -> bool:
        return bool(self.settings)

    @property
    def told(self) -> str:
        """For people: the settings, without what only points them to where they are."""
        shown = [name for name in sorted(self.settings) if not name.endswith(("__DB_PATH", "__WS_URL"))]
        words = [f"{name.rpartition('__')[2].lower()}={self.settings[name]}" for name in shown]
        return ", ".join([*words, *(["a scratch database"] if self.scratch else [])])

    def set(self, key: str, value: str | int) -> None:
        """A setting by its name in the configuration, from the next start on."""
        self.settings[f"HYBRID_ENGINE__{key.replace('.', '__').upper()}"] = str(value)

    def onto_scratch(self) -> Store:
        """A database of the soak's own, from the next start on; the operator's is not touched meanwhile."""
        self.scratch = self._lease.scratch / "state"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.scratch.chmod(0o750)
        os.chown(self.scratch, *self._owner)
        self.set("app.db_path", str(STATE_DIR / DATABASE))
        return Store(self.scratch / DATABASE)

    def onto_mock(self) -> None:
        """A mock exchange, from the next start on; it ends with the soak."""
        self.exchange = self.exchange or Exchange(self.host, "mock", rate=RATE, seed=1)
        self.set("engine.ingest_mode", "MOCK_WS")
        self.set("engine.ws_url", self.exchange.url())

    def text(self) -> str:
        lines = [f'Environment="{name}={value}"' for name, value in sorted(self.settings.items())]
        binds = [f"BindPaths={self.scratch}:{STATE_DIR}"] if self.scratch else []
        return "\n".join(["[Service]", *lines, *binds, ""])

    def put(self) -> None:
        """Write it; the next start runs with it."""
        path = SYSTEMD_RUN / f"{self.unit.name}.d" / NAME
        self._lease.will_write(path)
        self.host.recorder.intent(f"write {path}", scope=self.host.scope, data={"text": self.text()})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text())
        self.host.do("systemctl", "daemon-reload")
        self._lease.will_disturb()
        if self.scratch and self._lease.at_work:
            self._lease.leave_work()

    def end(self) -> None:
        if self.exchange:
            self.exchange.end()
