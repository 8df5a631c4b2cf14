"""A controller's stand-in for the proofs that ask for one: it verifies, deploys, takes over and gives back in a blink.

For tests of what becomes of the host when such a proof is killed, where the answers have to be right and nothing more.
"""

from __future__ import annotations

from tests.lab.labs import Lab
from tests.lab.proof_runs import PROGRAM

_SCRIPT = """
import base64, fcntl, glob, json, os, subprocess, sys, time
lock = open("/run/stand-in.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one is enough
unit, config = "/etc/systemd/system/hybrid-engine.service", "/etc/hybrid-engine/config.toml"
module = os.path.realpath("/opt/hybrid-engine/current/lib/hybrid_engine/domain/events.py")
added = unit + ".d/60-added.conf"
was = {path: open(path, "rb").read() for path in (unit, config, module)}
modes = {path: os.stat(path).st_mode for path in was}
other = f": sha256 {64 * 'a'} where {64 * 'b'} was deployed"
says = {
    unit: [("test_release.py::test_deployed_files_are_as_deployed", unit + other),
           ("test_unit.py::test_works_in_its_canonical_directory",
            "the process works elsewhere than in its state directory")],
    config: [("test_release.py::test_deployed_files_are_as_deployed",
              config + other + "; " + config + ": mode 0664 where 0640 was deployed")],
    module: [("test_release.py::test_release_is_what_its_name_says",
              "lib/hybrid_engine/domain/events.py is not as it was built")],
    added: [("test_dropins.py::test_nobody_else_changes_the_unit", "unmanaged drop-ins are in force: " + added),
            ("test_unit.py::test_loaded_from_its_own_file",
             "hybrid-engine.service changed on the disk since systemd read it")],
}
def drifted():
    found = [path for path, body in was.items() if open(path, "rb").read() != body]
    return found + [added] * os.path.exists(added)
def verify(ask):
    said = [pair for path in drifted() for pair in says[path] if "tests/verify/" + pair[0] not in ask["without"]]
    lines = [f"AssertionError: {words}\\nFAILED tests/verify/{name} - \\n" for name, words in said]
    return 2 * bool(said), "".join(lines)
def deploy(ask):
    if not os.path.exists(record):
        return 2, "somebody else's service is there\\n"
    due = [path for path in drifted() if path in was]
    if due and not ask["check"]:
        for path in due:
            with open(path, "r+b") as file:
                file.write(was[path])
                file.truncate()
            os.chmod(path, modes[path])
        subprocess.run(["systemctl", "daemon-reload"])
        subprocess.run(["systemctl", "restart", "hybrid-engine.service"])
    return 0, f"changed={len(due)}\\n"
record = "/var/lib/hybrid-deploy/deployed/hybrid-engine.service.json"
kept, override = "/var/lib/hybrid-deploy/adopted/hybrid-engine.service.json", unit + ".d/override.conf"
whole = {path: open(path, "rb").read() for path in (unit, record, *glob.glob(unit + ".d/*.conf"))}
def write_and_run(texts, gone):
    for path in gone:
        if os.path.exists(path):
            os.unlink(path)
    for path, body in texts.items():
        with open(path, "wb") as file:
            file.write(body)
    subprocess.run(["systemctl", "daemon-reload"])
    subprocess.run(["systemctl", "restart", "hybrid-engine.service"])
    return 0, "changed=1\\n"
def adopt(ask):
    bodies = {path: open(path, "rb").read() for path in (unit, override)}
    states = {path: {"kind": "file", "data": base64.b64encode(body).decode()} for path, body in bodies.items()}
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    with open(kept, "w") as file:
        json.dump({"states": states}, file)
    return write_and_run(whole, [override])
def give_back(ask):
    if not os.path.exists(kept):
        return 2, "nothing was taken over\\n"
    states = json.load(open(kept))["states"]
    texts = {path: base64.b64decode(state["data"]) for path, state in states.items()}
    return write_and_run(texts, [kept, *(path for path in whole if path != unit)])
while True:
    for path in glob.glob("/run/hybrid-proofs/*/asks/*.json"):
        stem = path[:-len(".json")]
        try:
            if not os.path.exists(stem + ".answer"):
                ask = json.load(open(path))
                open(stem + ".seen", "w").close()
                plays = {"verify": verify, "deploy": deploy, "adopt": adopt, "return": give_back}
                done = [plays[play](ask) for play in ask["plays"]]
                told = {"argv": ["stand-in"], "rc": max(rc for rc, _ in done), "stderr": "",
                        "stdout": "".join(text for _, text in done)}
                run, _, number = stem.split("/")[-3:]
                subprocess.run([sys.argv[1], "answer", run, number], input=json.dumps(told), text=True)
        except OSError:
            pass  # the run is gone
    time.sleep(0.05)
"""


def stand_in(lab: Lab) -> None:
    """Have one at work in this host until that is down, knowing what is deployed now; one is enough."""
    lab.root("sh", "-c", 'setsid python3 -c "$0" "$1" >/run/stand-in.log 2>&1 </dev/null &', _SCRIPT, PROGRAM)
