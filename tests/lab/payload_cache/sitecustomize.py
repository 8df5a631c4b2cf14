"""Has every ansible-playbook that a test run starts keep what it builds of a module; Python imports it at its start.

Ansible builds the payload of each module anew in every run, from the module and all that it imports; that is a third of
what a deployment computes. The payload depends on the sources alone, which do not change while tests run. The directory
with it is linked to from Ansible's own, which Ansible removes at its end, and with it the link.
"""

import os
import tempfile

_mkdtemp = tempfile.mkdtemp


def mkdtemp(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
    """As tempfile's own, but that the directory of a run of Ansible gets the link."""
    path = _mkdtemp(suffix, prefix, dir)
    if prefix and prefix.startswith("ansible-local-"):
        os.symlink(os.environ["LAB_PAYLOADS"], os.path.join(path, "ansiballz_cache"))
    return path


tempfile.mkdtemp = mkdtemp  # type: ignore[assignment]
