"""A release on the host's side: what it should be, how it differs, and its bytecode."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.release_layout import BYTECODE, MANIFEST, canonical, file_sha256

# Compiled by the Python that will run it. Unchecked: nothing looks at the source's date again, so that nothing
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


class Tree:
    """One release directory and what should be in it. Paths are relative to it, with forward slashes."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.home = os.path.join(options["root"], "releases", options["name"])
        # Whoever may write to these may replace a release as a whole.
        self.above = [options["root"], os.path.dirname(self.home)]
        self.files: dict[str, str] = options["files"]
        self.manifest: str = options["manifest"]
        self.interpreter: str = options["interpreter"]
        asked = [self.interpreter, "-ISc", TAG]
        self.tag, self.magic = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()

    def bytecode_of(self, source: str) -> str:
        folder, name = os.path.split(source)
        return f"{folder}/__pycache__/{name[:-3]}.{self.tag}.pyc"

    def sources(self) -> list[str]:
        return [path for path in sorted(self.files) if path.endswith(".py") and path.startswith("lib/")]

    def mode_of(self, path: str) -> int:
        return 0o755 if path.startswith("bin/") else 0o644

    def recorded_bytecode(self) -> dict[str, str | None] | None:
        """What the host's last compilation made, or None where that record is missing, foreign or altered."""
        try:
            with open(os.path.join(self.home, BYTECODE), encoding="utf-8") as stream:
                text = stream.read()
            record = json.loads(text)
            files: dict[str, str | None] = record["files"]
            whole = sorted(files) == sorted(self.bytecode_of(path) for path in self.sources())
            same = record["python"] == self.magic and text == canonical({"python": self.magic, "files": files})
            return files if whole and same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def differences_above(self) -> dict[str, str]:
        """{path/: what is wrong} with the directories that hold releases; those that are missing are made."""
        found = {}
        for path in self.above:
            if os.path.isdir(path):
                wrong = ownership(os.lstat(path), 0o755)
                if wrong:
                    found[f"{path}/"] = wrong
        return found

    def differences(self) -> dict[str, str]:
        """{path: what is wrong with it}; a path that ends in a slash is a directory."""
        found: dict[str, str] = {}
        wanted: dict[str, str | None] = dict(self.files)
        bytecode = self.recorded_bytecode()
        if bytecode is None:
            found[BYTECODE] = "altered" if os.path.lexists(os.path.join(self.home, BYTECODE)) else "missing"
            bytecode = {self.bytecode_of(path): None for path in self.sources()}
            unknown = set(bytecode)
        else:
            unknown = set()
        wanted |= {path: sha for path, sha in bytecode.items() if sha}
        folders = {""}
        for path in [*wanted, *unknown]:
            while path := os.path.dirname(path):
                folders.add(path)
        seen: set[str] = set()
        for folder in sorted(folders):
            self._look_at_folder(folder, folders, {*wanted, *unknown, MANIFEST, BYTECODE}, seen, found)
        for path in sorted(wanted):
            if path not in seen:
                found.setdefault(path, "missing")
            elif path not in found and file_sha256(os.path.join(self.home, path)) != wanted[path]:
                found[path] = "altered"
        if MANIFEST not in seen:
            found.setdefault(MANIFEST, "missing")
        elif MANIFEST not in found:
            with open(os.path.join(self.home, MANIFEST), "rb") as stream:
                if stream.read() != self.manifest.encode():
                    found[MANIFEST] = "altered"
        return found

    def _look_at_folder(
        self, folder: str, folders: set[str], wanted: set[str], seen: set[str], found: dict[str, str]
    ) -> None:
        """Kind, owner and mode of a directory and of all that lies in it."""
        where = os.path.join(self.home, folder)
        try:
            status = os.lstat(where)
        except OSError:
            return  # its files are missing, which says it all
        if not stat.S_ISDIR(status.st_mode):
            found[folder] = "not a directory"
            return
        wrong = ownership(status, 0o755)
        if wrong:
            found[folder + "/"] = wrong
        for entry in os.scandir(where):
            path = f"{folder}/{entry.name}" if folder else entry.name
            status = entry.stat(follow_symlinks=False)
            if path in folders:
                continue
            if path not in wanted:
                found[path + ("/" if entry.is_dir(follow_symlinks=False) else "")] = "not part of the release"
            elif not stat.S_ISREG(status.st_mode):
                found[path] = "not a regular file"
            else:
                seen.add(path)
                wrong = ownership(status, self.mode_of(path))
                if wrong:
                    found[path] = wrong

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


def ownership(status: os.stat_result, mode: int) -> str:
    """What is wrong with owner and mode, in words; empty where nothing is."""
    wrong = []
    if (status.st_uid, status.st_gid) != (0, 0):
        wrong.append(f"owner {status.st_uid}:{status.st_gid}")
    if stat.S_IMODE(status.st_mode) != mode:
        wrong.append(f"mode {stat.S_IMODE(status.st_mode):04o}")
    return ", ".join(wrong)


def write(path: str, data: bytes, mode: int) -> None:
    """Replace a file in one step: a crash leaves the old or the new one, never a part."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)
        os.fchown(stream.fileno(), 0, 0)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


def sync_tree(place: str) -> None:
    """Have the whole tree on the disk before anything points to it."""
    for folder, _, names in os.walk(place):
        for path in [*(os.path.join(folder, name) for name in names), folder]:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
