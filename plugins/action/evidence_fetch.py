"""Fetch the evidence of a run into a fresh directory on the controller.

Fetches events.jsonl, statement.json and blobs/SHA256 of one run, and nothing else. Names, kinds, sizes, counts, the
chain of the events and the digests of the blobs are checked first; then all of it is written at once. What exists is
never overwritten, and no link is followed.
run: the run's id; nonce: what its first event has to have, "" for anything; host_evidence: the directory on the host
that holds the runs; evidence: the directory on the controller that gets it, as HOST/RUN; lost_s: for how long a
connection that broke is tried again. Returns dest, the directory that was made.
"""

import hashlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).parents[2]))

from plugins.module_utils.host_action import HostAction
from proofs.evidence import host_input, recorder
from proofs.evidence.folder import fresh_folder, refuse_existing
from proofs.evidence.host_input import EvidenceFile, HostInputError, Segment

READ_BYTES = 1 << 20
CHECK_S = 600.0


class ActionModule(HostAction):
    """Nothing is written into the evidence before all of it is there and checked; meanwhile it is a nameless file."""

    _VALID_ARGS = frozenset({"run", "nonce", "host_evidence", "evidence", "lost_s"})

    def act(self) -> dict[str, Any]:
        if self._task.check_mode:
            return {"skipped": True, "msg": "no run was begun: not in check mode"}
        root, host = Path(self.args["evidence"]), self.host
        self.lost_s = float(self.args["lost_s"])
        try:
            run = host_input.check_run(str(self.args["run"]))
            refuse_existing(root, host, run)
            folder = f"{self.args['host_evidence']}/{run}"
            files = host_input.parse_listing(
                self.read(f"cd {shlex.quote(folder)} && {_LIST}", host_input.LISTING_BYTES, self.lost_s)
            )
            with tempfile.TemporaryFile() as spool:
                for chunk in host_input.plan_chunks(files):
                    spool.write(self._fetch(folder, chunk))
                with host_input.receiving(CHECK_S):
                    _check(spool, files, str(self.args.get("nonce", "")))
                spool.seek(0)
                with fresh_folder(root, host, run) as fresh:
                    for file in files:
                        fresh.write(file.name, _parts(spool, file.size))
        except OSError as error:
            raise AnsibleActionFail(f"{root}: cannot write the evidence of {host}: {error.strerror}") from None
        return {"changed": True, "dest": str(root / host / run)}

    def _fetch(self, folder: str, chunk: Sequence[Segment]) -> bytes:
        """These bytes, one file's after the other's. Raises HostInputError when there are fewer or more."""
        size = sum(segment.size for segment in chunk)
        reads = "; ".join(
            f"dd if={shlex.quote(segment.name)} iflag=skip_bytes,count_bytes,fullblock bs=64K"
            f" skip={segment.offset} count={segment.size} status=none"
            for segment in chunk
        )
        text = self.read(f"cd {shlex.quote(folder)} && {{ {reads}; }} | base64", 2 * size + (1 << 16), self.lost_s)
        return host_input.decode_base64(text, size)


# Hidden ones are drafts, which a recorder that was killed leaves behind.
_LIST = (
    f"find {host_input.EVENTS} {host_input.STATEMENT} {host_input.BLOBS} -maxdepth 1 ! -name '.*' -printf '%y %s %p\\n'"
)


def _parts(spool: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (part := spool.read(min(size, READ_BYTES))):
        size -= len(part)
        yield part


def _check(spool: IO[bytes], files: Sequence[EvidenceFile], nonce: str) -> None:
    """That each file is what its name says, of the run that has this nonce, and whole. Raises HostInputError."""
    spool.seek(0)
    first: object = None
    for file in files:
        if file.name in (host_input.EVENTS, host_input.STATEMENT):
            content = b"".join(_parts(spool, file.size))
            host_input.check_evidence_json(file.name, content)
            if file.name == host_input.EVENTS:
                try:
                    events = list(recorder.checked(content))
                except recorder.ChainBroken as error:
                    raise HostInputError(f"{file.name}: {error}") from None
                first = events[0]["data"] if events else None
            continue
        digest = hashlib.sha256()
        for part in _parts(spool, file.size):
            digest.update(part)
        if digest.hexdigest() != file.name.rpartition("/")[2]:
            raise HostInputError(f"{file.name} is not what its name says: its sha256 is {digest.hexdigest()}")
    host_input.check_nonce(first, nonce)
