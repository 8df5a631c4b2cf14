"""A release on disk, known to the controller that builds it and to the host: what belongs there, how it differs.

<root>/releases/<version>-<digest12>/bin/<launcher>    0755
                                     lib/<packages>    0644
                                     release.json      name, version, digest, files: {path: sha256}; what it needs
                                                       of a host: interpreter, python, machine, glibc
                                     bytecode.json     python, files: {path: sha256}: written by the host
<root>/current -> releases/<name>
"""

import hashlib
import json
import os
import re
import subprocess
from typing import Any

from ansible.module_utils.drift import (
    BYTECODE,
    MANIFEST,
    directory_difference,
    file_sha256,
    read_json,
    read_link,
    read_text,
    release_differences,
)
from ansible.module_utils.service_unit import write

NAME = re.compile(r"[0-9][0-9A-Za-z.+!]*-[0-9a-f]{12}")
# Compiled by the Python that will run it. Unchecked: the source's date is never compared again, so that nothing
# ever wants to write into this tree. A file that does not compile (another Python's syntax) is left without.
COMPILER = """
import json, py_compile, sys
failed = []
for source, shown, target in json.load(sys.stdin):
    try:
        py_compile.compile(source, target, shown, True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except py_compile.PyCompileError:
        failed.append(target)
json.dump(failed, sys.stdout)
"""
TAG = "import importlib.util, sys; print(sys.implementation.cache_tag, importlib.util.MAGIC_NUMBER.hex())"


def canonical(value: Any) -> str:
    """The one way in which this project writes a JSON file, so that files can be compared byte for byte."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def current_name(root: str) -> str | None:
    """The release that <root>/current points to; None where there is no such link, or it leads elsewhere."""
    folder, name = os.path.split(read_link(os.path.join(root, "current")))
    ours = folder in ("releases", os.path.join(root, "releases"))
    return name if ours and NAME.fullmatch(name) else None


def read_releases(path: str) -> dict[str, list[str]]:
    """The record of releases, {history, void}. Empty lists where it is missing or damaged: it is written anew once a
    release is live, and what lies on the disk says which releases there are.
    """
    record = read_json(path)
    return {key: [str(name) for name in record.get(key) or []] for key in ("history", "void")}


class Tree:
    """One release's directory and what belongs in it. Paths are relative to it, with forward slashes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.home = os.path.join(options["root"], "releases", options["name"])
        # Whoever may write to these may replace a release as a whole.
        self.above = [options["root"], os.path.dirname(self.home)]
        self.files: dict[str, str] = options["files"]
        self.manifest: str = options["manifest"]
        self.interpreter: str = options["interpreter"]
        command = [self.interpreter, "-ISc", TAG]
        self.tag, self.magic = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    def bytecode_of(self, source: str) -> str:
        folder, name = os.path.split(source)
        return f"{folder}/__pycache__/{name[:-3]}.{self.tag}.pyc"

    def sources(self) -> list[str]:
        return [path for path in sorted(self.files) if path.endswith(".py") and path.startswith("lib/")]

    def recorded_bytecode(self) -> dict[str, str | None] | None:
        """{path: SHA-256} of the last compilation; None where its record is missing, altered or another Python's."""
        path = os.path.join(self.home, BYTECODE)
        files = read_json(path).get("files")
        expected = sorted(self.bytecode_of(source) for source in self.sources())
        whole = isinstance(files, dict) and sorted(files) == expected
        return files if whole and read_text(path) == canonical({"python": self.magic, "files": files}) else None

    def differences_above(self) -> dict[str, str]:
        """{path/: how it differs} of the directories that hold releases; missing ones are made later."""
        differences = {f"{path}/": directory_difference(path) for path in self.above}
        return {path: wrong for path, wrong in differences.items() if wrong}

    def differences(self) -> dict[str, str]:
        """As drift.release_differences, compared with what the controller built."""
        bytecode, differences = self.recorded_bytecode(), dict[str, str]()
        if bytecode is None:
            differences[BYTECODE] = "altered" if os.path.lexists(os.path.join(self.home, BYTECODE)) else "missing"
            compiled: dict[str, str | None] = {self.bytecode_of(path): None for path in self.sources()}
        else:
            compiled = {path: sha for path, sha in bytecode.items() if sha}
        manifest = hashlib.sha256(self.manifest.encode()).hexdigest()
        desired = {MANIFEST: manifest, BYTECODE: None, **self.files, **compiled}
        differences |= release_differences(self.home, desired)
        return differences

    def compile_into(self, place: str, sources: list[str]) -> None:
        """Compile the sources that lie in `place`, under the names they have (or will have) in their home."""
        jobs = []
        for path in sources:
            target = os.path.join(place, self.bytecode_of(path))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            jobs.append([os.path.join(place, path), os.path.join(self.home, path), target])
        command = [self.interpreter, "-ISBc", COMPILER]
        subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, check=True)

    def record_bytecode(self, place: str) -> None:
        files: dict[str, str | None] = {}
        for source in self.sources():
            path = self.bytecode_of(source)
            target = os.path.join(place, path)
            files[path] = file_sha256(target) if os.path.exists(target) else None
        write(os.path.join(place, BYTECODE), canonical({"python": self.magic, "files": files}).encode(), 0o644)


def sync_tree(place: str) -> None:
    """Have the whole tree on the disk before anything points to it."""
    for folder, _, names in os.walk(place):
        for path in [*(os.path.join(folder, name) for name in names), folder]:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
