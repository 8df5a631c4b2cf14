"""The operator's unit as it was deployed, without scratch config or copy, for faults in the deployed files themselves.

What is deployed lies in /etc and /opt, so drift can be made nowhere else. That is allowed in a lab alone. A lab is
recognised by a variable that systemd-nspawn was started with, not by anything on its disk, so that a container in
service is none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from proofs.errors import ProofError
from proofs.experiment import controller_requests
from proofs.experiment.controller_requests import Answer
from proofs.experiment.subject import Subject
from proofs.host import deployed
from proofs.host.kind import not_a_lab
from proofs.host.shell import Host
from proofs.restore import file_backups
from proofs.restore.lease import Lease

_UP_S = 20.0


class NotALab(ProofError):
    """The operator's files are not edited on a host that somebody may depend on."""


class InPlace(Subject):
    """The deployed unit on its real config and database; its files are edited, and put back by the lease."""

    def __init__(self, host: Host, name: str, lease: Lease, owner: tuple[int, int], mutant: bool = False) -> None:
        super().__init__(host, name, lease.scratch / "unit", owner)
        self._lease = lease
        self.mutant = mutant

    def install(self) -> None:
        """There is nothing to install: it is what is deployed."""

    def stop(self) -> None:
        """Nothing was started beside it."""

    def ask(self, *plays: str, check: bool = False, without: Sequence[str] = ()) -> Answer:
        """Have the controller run these playbooks against this host. Raises Unanswered."""
        return controller_requests.ask(self.host, self._lease.run, plays, check=check, without=without)

    def edit(self, texts: Mapping[Path, str], modes: Mapping[Path, int], unread: Mapping[Path, str]) -> None:
        """Write these texts over the operator's files, give some these modes, and put them in force.

        The texts `unread` are written after that, so systemd has not read them. The lease restores the files in any
        case.

        Raises:
            NotALab: this is not a host whose files may be edited.
        """
        if why_not := not_a_lab(self.host, quiet=False):
            raise NotALab(why_not)
        self._lease.will_edit(self.host, *texts)
        self._lease.will_disturb()
        for path, text in texts.items():
            self.announce(f"write {path}", {"text": text})
            path.write_text(text)
        for path, mode in modes.items():
            self.announce(f"set the mode of {path}", f"{mode:04o}")
            path.chmod(mode)
        self.reload()
        for path, text in unread.items():
            self.announce(f"write {path}, unread", {"text": text})
            path.write_text(text)

    def replace(self, texts: Mapping[Path, str], gone: Sequence[Path], later: Sequence[Path]) -> None:
        """Write these files, remove those, and have the unit run as its files say then.

        later: what a deployment may write. The lease restores all of them in any case.

        Raises:
            NotALab: this is not a host whose files may be edited.
        """
        if why_not := not_a_lab(self.host, quiet=False):
            raise NotALab(why_not)
        self._lease.will_edit(self.host, *texts, *gone, *later)
        self._lease.will_disturb()
        for path in gone:
            self.announce(f"remove {path}")
            path.unlink(missing_ok=True)
        for path, text in texts.items():
            self.announce(f"write {path}", {"text": text})
            path.write_text(text)
        self.host.do("systemctl", "daemon-reload")
        self.restart()

    def remove(self, path: Path) -> None:
        """Take an edited file away again that had not been there before."""
        self.announce(f"remove {path}")
        path.unlink(missing_ok=True)
        self.reload()

    @property
    def edited(self) -> bool:
        """Something was edited in this proof; it may have been put back since."""
        return bool(self._lease.originals)

    def changed(self) -> list[str]:
        """The edited files that are not now what they were."""
        return file_backups.changed(self._lease.originals)

    def put_back(self) -> None:
        """What the lease would do in the end: every edited file as it was, and in force."""
        if self.changed():
            self.announce("put back what was edited", self.changed())
            file_backups.put_back(self._lease.originals)
            self.reload()

    def reload(self) -> None:
        """Run the unit as its files say now. Raises WaitTimeout when its engine does not become healthy."""
        self.host.do("systemctl", "daemon-reload")
        self.restart()
        self.host.wait_for("the engine healthy", _UP_S, self._healthy)

    def _healthy(self) -> bool:
        # Only while it runs: root opening a database at rest would leave files beside it.
        return self.unit.state().running and self.host.look(*deployed.HEALTH, quiet=True).rc == 0
