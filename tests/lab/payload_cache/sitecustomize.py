"""Has every ansible-playbook that a test run starts keep what it builds of a module; Python imports it at its start.

Ansible builds the payload of each module anew in every run, from the module and all that it imports; that is a third of
what a deployment computes. The payload depends on the sources alone, which do not change while tests run. The directory
with it is linked to from Ansible's own, which Ansible removes at its end, and with it the link.

A host compiles what is in a payload each time it runs it; here the payload has it compiled beside the source, which a
host with another version of Python takes instead.
"""

import marshal
import os
import tempfile
import zipfile
from importlib.util import MAGIC_NUMBER

UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # PEP 552: compared with no source

_mkdtemp = tempfile.mkdtemp
_writestr = zipfile.ZipFile.writestr


def mkdtemp(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
    """As tempfile's own, but that the directory of a run of Ansible gets the link, and the run `writestr`."""
    path = _mkdtemp(suffix, prefix, dir)
    if prefix and prefix.startswith("ansible-local-"):
        os.symlink(os.environ["LAB_PAYLOADS"], os.path.join(path, "ansiballz_cache"))
        zipfile.ZipFile.writestr = writestr  # type: ignore[assignment, method-assign]
    return path


def writestr(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: str | bytes) -> None:
    """As zipfile's own, but that the bytecode of a source is written as well."""
    _writestr(archive, info, data)
    if info.filename.endswith(".py"):
        compiled = zipfile.ZipInfo(f"{info.filename}c", info.date_time)
        compiled.compress_type = info.compress_type
        code = compile(data, info.filename, "exec", dont_inherit=True)
        _writestr(archive, compiled, MAGIC_NUMBER + UNCHECKED + marshal.dumps(code))


tempfile.mkdtemp = mkdtemp  # type: ignore[assignment]
