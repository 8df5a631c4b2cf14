"""Keep a deployed release exactly as it was built: see DOCUMENTATION."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_tree
short_description: Install a release on the host, or heal exactly what differs from it
description:
  - Compares every file below the release (contents, mode, owner, kind; bytecode and stray files too) with the
    manifest made on the controller. A missing release is unpacked beside its place, compiled with the
    host's Python, synced and renamed into place. In an existing one only what differs is put right.
  - The action plugin of the same name sends the archive only when contents are needed.
options:
  root: {type: path, required: true, description: "Holds releases/ and current."}
  name: {type: str, required: true, description: "<version>-<digest12>"}
  files: {type: dict, required: true, description: "{path: sha256} of every file"}
  manifest: {type: str, required: true, description: The text of release.json}
  interpreter: {type: str, default: /usr/bin/python3, description: Compiles the bytecode.}
  archive: {type: path, description: "The tar; on the host when the module runs, on the controller in a playbook."}
  history: {type: path, required: true, description: The file that lists void releases.}
  force: {type: bool, default: false, description: Install a release that is marked void all the same.}
author: The hybrid-engine authors
"""

EXAMPLES = r"""
- name: Install the release
  release_tree:
    root: /opt/hybrid-engine
    name: "{{ built.name }}"
    files: "{{ built.files }}"
    manifest: "{{ built.manifest }}"
    archive: "{{ built.archive }}"
    history: /var/lib/hybrid-deploy/releases.json
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What differed, each with how"}
before: {type: str, returned: always, description: What current points to now}
live: {type: bool, returned: always, description: Whether current points to this release}
code_changed: {type: bool, returned: always, description: Whether something that a running process reads differed}
need_archive: {type: bool, returned: always, description: "The archive has to be sent first (nothing was done)"}
"""

import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_layout import BYTECODE, MANIFEST, canonical, current_name, file_sha256

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


def install(tree: Tree, archive: tarfile.TarFile) -> None:
    """Unpack, compile and sync beside its place, then rename: a release is there whole or not at all."""
    releases = os.path.dirname(tree.home)
    for left in os.listdir(releases):
        if left.startswith(".staging-"):  # of a deploy that was cut off
            shutil.rmtree(os.path.join(releases, left), ignore_errors=True)
    staging = tempfile.mkdtemp(dir=releases, prefix=".staging-")
    try:
        for path in [*tree.files, MANIFEST]:  # and nothing else that an archive might hold
            target = os.path.join(staging, path)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            member = archive.extractfile(path)
            with open(target, "wb") as stream:
                stream.write(member.read() if member else b"")
            os.chmod(target, tree.mode_of(path))
        for path, sha in tree.files.items():
            if file_sha256(os.path.join(staging, path)) != sha:
                raise OSError(f"{path} arrived altered: the copy was damaged on its way, run it again")
        os.chmod(staging, 0o755)
        tree.compile_into(staging, tree.sources())
        tree.record_bytecode(staging)
        sync_tree(staging)
        os.rename(staging, tree.home)
        sync_tree(releases)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def heal(tree: Tree, found: dict[str, str], archive: tarfile.TarFile | None) -> None:
    """Put right what differs, and nothing else."""
    for path, wrong in found.items():
        where = os.path.join(tree.home, path.rstrip("/"))
        if wrong in ("not part of the release", "not a regular file", "not a directory"):
            if os.path.isdir(where) and not os.path.islink(where):
                shutil.rmtree(where)
            else:
                os.unlink(where)
        elif wrong.startswith(("owner", "mode")):
            os.chown(where, 0, 0)
            os.chmod(where, 0o755 if path.endswith("/") else tree.mode_of(path))
    # Replacing a stray kind, or a wrong owner, may have hidden that the contents differ: so look once more.
    again = tree.differences()
    for path in again:
        if path == MANIFEST:
            write(os.path.join(tree.home, path), tree.manifest.encode(), 0o644)
        elif path in tree.files:
            member = archive.extractfile(path) if archive else None
            if member is None:
                raise OSError(f"{path} has to be replaced and no archive was sent")
            write(os.path.join(tree.home, path), member.read(), tree.mode_of(path))
    stale = {path for path in tree.sources() if BYTECODE in again or tree.bytecode_of(path) in again}
    if stale:
        tree.compile_into(tree.home, sorted(stale))
    if stale or BYTECODE in again:
        tree.record_bytecode(tree.home)
    for folder, names, files in os.walk(tree.home):  # directories that had to be made anew
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            mode = 0o755 if name in names else tree.mode_of(os.path.relpath(path, tree.home))
            if ownership(os.lstat(path), mode):
                os.chown(path, 0, 0)
                os.chmod(path, mode)
    rest = tree.differences()
    if rest:
        raise OSError(f"still different: {', '.join(f'{path} ({wrong})' for path, wrong in rest.items())}")


def refuse_void(options: dict[str, Any], module: AnsibleModule) -> None:
    """A release that failed its gate is not tried again unasked."""
    try:
        with open(options["history"], encoding="utf-8") as stream:
            void = options["name"] in json.load(stream).get("void", [])
    except FileNotFoundError:
        return
    except ValueError as problem:
        module.fail_json(msg=f"{options['history']} is not JSON ({problem}): repair or remove it")
    if void and not options["force"]:
        module.fail_json(
            msg=f"Release {options['name']} failed its gate on this host before, and is marked void in "
            f"{options['history']}. Deploy a changed one (it gets a new name), or try this one again "
            "with -e release_force=true."
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "manifest": {"type": "str", "required": True},
            "interpreter": {"type": "str", "default": "/usr/bin/python3"},
            "archive": {"type": "path"},
            "history": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    os.umask(0o022)
    refuse_void(options, module)
    try:
        tree = Tree(options)
        fresh = not os.path.lexists(tree.home)
        found = {"": "to be installed"} if fresh else tree.differences()
        contents = fresh or any(
            path in tree.files and wrong not in ("not part of the release",) and not wrong.startswith("mode")
            for path, wrong in found.items()
        )
        need = bool(found) and contents and not options["archive"] and not module.check_mode
        if found and not module.check_mode and not need:
            os.makedirs(os.path.dirname(tree.home), mode=0o755, exist_ok=True)
            archive = tarfile.open(options["archive"]) if options["archive"] else None
            if fresh and archive:
                install(tree, archive)
            else:
                heal(tree, found, archive)
    except (OSError, subprocess.CalledProcessError, tarfile.TarError, KeyError) as problem:
        module.fail_json(msg=f"Release {options['name']} could not be put right on this host: {problem}")
    shown = [f"{path} ({wrong})" if path else f"{options['name']} ({wrong})" for path, wrong in found.items()]
    module.exit_json(
        changed=bool(found) and not need,
        paths=shown,
        live=current_name(options["root"]) == options["name"],
        before=current_name(options["root"]) or "",
        code_changed=any(not wrong.startswith(("owner", "mode")) for wrong in found.values()),
        need_archive=need,
        diff={"prepared": "".join(f"{tree.home}: {line}\n" for line in shown)},
    )


if __name__ == "__main__":
    main()
