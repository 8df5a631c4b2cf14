"""Rolling back is remembered, told of, and undone byte for byte; verify tells the sick host from the well one."""

from __future__ import annotations

import re

import pytest

from tests.lab.deployment import CONFIG, CURRENT, DROPINS, ENGINE_ALONE, UNIT, fingerprint, history, pid, play
from tests.lab.labs import CHECKOUT, Lab, wait_for
from tests.lab.proof_runs import PROGRAM

pytestmark = pytest.mark.lab

DROPIN = f"{DROPINS}/40-hardening.conf"


def hardened(lab: Lab) -> bool:
    """Whether the process has system call filters of its own (on top of the container's), and no capabilities."""
    script = 'for pid in "$@"; do awk "/Seccomp_filters|CapBnd/ { print \\$2 }" /proc/$pid/status; done'
    bounding, filters, _, inits = lab.root("sh", "-c", script, "sh", str(pid(lab)), "1").stdout.split()
    assert (int(bounding, 16) == 0) == (int(filters) > int(inits))
    return int(bounding, 16) == 0


@pytest.mark.holds("ROLLBACK")
def test_dropin_rollback_is_remembered_and_restored(installed: Lab) -> None:
    before = fingerprint(installed, "/etc")
    play(installed, "rollback", dropin="40-hardening")
    assert installed.root("ls", DROPINS).stdout.split() == ["20-resources.conf", "30-restart.conf", "50-watchdog.conf"]
    assert not hardened(installed), "the process runs without it"
    process, lines = pid(installed), history(installed)
    assert [lines[-1][key] for key in ("what", "of", "outcome")] == ["rollback", "40-hardening", "done"]
    assert lines[-1]["changed"] == [f"{DROPIN} (rolled back)", f"{UNIT} (restart)"]
    assert play(installed, "rollback", dropin="40-hardening").changes == []
    assert (pid(installed), history(installed)) == (process, lines)

    # A deployment honours it, whatever else it changes: the threshold binds no rollback.
    deployed = play(installed, "deploy", ENGINE_ALONE, engine_sample_every=3)
    assert "Install the service's files" in deployed.changes
    assert "40-hardening is rolled back since" in deployed.text
    assert not hardened(installed)
    verified = play(installed, "verify")
    assert re.search(r"ROLLED BACK: 40-hardening since \S+ by \S+; it stays out until", verified.text)

    play(installed, "restore", dropin="40-hardening")
    assert hardened(installed)
    assert [history(installed)[-1][key] for key in ("what", "of", "outcome")] == ["restore", "40-hardening", "done"]
    play(installed, "deploy", ENGINE_ALONE)
    assert fingerprint(installed, "/etc") == before


@pytest.mark.parametrize("words", [{}, {"dropin": "nope"}, {"release": "9.9.9-000000000000"}])
def test_unknown_name_is_refused_with_the_choices(installed: Lab, words: dict[str, str]) -> None:
    before, process = fingerprint(installed, "/etc", "/var/lib/hybrid-deploy"), pid(installed)
    result = play(installed, "rollback", check=False, **words)
    assert result.rc != 0
    assert any(text in result.text for text in ("Say what to roll back", "in force: 20-resources", "on this host:"))
    assert (fingerprint(installed, "/etc", "/var/lib/hybrid-deploy"), pid(installed)) == (before, process)


def failed(result: str) -> set[str]:
    return set(re.findall(r"(?:FAILED|ERROR) tests/verify/\S+::(\w+)", result))


def test_verify_fails_for_each_drift(installed: Lab) -> None:
    """Many wrongs at once, each of which has its assertion; then nothing is left of them."""
    installed.root("chmod", "0666", f"{DROPINS}/20-resources.conf")
    installed.root("sh", "-c", f"sed -i 's/sample_every = 1/sample_every = 2/' {CONFIG}")
    module = f"{CURRENT}/lib/hybrid_engine/domain/events.py"
    installed.root("sh", "-c", f"echo '# altered' >> {module}; touch {CURRENT}/stray")
    installed.root("sh", "-c", f"printf '[Service]\\nSystemCallFilter=\\nNice=5\\n' > {DROPINS}/90-foreign.conf")
    installed.root("sh", "-c", f"systemctl daemon-reload; systemctl disable {UNIT}; systemctl restart {UNIT}")
    installed.root("sh", "-c", f"sed -i 's/sample_every = 2/sample_every = 3/' {CONFIG}")
    installed.root("chmod", "0755", "/var/lib/hybrid-engine")
    result = play(installed, "verify", check=False)
    assert result.rc != 0
    assert failed(result.out) >= {
        "test_enabled",
        "test_state_directory_is_its_own",
        "test_in_force_or_rolled_back",
        "test_nobody_else_changes_the_unit",
        "test_release_is_what_its_name_says",
        "test_release_holds_nothing_else_and_is_roots",
        "test_process_runs_the_deployed_configuration",
        "test_deployed_files_are_as_deployed",
    }
    assert "journal of hybrid-engine.service" in result.out
    assert "engine starting" in result.text, "the journal's last lines"
    installed.root("rm", f"{DROPINS}/90-foreign.conf")
    installed.root("chmod", "0750", "/var/lib/hybrid-engine")
    play(installed, "deploy", ENGINE_ALONE)
    play(installed, "verify")


def test_journal_that_keeps_nothing_fails_no_healthy_host(installed: Lab) -> None:
    """State is read from state. A proof, which needs the log, says in a line that this host cannot show it."""
    drop = "/run/systemd/journald.conf.d/99-none.conf"
    installed.root("mkdir", "-p", drop.rpartition("/")[0])
    installed.root("sh", "-c", f"printf '[Journal]\\nStorage=none\\n' > {drop}")
    installed.root("sh", "-c", "systemctl restart systemd-journald; rm -rf /run/log/journal/* /var/log/journal/*")
    try:
        assert "the journal has nothing of this start" in play(installed, "verify").text
        play(installed, "prove", "--tags=install", release_checkout=CHECKOUT)
        refused = installed.root(PROGRAM, "run", "exit12", check=False)
        assert refused.returncode != 0
        assert "the journal keeps entries" in refused.stdout + refused.stderr
    finally:
        installed.root("rm", drop)
        installed.root("systemctl", "restart", "systemd-journald")


def test_full_disk_and_wrong_clock_stop_installing_alone(installed: Lab) -> None:
    """As a host without space and with another time looks: it can be looked at, and gone back on."""
    bad = ("-e", "preflight_free_mb=1000000000", "-e", "preflight_clock_tolerance_s=-1")
    refused = play(installed, "deploy", ENGINE_ALONE, *bad, check=False)
    assert refused.rc != 0
    assert "MB free below /var where 1000000000 MB are needed" in refused.text
    assert "Its clock is" in refused.text
    play(installed, "verify", *bad)
    play(installed, "rollback", *bad, dropin="40-hardening")
    play(installed, "restore", *bad, dropin="40-hardening")
    assert hardened(installed)


def test_check_of_proofs_and_soak_takes_nothing_away(installed: Lab) -> None:
    before, process = fingerprint(installed, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(installed)
    for name in ("prove", "soak"):
        assert play(installed, name, "--check", release_checkout=CHECKOUT).rc == 0
    assert (fingerprint(installed, "/etc", "/opt", "/var/lib/hybrid-deploy"), pid(installed)) == (before, process)


def test_release_of_another_python_is_named_and_healed(installed: Lab) -> None:
    """What an upgrade of the host's system leaves: a release that was built for the Python of before."""
    old, files = "3.9", f"{CURRENT}/release.json {CURRENT}/bin/hybrid-engine"
    installed.root("sh", "-c", f"""sed -i 's/"python": "[0-9.]*"/"python": "{old}"/' {files}""")
    installed.root("systemctl", "restart", UNIT, check=False)
    show = ("systemctl", "show", "--property=ActiveState,ExecMainStatus,NRestarts", "--value", UNIT)
    wait_for("its end", lambda: "failed" in installed.root(*show).stdout)
    assert sorted(installed.root(*show).stdout.split()) == ["0", "12", "failed"], "one start, which stays down"
    run = installed.root("systemctl", "show", "--property=InvocationID", "--value", UNIT).stdout.strip()
    lines = installed.root("journalctl", "--output=cat", "-n3", f"_SYSTEMD_INVOCATION_ID={run}").stdout
    needs = f"needs python {old} and this host has"
    assert [needs in line for line in lines.splitlines()] == [True]
    assert f"was built for Python {old}" in play(installed, "preflight").text
    assert f"the release {needs}" in play(installed, "verify", check=False).text
    play(installed, "deploy", ENGINE_ALONE)
    play(installed, "verify")


def test_verify_fails_when_nothing_runs(installed: Lab) -> None:
    installed.root("systemctl", "stop", UNIT)
    result = play(installed, "verify", check=False)
    assert result.rc != 0
    assert {"test_running_and_ready", "test_runs_as_its_own_user", "test_counters_are_fresh"} <= failed(result.out)
