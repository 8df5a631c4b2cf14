"""Deploying: a check that tells the truth, a first run, a second that does nothing, and drift put right exactly."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra

from tests.lab.deployment import (
    CONFIG,
    CURRENT,
    DEPLOYMENTS,
    DROPINS,
    ENGINE_ALONE,
    HISTORY,
    UNIT,
    PlayResult,
    fingerprint,
    flip_byte,
    history,
    live,
    pid,
    play,
)
from tests.lab.labs import CHECKOUT, Lab, wait_for
from tests.support import programs

pytestmark = pytest.mark.lab

# Everything a deployment could touch, without what a running system writes by itself.
PLACES = (
    "/etc",
    "/opt",
    "/usr/local",
    "/var/lib",
    "/var/log/hybrid-engine",
    "/root",
    "/run/systemd/system",
    "/run/hybrid-deploy",
    "/srv",
    "/home",
)
AS_ENGINE = "setpriv --reuid=hybrid-engine --regid=hybrid-engine --clear-groups"
RESTART = "Start the service and wait until it is healthy"
FILES = "Install the service's files"
TREE = "Install the release, or repair it"


@pytest.fixture(scope="module")
def checked(lab: Lab) -> tuple[str, str, PlayResult]:
    """The fresh host before and after a check, and what the check said."""
    before = fingerprint(lab, *PLACES)
    result = play(lab, "deploy", "--check", "--diff")
    return before, fingerprint(lab, *PLACES), result


@pytest.fixture(scope="module")
def deployed(lab: Lab, checked: object) -> PlayResult:
    return play(lab, "deploy", "--diff")


def test_check_on_a_fresh_host_changes_nothing(checked: tuple[str, str, PlayResult]) -> None:
    before, after, _ = checked
    assert after == before


def test_check_lists_what_the_real_run_changes(checked: tuple[str, str, PlayResult], deployed: PlayResult) -> None:
    result = checked[2]
    assert result.changes == deployed.changes
    assert result.paths == deployed.paths
    assert {UNIT, "config.toml", "current"} <= {path.rpartition("/")[2] for path in result.paths}


@pytest.mark.holds("HISTORY")
def test_deployment_is_in_the_history(lab: Lab, deployed: PlayResult) -> None:
    line, recorder = history(lab)
    assert (line["what"], line["outcome"], line["ssh_user"]) == ("deploy", "done", "operator")
    assert (recorder["of"], recorder["outcome"]) == ("hybrid-health-snapshot", "done")
    assert (line["by"], line["from"]) == (os.environ.get("SUDO_USER") or getpass.getuser(), socket.gethostname())
    assert line["release"] == live(lab)
    result = lab.root("journalctl", "--output=cat", f"--unit={UNIT}").stdout
    assert line["config_digest"] in result, "it is the digest that the engine says at its start"
    installed = {change.partition(" (")[0] for change in line["changed"]}
    assert installed >= {CONFIG, CURRENT, f"{DROPINS}/40-hardening.conf", f"/opt/hybrid-engine/releases/{live(lab)}"}
    assert lab.root("stat", "-c", "%U:%G %a", DEPLOYMENTS).stdout.strip() == "root:root 644"


def test_engine_runs_and_candidate_is_gone(lab: Lab, deployed: PlayResult) -> None:
    assert pid(lab) > 0
    assert lab.root("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    left = lab.root("sh", "-c", "ls -d /run/*candidate* /run/systemd/system/*candidate* /run/hybrid-*", check=False)
    assert left.stdout.split() in ([], ["/run/hybrid-deploy"]), left.stdout
    assert lab.root("systemctl", "list-units", "--all", "--plain", "--no-legend", "*candidate*").stdout == ""
    assert lab.root("ls", "/run/hybrid-deploy").stdout == ""


@pytest.mark.holds("IDEMPOTENT")
def test_host_is_as_documented(lab: Lab, deployed: PlayResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """By testinfra, which knows nothing of what verify looks at, over a connection of Ansible's."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")  # it runs ansible-inventory
    host = testinfra.get_host(f"ansible://{lab.name}?ansible_inventory={lab.inventory}&sudo=true")
    service, user = host.service("hybrid-engine"), host.user("hybrid-engine")
    assert (service.is_running, service.is_enabled) == (True, True)
    assert (user.home, user.shell, user.groups) == ("/var/lib/hybrid-engine", "/usr/sbin/nologin", ["hybrid-engine"])
    modes = {
        "/etc/hybrid-engine": ("root", "hybrid-engine", 0o750),
        CONFIG: ("root", "hybrid-engine", 0o640),
        "/var/lib/hybrid-engine": ("hybrid-engine", "hybrid-engine", 0o750),
        f"{CURRENT}/": ("root", "root", 0o755),
        DROPINS: ("root", "root", 0o755),
    }
    files = {path: host.file(path) for path in modes}
    assert {path: (file.user, file.group, file.mode) for path, file in files.items()} == modes
    (process,) = host.process.filter(user="hybrid-engine")
    assert process.pid == pid(lab)
    assert not host.run(f"ss -Htulnp | grep pid={process.pid},").stdout, "it listens nowhere"


def test_second_run_changes_nothing(lab: Lab, deployed: PlayResult) -> None:
    before, process = fingerprint(lab, "/etc", "/opt", "/var/log/hybrid-engine"), pid(lab)
    again = play(lab, "deploy", "--diff")
    assert "changed=0" in again.out
    assert (again.changes, again.paths) == ([], [])
    assert pid(lab) == process
    assert fingerprint(lab, "/etc", "/opt", "/var/log/hybrid-engine") == before


ALTERED = {
    f"/etc/systemd/system/{UNIT}": FILES,
    f"{DROPINS}/40-hardening.conf": FILES,
    CONFIG: FILES,
    f"{CURRENT}/lib/hybrid_engine/domain/events.py": TREE,
    f"{CURRENT}/lib/hybrid_engine/storage/__pycache__/store.cpython-*.pyc": TREE,
    f"{CURRENT}/bin/hybrid-engine": TREE,
    f"{CURRENT}/release.json": TREE,
}


def text(path: str) -> str:
    """The name under which the diff shows a file."""
    return path.partition("/releases/")[2].partition("/")[2] or path


@pytest.mark.holds("IDEMPOTENT")
def test_altered_byte_of_every_file_is_reported_and_healed(lab: Lab, deployed: PlayResult) -> None:
    places = [lab.root("sh", "-c", f"readlink -f {path}").stdout.strip() for path in ALTERED]
    before, process = fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(lab)
    for place in places:
        flip_byte(lab, place)
    lines = history(lab)
    output = play(lab, "deploy", ENGINE_ALONE, "--check", "--diff")
    assert (pid(lab), history(lab)) == (process, lines)
    healed = play(lab, "deploy", ENGINE_ALONE, "--diff")
    assert sorted(healed.paths) == sorted(output.paths) == sorted(map(text, places))
    assert healed.changes == output.changes == [TREE, FILES, RESTART]
    assert {change.partition(" (")[0] for change in history(lab)[-1]["changed"]} == {*places, UNIT}
    assert fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy") == before
    assert pid(lab) not in (0, process)


def test_owner_and_mode_are_healed_without_a_restart(lab: Lab, deployed: PlayResult) -> None:
    before, process = fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(lab)
    lab.root("chmod", "0666", CONFIG)
    lab.root("chown", "hybrid-engine", f"{CURRENT}/lib/hybrid_engine/domain/events.py")
    healed = play(lab, "deploy", ENGINE_ALONE, "--diff")
    assert healed.changes == [TREE, FILES], "the process has read nothing else, so it goes on"
    assert pid(lab) == process
    assert fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy") == before


def test_stray_files_links_records_and_directories_are_healed(lab: Lab, deployed: PlayResult) -> None:
    before = fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy")
    lab.root("sh", "-c", f"echo 'raise SystemExit' > {CURRENT}/lib/json.py; rm {CURRENT}/lib/websocket/_url.py")
    lab.root("rm", "-r", f"{CURRENT}/lib/hybrid_engine/__pycache__")
    lab.root("chmod", "0777", "/opt/hybrid-engine/releases")
    for path in (HISTORY, f"/var/lib/hybrid-deploy/deployed/{UNIT}.json"):
        flip_byte(lab, path)
    lab.root("ln", "-sfn", "/tmp", CURRENT)
    healed = play(lab, "deploy", ENGINE_ALONE)
    assert healed.changes == [TREE, FILES, RESTART, "Record the release and prune old ones"]
    assert fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy") == before


def test_stopped_service_is_started_and_unmanaged_dropin_kept(lab: Lab, deployed: PlayResult) -> None:
    path = f"{DROPINS}/90-mine.conf"
    lab.root("sh", "-c", f"printf '[Service]\\nNice=11\\n' > {path} && systemctl daemon-reload")
    lab.root("systemctl", "disable", "--now", UNIT)
    result = play(lab, "deploy", ENGINE_ALONE)
    assert (result.changes, f"is changed by {path}" in result.text) == ([RESTART], True)
    assert pid(lab) > 0
    assert lab.root("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    lab.root("rm", path)
    lab.root("systemctl", "daemon-reload")


def test_unfinished_change_is_completed(lab: Lab, deployed: PlayResult) -> None:
    """Cut off after the files were written and before the restart: the next run restarts, though no file differs."""
    process = pid(lab)
    record = '{"before": {}, "restart": true}'
    lab.root("sh", "-c", f"mkdir -p /run/hybrid-deploy; echo '{record}' > /run/hybrid-deploy/{UNIT}.json")
    assert play(lab, "deploy", ENGINE_ALONE).changes == [RESTART]
    assert pid(lab) not in (0, process)
    assert lab.root("ls", "/run/hybrid-deploy").stdout == ""


@pytest.mark.holds("HISTORY")
def test_deployment_that_is_killed_after_the_switch_is_in_the_history(lab: Lab, deployed: PlayResult) -> None:
    before, process = len(history(lab)), pid(lab)
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    words = ["-i", str(lab.inventory), "playbooks/deploy.yml", ENGINE_ALONE, "-e", "engine_sample_every=7"]
    controller = programs.start([program, *words], cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    wait_for("the restart", lambda: pid(lab) not in (0, process), 60)
    controller.kill()
    wait_for("the end of the switch", lambda: not lab.root("ls", "/run/hybrid-deploy").stdout, 60)
    assert len(history(lab)) == before, "the line is missing"
    assert play(lab, "deploy", ENGINE_ALONE, engine_sample_every=7).changes == []
    *_, last = history(lab)
    assert (len(history(lab)), last["outcome"], live(lab)) == (before + 1, "cut off", last["release"])
    assert f"{CONFIG} (content)" in last["changed"]
    checked = lab.root("sh", "-c", f"cd /; {AS_ENGINE} {CURRENT}/bin/hybrid-engine config check")
    assert checked.stdout.split()[-1] == last["config_digest"]
    assert play(lab, "deploy", ENGINE_ALONE).changes == [FILES, RESTART]
    assert [entry["outcome"] for entry in history(lab)[before:]] == ["cut off", "done"]


def test_new_values_reach_configuration_and_unit(lab: Lab, deployed: PlayResult) -> None:
    """Hardened, it may not choose a CPU by itself, and goes on without."""

    def cpus() -> set[str]:
        return set(
            lab.root("sh", "-c", f"grep -h Cpus_allowed_list: /proc/{pid(lab)}/task/*/status").stdout.split()[1::2]
        )

    def policies() -> set[str]:
        """Of its threads: 0 is SCHED_OTHER, 3 SCHED_BATCH; the 39th field behind the name, proc(5)."""
        result = lab.root("sh", "-c", f"sed 's/.*) //' /proc/{pid(lab)}/task/*/stat | cut -d ' ' -f 39").stdout
        return set(result.split())

    anywhere = cpus()
    assert policies() == {"0"}
    assert play(lab, "deploy", ENGINE_ALONE, engine_cpus="0", engine_sample_every=5).changes == [FILES, RESTART]
    assert "sample_every = 5" in lab.root("cat", CONFIG).stdout
    assert (cpus(), policies()) == ({"0"}, {"3"})
    assert play(lab, "deploy", ENGINE_ALONE).changes == [FILES, RESTART]
    assert (cpus(), policies()) == (anywhere, {"0"})


def test_refused_configuration_replaces_nothing(lab: Lab, deployed: PlayResult) -> None:
    before, process = fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(lab)
    result = play(lab, "deploy", ENGINE_ALONE, check=False, engine_mode="LIVE")
    assert result.rc != 0
    assert "is refused: " in result.text
    assert "live_armed" in result.text
    assert "Nothing was replaced" in result.text
    assert (history(lab)[-1]["outcome"], "live_armed" in history(lab)[-1]["why"]) == ("refused", True)
    assert (fingerprint(lab, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(lab)) == (before, process)
    assert lab.root("sh", "-c", "ls -d /run/*candidate*", check=False).stdout == ""


def test_diff_shows_no_secrets(lab: Lab, deployed: PlayResult) -> None:
    url = "ws://trader:hunter2@127.0.0.1:9/feed?token=hunter3"
    result = play(lab, "deploy", ENGINE_ALONE, "--check", "--diff", engine_ingest_mode="MOCK_WS", engine_ws_url=url)
    assert "ws://[redacted]@127.0.0.1:9/feed?token=[redacted]" in result.out
    assert "hunter" not in result.out
