"""What does not prove itself does not stay: releases that fail, hosts that cannot, first deployments gone wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.deployment import (
    CURRENT,
    ENGINE_ALONE,
    HISTORY,
    ROOT,
    UNIT,
    checkout_with,
    fingerprint,
    history,
    live,
    pid,
    play,
)
from tests.lab.labs import Lab, MakeLab

pytestmark = pytest.mark.lab

FAILS = """

def _run(args: argparse.Namespace) -> int:
    raise RuntimeError("broken on purpose")
"""
# Runs well as a candidate, and not in its place: what only the second gate sees.
FAILS_IN_PLACE = """

_runs = _run


def _run(args: argparse.Namespace) -> int:
    if args.config is not None:
        return _runs(args)
    raise RuntimeError("broken in its place on purpose")
"""


# Starts well and never says again that it is alive.
FAILS_TO_PING = """

from hybrid_engine.runtime.systemd import Notifier

Notifier.watchdog = lambda self: None  # type: ignore[method-assign]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


def state(lab: Lab) -> str:
    return fingerprint(lab, "/etc", CURRENT, "/run/systemd/system")


def candidates(lab: Lab) -> str:
    """All that could be left of a candidate."""
    units = lab.root("systemctl", "list-units", "--all", "--plain", "--no-legend", "*candidate*").stdout
    return units + lab.root("sh", "-c", "ls -d /run/*candidate* /run/systemd/system/*candidate*", check=False).stdout


@pytest.mark.holds("DEPLOY")
def test_failing_release_leaves_the_old_one_running(installed: Lab, checkout: Path) -> None:
    before, process, name = state(installed), pid(installed), live(installed)
    checkout.mkdir()
    checkout_with(checkout, cli=FAILS)
    result = play(installed, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout)
    assert result.rc != 0
    assert "broken on purpose" in result.out, "the candidate's last lines"
    assert "Nothing was replaced" in result.text
    assert (state(installed), pid(installed), live(installed)) == (before, process, name)
    assert candidates(installed) == ""
    line = history(installed)[-1]
    assert (line["outcome"], line["release"]) == ("refused", name)
    assert line["tried"] not in ("", name)
    assert "The candidate of hybrid-engine.service is unhealthy" in line["why"]
    again = play(installed, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout)
    assert again.rc != 0
    assert "is marked void" in again.text
    assert "release_force=true" in again.text
    assert "is marked void" in history(installed)[-1]["why"]
    forced = play(installed, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout, release_force="true")
    assert "broken on purpose" in forced.out, "tried again because somebody said so"
    assert (state(installed), pid(installed)) == (before, process)


def test_release_failing_its_watchdog_is_refused(installed: Lab, checkout: Path) -> None:
    before, process = state(installed), pid(installed)
    checkout.mkdir()
    checkout_with(checkout, cli=FAILS_TO_PING)
    result = play(installed, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout)
    assert result.rc != 0
    assert "watchdog" in result.text
    assert (state(installed), pid(installed), candidates(installed)) == (before, process, "")


@pytest.mark.holds("DEPLOY", "HISTORY")
def test_release_failing_in_place_is_rolled_back(installed: Lab, checkout: Path) -> None:
    before, process, name = state(installed), pid(installed), live(installed)
    checkout.mkdir()
    checkout_with(checkout, cli=FAILS_IN_PLACE)
    result = play(installed, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout, engine_sample_every=7)
    assert result.rc != 0
    assert "broken in its place on purpose" in result.out
    assert "What was there before runs again" in result.text
    assert (state(installed), live(installed)) == (before, name)
    line = history(installed)[-1]
    assert (line["outcome"], line["release"]) == ("taken back", name)
    assert line["tried"] not in ("", name)
    assert f"{CURRENT} (points to releases/{name})" in line["changed"]
    assert pid(installed) not in (0, process)
    assert "void" in result.text
    assert installed.root("ls", "/run/hybrid-deploy").stdout == ""


def test_old_releases_are_pruned_but_not_the_live_one(installed: Lab, tmp_path: Path) -> None:
    names = [live(installed)]
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        play(
            installed,
            "deploy",
            ENGINE_ALONE,
            release_checkout=checkout_with(folder, __init__=f"# {number}\n"),
            release_keep=2,
        )
        names.append(live(installed))
    assert len(set(names)) == 3
    assert sorted(installed.root("ls", f"{ROOT}/releases").stdout.split()) == sorted(names[1:])
    back = play(installed, "rollback", release="previous")
    assert "Start the service and wait until it is healthy" in back.changes
    assert live(installed) == names[1]
    line = history(installed)[-1]
    output = [line[key] for key in ("what", "of", "outcome", "release")]
    assert output == ["rollback", f"to {names[1]}", "done", names[1]]
    result = play(installed, "rollback", check=False, release="previous")
    assert history(installed)[-1]["outcome"] == "refused"
    assert "no release was live before" in result.text
    assert live(installed) == names[1]


def test_altered_release_is_no_rollback_target(installed: Lab) -> None:
    name = live(installed)
    other = next(n for n in installed.root("ls", f"{ROOT}/releases").stdout.split() if n != name)
    installed.root("sh", "-c", f"echo '# altered' >> {ROOT}/releases/{other}/lib/hybrid_engine/domain/events.py")
    process = pid(installed)
    result = play(installed, "rollback", check=False, release=other)
    assert "altered on this host" in result.text
    assert (live(installed), pid(installed)) == (name, process)


def test_failed_first_deployment_leaves_nothing_running(make_lab: MakeLab, checkout: Path) -> None:
    fresh = make_lab()
    checkout.mkdir()
    checkout_with(checkout, cli=FAILS)
    assert play(fresh, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout).rc != 0
    checkout_with(checkout / "in_place", cli=FAILS_IN_PLACE)
    result = play(fresh, "deploy", ENGINE_ALONE, check=False, release_checkout=checkout / "in_place")
    assert "Nothing was there before: it is not installed" in result.text
    assert candidates(fresh) == ""
    left = ["/etc/hybrid-engine", f"/etc/systemd/system/{UNIT}", f"/etc/systemd/system/{UNIT}.d", CURRENT]
    assert fresh.root("sh", "-c", 'ls -d "$@" 2>/dev/null', "sh", *left, check=False).stdout == ""
    assert fresh.root("ls", f"{ROOT}/releases").stdout == ""
    assert fresh.root("systemctl", "show", "--value", "-p", "LoadState", UNIT).stdout.strip() == "not-found"
    assert fresh.root("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout == ""
    assert '"void"' in fresh.root("cat", HISTORY).stdout
    play(fresh, "deploy", ENGINE_ALONE)
    assert pid(fresh) > 0


def test_preflight_lists_everything_missing(installed: Lab) -> None:
    before = fingerprint(installed, "/etc", "/opt", "/var/lib/hybrid-deploy")
    wishes = {"preflight_systemd_min": 999, "preflight_python_min": "9.9", "preflight_free_mb": 10**9}
    result = play(installed, "deploy", ENGINE_ALONE, "--check", check=False, **wishes)
    assert result.rc != 0
    for words in ("for 4 reason(s)", "where 999 or newer", "where 9.9 or newer", "MB free below /opt", "make room"):
        assert words in result.text
    assert fingerprint(installed, "/etc", "/opt", "/var/lib/hybrid-deploy") == before


def test_host_without_python_is_refused(installed: Lab) -> None:
    result = play(installed, "preflight", check=False, preflight_python="/usr/bin/no-python")
    assert result.rc != 0
    assert "It has no working /usr/bin/no-python: apt-get install python3" in result.text


def test_user_without_sudo_is_refused(installed: Lab) -> None:
    installed.root("sh", "-c", "mkdir /root/away && mv /etc/sudoers.d/* /root/away/")
    result = play(installed, "deploy", ENGINE_ALONE, check=False)
    installed.root("sh", "-c", "mv /root/away/* /etc/sudoers.d/ && rmdir /root/away")
    assert result.rc != 0
    assert f"{installed.name} cannot be used: " in result.text
    assert "password" in result.text
    assert "sudo true" in result.text
    assert result.changes == []


def test_unreachable_host_is_one_line(installed: Lab, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "nuc:\n  hosts:\n    gone: {ansible_host: 127.0.0.1, ansible_port: 9, ansible_user: operator}\n"
    )
    result = play(installed, "deploy", ENGINE_ALONE, f"--inventory={inventory}", "--limit=gone", check=False)
    assert result.rc != 0
    assert "gone cannot be used" in result.text
    assert "ssh operator@127.0.0.1" in result.text
