"""Has every ansible-playbook that a test run starts keep what it builds; Python imports this at its start.

Ansible builds the payload of each module anew in every run, from the module and all that it imports, and compiles each
template in every task: a third of what a deployment computes. Both depend on the sources alone, which do not change
while tests run. The directory with the payloads is linked to from Ansible's own, which Ansible removes at its end, and
with it the link; the templates are beside them.

A host compiles what is in a payload each time it runs it; here the payload has it compiled beside the source, which a
host with another version of Python takes instead.
"""

import hashlib
import marshal
import os
import tempfile
import zipfile
from importlib.util import MAGIC_NUMBER
from typing import Any

UNCHECKED = (1).to_bytes(4, "little") + bytes(8)  # PEP 552: compared with no source
# All that Jinja's compiled code depends on besides the source.
SYNTAX = ("variable_start_string", "block_start_string", "comment_start_string", "line_statement_prefix")
OPTIONS = (*SYNTAX, "trim_blocks", "lstrip_blocks", "newline_sequence", "keep_trailing_newline", "sandboxed")

_mkdtemp = tempfile.mkdtemp
_writestr = zipfile.ZipFile.writestr


def mkdtemp(suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
    """As tempfile's own, but that a run of Ansible, which begins with its directory, keeps what it builds."""
    path = _mkdtemp(suffix, prefix, dir)
    if prefix and prefix.startswith("ansible-local-"):
        os.symlink(os.environ["LAB_PAYLOADS"], os.path.join(path, "ansiballz_cache"))
        zipfile.ZipFile.writestr = writestr  # type: ignore[assignment, method-assign]
        keep_templates()
    return path


def writestr(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: str | bytes) -> None:
    """As zipfile's own, but that the bytecode of a source is written as well."""
    _writestr(archive, info, data)
    if info.filename.endswith(".py"):
        compiled = zipfile.ZipInfo(f"{info.filename}c", info.date_time)
        compiled.compress_type = info.compress_type
        code = compile(data, info.filename, "exec", dont_inherit=True)
        _writestr(archive, compiled, MAGIC_NUMBER + UNCHECKED + marshal.dumps(code))


def keep_templates() -> None:
    """Have Jinja read the code of a template that was compiled before, in this run or another one."""
    from jinja2 import Environment

    without = Environment.compile

    def compile_once(environment: Environment, source: Any, *words: Any, **more: Any) -> Any:
        if not isinstance(source, str):
            return without(environment, source, *words, **more)
        options = [getattr(environment, option) for option in OPTIONS]
        about = (type(environment).__name__, str(source), words, sorted(more.items()), options)
        path = f"{os.environ['LAB_PAYLOADS']}/{hashlib.sha256(repr(about).encode()).hexdigest()}"
        try:
            with open(path, "rb") as stream:
                return marshal.loads(stream.read())
        except FileNotFoundError:
            code = without(environment, source, *words, **more)
        own = f"{path}.{os.getpid()}"
        with open(own, "wb") as stream:
            stream.write(marshal.dumps(code))
        os.rename(own, path)
        return code

    Environment.compile = compile_once  # type: ignore[assignment, method-assign]


tempfile.mkdtemp = mkdtemp  # type: ignore[assignment]
