"""Drift: what is changed on a host by hand is named by verify, each thing in words of its own, and deploy heals it."""

from __future__ import annotations

import re

import pytest

from tests.lab.deploying import CONFIG, CURRENT, DROPINS, UNIT, fingerprint, play
from tests.lab.labs import Lab

pytestmark = pytest.mark.lab
FILE = f"/etc/systemd/system/{UNIT}"
ADDED = f"{DROPINS}/60-added.conf"
RELOAD = f"systemctl daemon-reload; systemctl restart {UNIT}"
# What somebody does by hand; the assertion that has to go red for it; and what that has to name.
DRIFTS = {
    "the unit edited by hand": (
        f"sed -i 's/^Description=.*/Description=mine now/' {FILE}",
        "test_deployed_files_are_as_deployed",
        FILE,
    ),
    "a drop-in added": (
        f"printf '[Service]\\nOOMScoreAdjust=5\\n' > {ADDED}",
        "test_nobody_else_changes_the_unit",
        ADDED,
    ),
    "WorkingDirectory emptied": (
        f"sed -i 's/^WorkingDirectory=.*/WorkingDirectory=/' {FILE}",
        "test_works_in_its_canonical_directory",
        "works elsewhere than in its state directory",
    ),
    "a file of the release changed": (
        f"echo '# altered' >> {CURRENT}/lib/hybrid_engine/model.py",
        "test_release_is_what_its_name_says",
        "lib/hybrid_engine/model.py is not as it was built",
    ),
    "the config changed outside of the deployment": (
        f"sed -i 's/sample_every = 1/sample_every = 2/' {CONFIG}",
        "test_deployed_files_are_as_deployed",
        CONFIG,
    ),
}


def test_verify_names_each_and_deploy_heals_them(lab: Lab) -> None:
    play(lab, "deploy")
    places = ("/etc/systemd/system", CONFIG, f"{CURRENT}/")
    before = fingerprint(lab, *places)
    lab.root("sh", "-c", "; ".join([*(script for script, _, _ in DRIFTS.values()), RELOAD]))
    said = play(lab, "verify", check=False)
    assert said.rc != 0
    red = set(re.findall(r"(?:FAILED|ERROR) tests/verify/\S+::(\w+)", said.out))
    for drift, (_, assertion, named) in DRIFTS.items():
        assert assertion in red, drift
        assert named in said.said, drift
    # What the deployment does not know it tells of and leaves: that is its owner's to take away again.
    lab.root("rm", ADDED)
    play(lab, "deploy")
    assert fingerprint(lab, *places) == before
    assert play(lab, "verify").rc == 0
