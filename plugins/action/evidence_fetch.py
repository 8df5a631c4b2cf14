"""Bring a run's evidence home: see the module of the same name."""

from __future__ import annotations

import hashlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

CHECKOUT = Path(__file__).parents[2]
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

from proofs.evidence import host_input, recorder  # noqa: E402
from proofs.evidence.folder import FolderError, fresh_folder, refuse_existing  # noqa: E402
from proofs.evidence.host_input import EvidenceFile, HostInputError, Segment  # noqa: E402

READ_BYTES = 1 << 20
READ_S = 600.0  # for a chunk, over a bad line
CHECK_S = 600.0


class ActionModule(ActionBase):  # type: ignore[misc]
    """Nothing is written into the evidence before all of it is there and checked; meanwhile it is a nameless file."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        args, host = self._task.args, str((task_vars or {}).get("inventory_hostname", ""))
        if self._task.check_mode:
            return result | {"skipped": True, "msg": "no run was begun: not in check mode"}
        root = Path(args["evidence"])
        try:
            run = host_input.check_run(str(args["run"]))
            refuse_existing(root, host, run)
            folder = f"{args['host_evidence']}/{run}"
            listing = self._ask(f"cd {shlex.quote(folder)} && {_LIST}", host_input.LISTING_BYTES)
            files = host_input.parse_listing(listing)
            with tempfile.TemporaryFile() as spool:
                for chunk in host_input.plan_chunks(files):
                    spool.write(self._read(folder, chunk))
                with host_input.receiving(CHECK_S):
                    _check(spool, files)
                self._write(root, host, run, spool, files)
        except HostInputError as error:
            raise AnsibleActionFail(f"{host}: {error}; nothing was written") from None
        except FolderError as error:
            raise AnsibleActionFail(f"{error}; nothing was written") from None
        except OSError as error:
            raise AnsibleActionFail(f"{root}: cannot write the evidence of {host}: {error.strerror}") from None
        return result | {"changed": True, "dest": str(root / host / run)}

    def _ask(self, shell: str, largest: int) -> str:
        text = host_input.marked(shell)
        answer = host_input.ask(lambda: self._low_level_execute_command(text), READ_S, largest)
        return host_input.unmark(answer.stdout)

    def _read(self, folder: str, chunk: Sequence[Segment]) -> bytes:
        """These bytes, one file's after the other's. Raises HostInputError when there are fewer or more."""
        size = sum(segment.size for segment in chunk)
        reads = "; ".join(
            f"dd if={shlex.quote(segment.name)} iflag=skip_bytes,count_bytes,fullblock bs=64K"
            f" skip={segment.offset} count={segment.size} status=none"
            for segment in chunk
        )
        text = self._ask(f"cd {shlex.quote(folder)} && {{ {reads}; }} | base64", largest=2 * size + (1 << 16))
        return host_input.decode_base64(text, size)

    def _write(self, root: Path, host: str, run: str, spool: IO[bytes], files: Sequence[EvidenceFile]) -> None:
        spool.seek(0)
        with fresh_folder(root, host, run) as fresh:
            for file in files:
                fresh.write(file.name, _parts(spool, file.size))


# Hidden ones are drafts, which a recorder that was killed leaves behind.
_LIST = (
    f"find {host_input.EVENTS} {host_input.STATEMENT} {host_input.BLOBS} -maxdepth 1 ! -name '.*' -printf '%y %s %p\\n'"
)


def _parts(spool: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (part := spool.read(min(size, READ_BYTES))):
        size -= len(part)
        yield part


def _check(spool: IO[bytes], files: Sequence[EvidenceFile]) -> None:
    """That each file is what its name says, of the run, and whole. Raises HostInputError."""
    spool.seek(0)
    for file in files:
        if file.name in (host_input.EVENTS, host_input.STATEMENT):
            content = b"".join(_parts(spool, file.size))
            host_input.check_evidence_json(file.name, content)
            if file.name == host_input.EVENTS:
                try:
                    for _ in recorder.checked(content):
                        pass
                except recorder.ChainBroken as error:
                    raise HostInputError(f"{file.name}: {error}") from None
            continue
        digest = hashlib.sha256()
        for part in _parts(spool, file.size):
            digest.update(part)
        if digest.hexdigest() != file.name.rpartition("/")[2]:
            raise HostInputError(f"{file.name} is not what its name says: its sha256 is {digest.hexdigest()}")
