"""Release, configuration and every other deployed file: as deployed, byte by byte, and what the process runs."""

import hashlib
import json
from typing import Any

from tests.verify.conftest import source


def starting(seen: dict[str, Any]) -> dict[str, Any]:
    """The fields of this start's first line, with what a reload has changed since."""
    found: dict[str, Any] = {}
    for line in seen["journal"]:
        fields = json.loads(line)["fields"] if line.startswith("{") else {}
        if fields.get("message") == "engine starting":
            found = dict(fields)
        elif fields.get("message") == "reloaded":
            found |= {key: fields[key] for key in ("config_digest",) if key in fields}
    assert found, "the journal has no 'engine starting' of this start"
    return found


def test_process_runs_the_live_release(seen: dict[str, Any]) -> None:
    said, release = starting(seen), seen["release"]
    assert release, f"{seen['home']} has no release.json"
    assert (said["release_name"], said["release_digest"]) == (release["name"], release["digest"])
    assert seen["home"].endswith(f"/releases/{release['name']}")
    assert seen["deployed"]["links"]["/opt/hybrid-engine/current"] == f"releases/{release['name']}"


def test_release_is_remembered_and_not_void(seen: dict[str, Any]) -> None:
    name = seen["release"]["name"]
    assert name in seen["releases"]["history"]
    assert name not in seen["releases"]["void"]


def test_release_is_what_its_name_says(seen: dict[str, Any]) -> None:
    total = hashlib.sha256()
    came = source(seen, "/opt/hybrid-engine/current", seen["home"])
    for path, digest in sorted(seen["release"]["files"].items()):
        assert seen["tree"].get(path, {}).get("sha256") == digest, f"{path} is not as it was built {came}"
        total.update(f"{path}\0{digest}\n".encode())
    assert total.hexdigest() == seen["release"]["digest"]
    assert seen["home"].endswith(seen["release"]["digest"][:12])


def test_bytecode_is_what_was_compiled(seen: dict[str, Any]) -> None:
    for path, digest in seen["bytecode"]["files"].items():
        if digest:
            assert seen["tree"].get(path, {}).get("sha256") == digest, f"{path} is not as it was compiled"


def test_release_holds_nothing_else_and_is_roots(seen: dict[str, Any]) -> None:
    files = {*seen["release"]["files"], *seen["bytecode"]["files"], "release.json", "bytecode.json"}
    for path, entry in seen["tree"].items():
        assert entry["kind"] in ("file", "directory"), f"{path} is a {entry['kind']}"
        assert entry["kind"] == "directory" or path in files, f"{path} is not part of the release"
        program = entry["kind"] == "directory" or path.startswith("bin/")
        assert (entry["uid"], entry["gid"], entry["mode"]) == (0, 0, "0755" if program else "0644"), path


def test_nobody_else_may_replace_a_release(seen: dict[str, Any]) -> None:
    for path, entry in seen["above"].items():
        assert entry == {"kind": "directory", "mode": "0755", "uid": 0, "gid": 0}, path


def test_process_runs_the_deployed_configuration(seen: dict[str, Any]) -> None:
    check = seen["config_check"]
    assert check["rc"] == 0, f"the configuration in /etc is refused: {check['err']}"
    digest = check["said"][-1].removeprefix("config digest ")
    assert starting(seen)["config_digest"] == digest, "the process started with another configuration than /etc holds"


def test_deployed_files_are_as_deployed(seen: dict[str, Any]) -> None:
    users = {entry[0]: int(entry[2]) for entry in seen["passwd"]["passwd"] if len(entry) > 2}
    groups = {entry[0]: int(entry[2]) for entry in seen["passwd"]["group"] if len(entry) > 2}
    out = {f"/etc/systemd/system/hybrid-engine.service.d/{name}" for name in seen["rolled_back"]}
    wrong = []
    for kind in ("files", "directories"):
        for path, entry in seen["deployed"][kind].items():
            if path in out:
                continue
            found = seen["found"][path]
            wanted = {"uid": users[entry["owner"]], "gid": groups[entry["group"]], "mode": entry["mode"]}
            wanted |= {"sha256": entry["sha256"]} if kind == "files" else {"kind": "directory"}
            wrong += [
                f"{path}: {key} {found.get(key)} where {value} was deployed {source(seen, path)}"
                for key, value in wanted.items()
                if found.get(key) != value
            ]
    assert not wrong, "; ".join(wrong)


def test_deployed_links_are_as_deployed(seen: dict[str, Any]) -> None:
    for path, target in seen["deployed"]["links"].items():
        assert seen["found"][path] == {"kind": "link", "target": target}, f"{path} {source(seen, path)}"
