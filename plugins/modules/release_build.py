"""Build a release on the controller: see DOCUMENTATION."""

import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from ansible.module_utils import release_wheels
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drift import MANIFEST, content_digest
from ansible.module_utils.release_layout import canonical
from ansible.module_utils.release_wheels import WheelError
from ansible.module_utils.service_unit import options_of

DOCUMENTATION = r"""
{"module": "release_build",
 "short_description": "Build a relocatable release tree, named by its content",
 "description": "Takes top-level packages from a checkout and their dependencies as wheels chosen for the target's
  Python and platform, and packs them with a launcher into a reproducible archive. A wheel whose hash is not in
  requirements/LIST.lock of the checkout is refused. Runs on the controller. Writes only
  below O(build_dir), which is a cache, so it never reports a change.",
 "options": {
  "checkout": {"type": "path", "required": true,
   "description": "Directory that holds pyproject.toml and the packages."},
  "build_dir": {"type": "path", "required": true, "description": "Where wheels and archives are cached."},
  "packages": {"type": "list", "elements": "str", "required": true, "description": "Top-level packages to take."},
  "requirements": {"type": "list", "elements": "str", "default": [],
   "description": "Names of pyproject's lists of requirements, C(dependencies) or an extra."},
  "launcher": {"required": true, "description": "Name of the command in bin/."},
  "entry": {"required": true, "description": "What it calls, as module:function."},
  "interpreter": {"default": "/usr/bin/python3", "description": "Python on the target."},
  "python_version": {"required": true, "description": "Its version, as 3.11."},
  "machine": {"required": true, "description": "The target's uname -m."}
 }}
"""

RETURN = r"""
name: {type: str, returned: always, description: "<version>-<digest12>"}
digest: {type: str, returned: always, description: sha256 over paths and contents}
files: {type: dict, returned: always, description: "{path: sha256} of every file"}
manifest: {type: str, returned: always, description: The text of release.json}
archive: {type: str, returned: always, description: The tar on the controller}
"""

LAUNCHER = """\
#!{interpreter} -ISB
# Isolated (-I), without site-packages (-S): what else is installed on this host has no say in what runs.
import os
import sys

# What it was built for; drift.unmet_needs compares the same where this program does not run.
NEEDS = {needs}
version, libc = ".".join(map(str, sys.version_info[:2])), (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2]
unmet = [
    f"{{name}} {{NEEDS[name]}} and this host has {{there}}"
    for name, there in (("python", version), ("machine", os.uname().machine))
    if NEEDS[name] != there
]
if [int(part) for part in libc.split(".") if part] < [int(part) for part in NEEDS["glibc"].split(".") if part]:
    unmet.append(f"glibc {{NEEDS['glibc']}} and this host has {{libc}}")
if unmet:
    needs = ", ".join(unmet)
    print(f"{{__file__}}: this release needs {{needs}}: deploy again, which brings one that fits", file=sys.stderr)
    sys.exit({unfit})

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "lib"))

from {module} import {function}

sys.exit({function}())
"""
# The exit code of a release on a host that it cannot run on: of a wrong configuration, for trying again is no help.
UNFIT = 12
EXCLUDED = (".pyc", ".pyo", "~", ".swp", ".orig", ".rej")


class BuildError(Exception):
    """The release cannot be built; the message says what to do about it."""


def own_files(checkout: Path, package: str) -> dict[str, bytes]:
    """The package's files as {lib/...: contents}, without caches, hidden files and editors' leavings."""
    top = checkout / package
    if not (top / "__init__.py").is_file():
        raise BuildError(f"{top} is not a package of this checkout")
    files = {}
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(checkout).parts
        hidden = any(part == "__pycache__" or part.startswith(".") for part in parts)
        if path.is_file() and not hidden and not path.name.endswith(EXCLUDED):
            files["/".join(("lib", *parts))] = path.read_bytes()
    return files


def wheel_files(wheel: Path) -> dict[str, bytes]:
    """What a wheel would install, as {lib/...: contents}. Scripts and headers of a wheel are not used here."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            parts = entry.filename.split("/")
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            if ".." in parts or entry.filename.startswith("/"):
                raise BuildError(f"{wheel.name} holds a path that leads out of it: {entry.filename}")
            if not entry.is_dir():
                files["/".join(("lib", *parts))] = archive.read(entry)
    return files


def wheels(lock: Path, requirements: list[str], cache: Path, python: str, machine: str) -> list[Path]:
    """The wheels of all requirements and theirs, from the cache or else from the package index.

    Raises WheelError where one is not exactly what the lock says.
    """
    if not requirements:
        return []
    pins = release_wheels.read_lock(lock)
    if unpinned := [name for name in requirements if name.lower() not in pins]:
        raise WheelError(f"{lock} does not have {', '.join(unpinned)}: run make lock, which writes it")
    key = hashlib.sha256(f"{lock.read_text()}{python}{machine}".encode()).hexdigest()[:12]
    home = cache / f"py{python}-{machine}-{key}"
    if not _is_complete(home, pins):
        download = Path(tempfile.mkdtemp(dir=cache, prefix=".fetch-"))
        try:
            release_wheels.run_pip(["--require-hashes", f"--requirement={lock}"], download, python, machine)
            download.chmod(0o755)
            shutil.rmtree(home, ignore_errors=True)
            download.rename(home)
        except WheelError as error:
            raise WheelError(f"{error} (Python {python}, {machine}, {lock.name}; nothing in {cache})") from None
        finally:
            shutil.rmtree(download, ignore_errors=True)
    found = sorted(home.glob("*.whl"))
    release_wheels.check(found, pins, lock)
    return found


def _is_complete(home: Path, pins: release_wheels.Pins) -> bool:
    """Whether a wheel of each requirement is cached."""
    cached: set[str] = {release_wheels.pin_of(wheel.name) for wheel in home.glob("*.whl")}
    return bool(cached >= pins.keys())


def pack(contents: dict[str, bytes]) -> bytes:
    """A reproducible tar.gz: the same contents give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(contents):
            entry = tarfile.TarInfo(path)
            entry.size = len(contents[path])
            entry.mode = 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(contents[path]))
    return gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)


def build(options: dict[str, Any]) -> dict[str, Any]:
    """Build the release and return what RETURN describes; BuildError where it cannot be."""
    checkout, cache = Path(options["checkout"]), Path(options["build_dir"])
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    requirements: dict[str, list[str]] = {}
    for group in options["requirements"]:
        extras = project.get("optional-dependencies", {})
        if group != "dependencies" and group not in extras:
            raise BuildError(f"pyproject.toml has no list of requirements named {group!r}")
        requirements[group] = project.get("dependencies", []) if group == "dependencies" else extras[group]
    contents: dict[str, bytes] = {}
    for package in options["packages"]:
        contents |= own_files(checkout, package)
    (cache / "wheels").mkdir(parents=True, exist_ok=True)
    (cache / "releases").mkdir(exist_ok=True)
    with open(cache / "wheels" / ".lock", "w") as lock:  # hosts deployed side by side share this cache
        fcntl.flock(lock, fcntl.LOCK_EX)
        target = (options["python_version"], options["machine"])
        wheel_paths = [
            wheel
            for group, names in requirements.items()
            for wheel in wheels(release_wheels.lock_file(checkout, group), names, cache / "wheels", *target)
        ]
    for wheel in wheel_paths:
        contents |= wheel_files(wheel)
    module, function = options["entry"].split(":")
    if f"lib/{module.replace('.', '/')}.py" not in contents:
        raise BuildError(f"the launcher calls {options['entry']}, but no package has that module")
    needs = {
        "python": options["python_version"],
        "machine": options["machine"],
        "glibc": release_wheels.glibc_of([wheel.name for wheel in wheel_paths]),
    }
    launcher = LAUNCHER.format(
        interpreter=options["interpreter"], module=module, function=function, needs=json.dumps(needs), unfit=UNFIT
    )
    contents[f"bin/{options['launcher']}"] = launcher.encode()
    files = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    digest = content_digest(files)
    facts = {"version": project["version"], "digest": digest, "name": f"{project['version']}-{digest[:12]}"}
    manifest = canonical({**facts, **needs, "interpreter": options["interpreter"], "files": files})
    data = pack({**contents, MANIFEST: manifest.encode()})
    name = f"{options['launcher']}-{facts['name']}-py{options['python_version']}.tar.gz"
    archive = cache / "releases" / name
    if not archive.is_file() or archive.read_bytes() != data:
        with tempfile.NamedTemporaryFile(dir=archive.parent, delete=False) as draft:
            draft.write(data)
        os.chmod(draft.name, 0o644)
        os.replace(draft.name, archive)
    return {**facts, "files": files, "manifest": manifest, "archive": str(archive)}


def main() -> None:
    module = AnsibleModule(options_of(DOCUMENTATION), supports_check_mode=True)
    try:
        result = build(module.params)
    except (BuildError, WheelError, OSError, KeyError, ValueError, zipfile.BadZipFile) as problem:
        module.fail_json(msg=f"The release cannot be built: {problem}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
