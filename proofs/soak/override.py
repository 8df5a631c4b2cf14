"""Overrides settings of the deployed unit for a soak, by one drop-in under /run that the lease removes.

The settings are put into the unit's environment, which outranks the config file. Where they select another market, a
scratch directory is bound over the state, so that no synthetic tick is stored beside a real one.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from proofs.experiment.exchange import Exchange
from proofs.experiment.subject import STATE_DIR
from proofs.host.database import Store
from proofs.host.shell import Host
from proofs.host.unit import Unit
from proofs.restore.lease import SYSTEMD_RUN, Lease
from proofs.verdict import Json

NAME = "zz-soak.conf"
DATABASE = "hybrid.db"
RATE = 5  # trades a second of the mock exchange: as on a quiet real one


class Override:
    """The settings that the soak overrides; while there are none, there is no drop-in.

    owner: uid and gid of the state directory. configured: the operator's settings by name, once they are known.
    """

    def __init__(self, host: Host, unit: Unit, lease: Lease, owner: tuple[int, int]) -> None:
        self.host, self.unit = host, unit
        self._lease, self._owner = lease, owner
        self.configured: Mapping[str, Json] = {}
        self.settings: dict[str, str] = {}
        self.exchange: Exchange | None = None
        self.scratch: Path | None = None

    @property
    def description(self) -> str:
        """The settings for people, without the path and the URL that go with them."""
        shown = [key for key in sorted(self.settings) if key not in ("app.db_path", "engine.ws_url")]
        words = [f"{key.rpartition('.')[2]}={self.settings[key]}" for key in shown]
        return ", ".join([*words, *(["a scratch database"] if self.scratch else [])])

    def value(self, key: str) -> str:
        """The value in force of a setting."""
        return self.settings.get(key, str(self.configured[key]))

    def use_scratch_database(self) -> Store:
        """Have the engine write to a scratch database from the next start on, and return that."""
        self.scratch = self._lease.scratch / "state"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.scratch.chmod(0o750)
        os.chown(self.scratch, *self._owner)
        self.settings["app.db_path"] = str(STATE_DIR / DATABASE)
        return Store(self.scratch / DATABASE)

    def use_mock_exchange(self) -> None:
        """Have the engine use a mock exchange from the next start on; it ends with the soak."""
        self.exchange = self.exchange or Exchange(self.host, "mock", rate=RATE, seed=1)
        self.settings |= {"engine.ingest_mode": "MOCK_WS", "engine.ws_url": self.exchange.url()}

    def install(self) -> None:
        """Write the drop-in; the next start runs with it."""
        lines = [f'Environment="{word}"' for word in variables(self.settings)]
        binds = [f"BindPaths={self.scratch}:{STATE_DIR}"] if self.scratch else []
        text = "\n".join(["[Service]", *lines, *binds, ""])
        path = SYSTEMD_RUN / f"{self.unit.name}.d" / NAME
        self._lease.will_write(path)
        self.host.recorder.intent(f"write {path}", scope=self.host.scope, data={"text": text})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.host.do("systemctl", "daemon-reload")
        self._lease.will_disturb()
        if self.scratch and self._lease.at_work:
            self._lease.leave_work()


def variables(settings: Mapping[str, str]) -> list[str]:
    """Settings as the engine's environment, each as NAME=value."""
    return [f"HYBRID_ENGINE__{key.replace('.', '__').upper()}={value}" for key, value in sorted(settings.items())]
