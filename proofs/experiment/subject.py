"""The unit under test: the deployed one on scratch directories, or a copy of it, with or without its guard.

Everything is written below /run and announced to the lease first. The operator's config and database are not touched:
scratch directories are bound over them inside the unit's own mount namespace; its fragment, drop-ins, release and user
stay in force. A copy of the unit has another name and is made of the files that `systemctl cat` shows. Cases run on
such copies beside each other, and every mutant does, so that the deployed unit never runs without its guards.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from proofs.errors import ProofError
from proofs.experiment import sandbox_probe
from proofs.experiment.exchange import Exchange
from proofs.experiment.row_reads import RecordedStore
from proofs.host.database import Store
from proofs.host.regular_file import remove_tree
from proofs.host.shell import Host
from proofs.host.unit import Unit
from proofs.restore.lease import SYSTEMD_CONTROL, SYSTEMD_RUN, Lease
from proofs.verdict import Json

CONFIG_DIR = Path("/etc/hybrid-engine")
STATE_DIR = Path("/var/lib/hybrid-engine")
RELEASE = Path("/opt/hybrid-engine/current")
Source = dict[str, str | int]


class CannotMutate(ProofError):
    """The mutant's patch does not fit the release: the text it replaces is not there exactly once."""


class Changes:
    """What of the deployed unit is to be different in the unit under test; a mutant's `make` fills it in.

    directives: lines of [Service] beyond the binds. instead: drop-ins with another text than the deployed one, by name.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.directives: list[str] = []
        self.instead: dict[str, str] = {}
        self.pick_sources: Callable[[Sequence[Source]], Sequence[Source]] = lambda sources: sources

    def patch(self, old: str, new: str) -> None:
        """Replace one text of the engine's source."""
        raise NotImplementedError


class Subject(Changes):
    """A unit with a scratch config and a scratch database."""

    mutant = False
    _lease: Lease  # who takes back what is done to the host

    def __init__(self, host: Host, name: str, scratch: Path, owner: tuple[int, int]) -> None:
        super().__init__(scratch)
        self.host = host
        self.unit = Unit(host, name)
        self.etc, self.state = scratch / "etc", scratch / "state"
        self.store = Store(self.state / "hybrid.db")
        self._owner = owner

    def recorded(self) -> Store:
        """The same database, each read of which is recorded: for those that figures rest on."""
        return RecordedStore(self.host, self.unit.name, self.store.path)

    def binds(self) -> list[str]:
        return [f"BindPaths={self.state}:{STATE_DIR}", f"BindReadOnlyPaths={self.etc}:{CONFIG_DIR}", *self.directives]

    def announce(self, what: str, data: Json = None) -> None:
        """Record what is about to be done to the host."""
        self.host.recorder.intent(what, scope=self.host.scope, data=data)

    def write_scratch(self) -> None:
        for path, uid in ((self.state, self._owner[0]), (self.etc, 0)):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o750)
            os.chown(path, uid, self._owner[1])

    def write_units(self, files: Mapping[Path, str]) -> None:
        """Write the scratch directories and what puts them in force; the lease takes it back."""
        self.write_scratch()
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.host.do("systemctl", "daemon-reload")

    def put(self, name: str, text: str) -> None:
        """A file of the scratch config directory, with the owner and mode that the deployed ones have."""
        path = self.etc / name
        self.announce(f"write {path}", {"text": text})
        path.write_text(text)
        os.chown(path, 0, self._owner[1])
        path.chmod(0o640)

    def put_sources(self, sources: Sequence[Source]) -> None:
        tables = [
            "\n".join(["[[source]]", *(f"{key} = {value!r}".replace("'", '"') for key, value in source.items()), ""])
            for source in self.pick_sources(sources)
        ]
        self.put("ws_sources.toml", "\n".join(tables))

    def copied_lib(self) -> Path:
        """A copy of the installed release's lib/ that the unit sees in its place, from the next install on."""
        copy = self.scratch / "lib"
        if not copy.exists():
            original = (RELEASE / "lib").resolve()
            shutil.copytree(original, copy, symlinks=True)
            self.directives.append(f"BindReadOnlyPaths={copy}:{original}")
            self.host.note("copied", {"from": str(original), "to": str(copy)})
        return copy

    def add_module(self, name: str, text: str) -> None:
        """Put one more module beside the release's own: its launcher looks nowhere else."""
        path = self.copied_lib() / name
        self.announce(f"write {path}", {"text": text})
        path.write_text(text)

    def probe(self, *attempts: str) -> None:
        """Make these attempts in the unit's own sandbox before each start, from the next install on.

        The results are in the unit's journal; however they end, the start goes on.
        """
        self.put("attempts.py", Path(sandbox_probe.__file__).read_text())
        line = f"ExecStartPre=-/usr/bin/python3 -ISB {' '.join([f'{CONFIG_DIR}/attempts.py', *attempts])}"
        if line not in self.directives:
            self.directives.append(line)

    def mask(self, drop_in: str) -> None:
        """Take one of the unit's drop-ins out of force, wherever it lies: at its next start it runs without."""
        path = self._mask_of(drop_in)
        self._lease.will_write(path)
        self.announce(f"link {path} to /dev/null")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
        self.host.do("systemctl", "daemon-reload")

    def unmask(self, drop_in: str) -> None:
        path = self._mask_of(drop_in)
        self.announce(f"remove {path}")
        path.unlink(missing_ok=True)
        self.host.do("systemctl", "daemon-reload")

    def _mask_of(self, drop_in: str) -> Path:
        return SYSTEMD_CONTROL / f"{self.unit.name}.d" / drop_in

    def install(self) -> None:
        """Write what puts the scratch directories in force; the next restart runs on them."""
        raise NotImplementedError

    def copied_as(self, name: str) -> "UnitCopy":
        """A copy of this unit as it is in force, under another name and on scratch directories of its own."""
        own = f"{self.scratch.parent.name}-{self.scratch.name}-{name}"
        copy = UnitCopy(self.host, self.unit, own, self._lease, self._owner, self.mutant)
        copy.pick_sources = self.pick_sources
        copy.directives.extend(self.directives)
        return copy

    def cap_state(self, size_kb: int) -> None:
        """Put the scratch state on a file system of its own, of that size. The unit is stopped by this."""
        self.host.do("systemctl", "stop", self.unit.name, check=False)
        if not os.path.ismount(self.state):
            self._lease.will_mount(self.state)
            uid, gid = self._owner
            options = f"size={size_kb}k,mode=0750,uid={uid},gid={gid},nosuid,nodev"
            self.host.do("mount", "-t", "tmpfs", "-o", options, "hybrid-proof", str(self.state))

    def restart(self, check: bool = True) -> None:
        self.host.do("systemctl", "restart", self.unit.name, check=check)

    def fresh(self) -> None:
        """Stopped, and with an empty scratch database."""
        self.host.do("systemctl", "stop", self.unit.name, check=False)
        for path in self.state.iterdir():
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()


class DeployedUnit(Subject):
    """The operator's own unit, on scratch directories."""

    def __init__(self, host: Host, name: str, lease: Lease, owner: tuple[int, int]) -> None:
        super().__init__(host, name, lease.scratch / "unit", owner)
        self._lease = lease

    def install(self) -> None:
        drop_in = SYSTEMD_RUN / f"{self.unit.name}.d" / "zz-proof.conf"
        self._lease.will_write(drop_in)
        self.announce(f"write {drop_in}", {"text": self.drop_in()})
        self.write_units({drop_in: self.drop_in()})
        self._lease.will_disturb()

    def drop_in(self) -> str:
        return "\n".join(["[Service]", *self.binds(), *_unset_overrides(self.unit), ""])


class UnitCopy(Subject):
    """A copy of the operator's unit under another name."""

    def __init__(
        self, host: Host, original: Unit, name: str, lease: Lease, owner: tuple[int, int], mutant: bool = False
    ) -> None:
        own = copy_name(name, mutant)
        super().__init__(host, f"hybrid-proof-{own}.service", lease.scratch / own, owner)
        self.mutant = mutant
        self._original = original
        self._lease = lease

    def install(self) -> None:
        self._lease.will_copy(self.unit.name.replace("@.", "@*."))  # of a template, its instances
        folder = SYSTEMD_RUN / f"{self.unit.name}.d"
        files: dict[Path, str] = {}
        for path in self._original.files():
            if not path.parent.name.endswith(".d"):
                files[SYSTEMD_RUN / self.unit.name] = path.read_text()
            elif path.parent.name == f"{self._original.name}.d":  # service.d and the like apply to the copy anyway
                files[folder / path.name] = self.instead.get(path.name, path.read_text())
        files[folder / "zz-proof.conf"] = "\n".join(["[Service]", *self.binds(), *_unset_overrides(self._original), ""])
        self._lease.will_write(*files)
        texts = {str(path): text for path, text in files.items()}
        self.announce(f"copy {self._original.name} to {self.unit.name}", texts)
        self.write_units(files)

    def patch(self, old: str, new: str) -> None:
        """Run a copy of the release in which one text of the engine's source is another.

        Raises:
            CannotMutate: `old` does not occur exactly once, so the mutant would not be what it says.
        """
        sources = sorted((self.copied_lib() / "hybrid_engine").rglob("*.py"))
        places = [path for path in sources for _ in range(path.read_text().count(old))]
        if len(places) != 1:
            raise CannotMutate(f"{len(places)} places with {old!r} in the release, one was expected")
        path = places[0]
        path.write_text(path.read_text().replace(old, new))
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        self.host.note("patched", {"module": path.name, "old": old, "new": new})

    def stop(self) -> None:
        """Kill it at once: it uses a CPU core that the measurement beside it needs."""
        self.host.do("systemctl", "kill", "--kill-whom=all", "--signal=KILL", self.unit.name, check=False)
        self.host.do("systemctl", "stop", self.unit.name, check=False)


def copy_name(name: str, mutant: bool) -> str:
    """What a copy's unit and scratch directory are called."""
    return f"{'mutant' if mutant else 'copy'}-{name}"


def _unset_overrides(unit: Unit) -> list[str]:
    """The environment outranks the config file: what the unit sets there must not reach the scratch run."""
    names = re.findall(r"\b(HYBRID_ENGINE__\w+)=", unit.properties("Environment").get("Environment", ""))
    return [f"UnsetEnvironment={' '.join(names)}"] if names else []


def sources_of(exchanges: Mapping[str, Exchange]) -> list[Source]:
    """Exchanges by name as sources of the engine, the first the best one."""
    return [
        {"name": name, "url": exchange.url(), "kind": "binance", "symbol": "BTC/USD", "priority": priority}
        for priority, (name, exchange) in enumerate(exchanges.items(), 1)
    ]


def config(mode: str = "SHADOW", **engine: str | int | float) -> str:
    """The text of a scratch config.toml: a mode and keys of [engine]; everything else is the engine's default.

    But pressure moves nothing unless a proof asks for it: a busy host would thin out what the others count.
    """
    engine.setdefault("psi_actions", "off")
    lines = [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in engine.items()]
    return "\n".join([f'mode = "{mode}"', "", "[engine]", *lines, ""])
