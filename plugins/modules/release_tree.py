"""Install a release, or repair what differs from what was built: see DOCUMENTATION."""

import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import BYTECODE, MANIFEST, file_sha256, ownership, release_mode
from ansible.module_utils.release_layout import Tree, current_name, read_releases, sync_tree
from ansible.module_utils.service_unit import options_of, write

DOCUMENTATION = r"""
{"module": "release_tree",
 "short_description": "Install a release on the host, or heal exactly what differs from it",
 "description": "Compares every file below the release (contents, mode, owner, kind; bytecode and stray files too) with
  the manifest made on the controller. A missing release is unpacked beside its place, compiled with the host's Python,
  synced and renamed into place. In an existing one only what differs is put right. The action plugin of the same name
  sends the archive only when contents are needed.",
 "options": {
  "root": {"type": "path", "required": true, "description": "Holds releases/ and current."},
  "name": {"required": true, "description": "<version>-<digest12>"},
  "files": {"type": "dict", "required": true, "description": "{path: sha256} of every file"},
  "manifest": {"required": true, "description": "The text of release.json"},
  "interpreter": {"default": "/usr/bin/python3", "description": "Compiles the bytecode."},
  "archive": {"type": "path",
   "description": "The tar; on the host when the module runs, on the controller in a playbook."},
  "history": {"type": "path", "required": true, "description": "The file that lists void releases."},
  "force": {"type": "bool", "default": false, "description": "Install a release that is marked void all the same."}
 }}
"""

RETURN = r"""
paths: {type: list, elements: str, returned: always, description: "What differed: absolute paths, each with how"}
before: {type: str, returned: always, description: What current points to now}
live: {type: bool, returned: always, description: Whether current points to this release}
code_changed: {type: bool, returned: always, description: Whether something that a running process reads differed}
need_archive: {type: bool, returned: always, description: "The archive has to be sent first (nothing was done)"}
"""


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
            os.chmod(target, release_mode(path))
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


def own(path: str, mode: int) -> None:
    os.chown(path, 0, 0)
    os.chmod(path, mode)


def heal(tree: Tree, differences: dict[str, str], archive: tarfile.TarFile | None) -> None:
    """Repair what differs, and nothing else."""
    for path, wrong in differences.items():
        where = os.path.join(tree.home, path.rstrip("/"))
        if wrong in ("not part of the release", "not a regular file", "not a directory"):
            if os.path.isdir(where) and not os.path.islink(where):
                shutil.rmtree(where)
            else:
                os.unlink(where)
        elif wrong.startswith(("owner", "mode")):
            own(where, 0o755 if path.endswith("/") else release_mode(path))
    # A wrong kind or owner may have hidden that the contents differ: compare once more.
    again = tree.differences()
    for path in again:
        if path == MANIFEST:
            write(os.path.join(tree.home, path), tree.manifest.encode(), 0o644)
        elif path in tree.files:
            member = archive.extractfile(path) if archive else None
            if member is None:
                raise OSError(f"{path} has to be replaced and no archive was sent")
            write(os.path.join(tree.home, path), member.read(), release_mode(path))
    stale = {path for path in tree.sources() if BYTECODE in again or tree.bytecode_of(path) in again}
    if stale:
        tree.compile_into(tree.home, sorted(stale))
    if stale or BYTECODE in again:
        tree.record_bytecode(tree.home)
    for folder, names, files in os.walk(tree.home):  # directories that were created anew
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            mode = 0o755 if name in names else release_mode(os.path.relpath(path, tree.home))
            if ownership(os.lstat(path), mode):
                own(path, mode)
    rest = tree.differences()
    if rest:
        raise OSError(f"still different: {', '.join(f'{path} ({wrong})' for path, wrong in rest.items())}")


def refuse_void(options: dict[str, Any], module: AnsibleModule) -> None:
    """Refuse a release that failed its gate before, unless it is forced."""
    if options["name"] in read_releases(options["history"])["void"] and not options["force"]:
        module.fail_json(
            msg=f"Release {options['name']} failed its gate on this host before, and is marked void in "
            f"{options['history']}. Deploy a changed one (it gets a new name), or try this one again "
            "with -e release_force=true."
        )


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    options = module.params
    os.umask(0o022)
    refuse_void(options, module)
    try:
        tree = Tree(options)
        fresh = not os.path.lexists(tree.home)
        differences = {"": "to be installed"} if fresh else tree.differences()
        above = tree.differences_above()
        contents = fresh or any(
            path in tree.files and wrong != "not part of the release" and not wrong.startswith("mode")
            for path, wrong in differences.items()
        )
        need = bool(differences) and contents and not options["archive"] and not module.check_mode
        if not module.check_mode and not need:
            for path in above:
                own(path, 0o755)
            if differences:
                os.makedirs(os.path.dirname(tree.home), mode=0o755, exist_ok=True)
                with tarfile.open(options["archive"]) if options["archive"] else contextlib.nullcontext() as archive:
                    if fresh and archive:
                        install(tree, archive)
                    else:
                        heal(tree, differences, archive)
    except (OSError, subprocess.CalledProcessError, tarfile.TarError, KeyError) as problem:
        module.fail_json(msg=f"Release {options['name']} could not be installed or repaired on this host: {problem}")
    changes = above | {f"{tree.home}/{path}".rstrip("/"): how for path, how in differences.items()}
    paths = [f"{path} ({how})" for path, how in changes.items()]
    module.exit_json(
        changed=bool(differences or above) and not need,
        paths=paths,
        live=current_name(options["root"]) == options["name"],
        before=current_name(options["root"]) or "",
        code_changed=any(not wrong.startswith(("owner", "mode")) for wrong in differences.values()),
        need_archive=need,
        diff={"prepared": "".join(f"{tree.home}: {path.removeprefix(f'{tree.home}/')}\n" for path in paths)},
    )


if __name__ == "__main__":
    main()
