"""A host that turned on its controller: whatever it answers, it is refused in one line and nothing of it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from proofs.evidence.recorder import Recorder
from tests.lab.deployment import DEPLOYMENTS
from tests.lab.labs import CHECKOUT, Lab

pytestmark = pytest.mark.lab
RUN = "20260102T030405Z-0a1b"
SOAK = f"soak-{'a' * 32}"
ESCAPE = "\x1b]0;owned\x07"
DONE = {"text": "", "next": 0, "ended": True}
# Answers with what the test has put there, whoever asks.
LIAR = """\
#!/bin/sh
case $1 in run | soak) f=begin; test ! -e TOP/honest.py || python3 TOP/honest.py "$@" ;; *) f=$1 ;; esac
cat TOP/$f 2>/dev/null
exit "$(cat TOP/$f.rc 2>/dev/null || echo 0)"
"""
# Writes the nonce that it is given into the first event, and the only other one after it, as a chain that holds.
HONEST = """\
import hashlib, json, sys
path, nonce, lines, prev = "EVENTS", sys.argv[-1].removeprefix("--nonce="), [], "0" * 64
for line in open(path):
    event = json.loads(line)
    event.update(prev=prev, data={"nonce": nonce} if event["kind"] == "begun" else event["data"])
    del event["sha256"]
    body = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    event["sha256"] = prev = hashlib.sha256(body.encode()).hexdigest()
    lines.append(json.dumps(event, ensure_ascii=False) + "\\n")
open(path, "w").writelines(lines)
"""


@dataclass(frozen=True)
class Case:
    """What a host does, and the reason for which it is refused. shell: done in the directory of its run."""

    reason: str
    answers: dict[str, object] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    shell: str = ""
    variables: dict[str, object] = field(default_factory=dict)


class Hostile:
    """One lab that plays many hosts at once, each with a program and evidence of its own; and their controller."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self.lab, self.home, self.root = lab, home, Path(f"/proc/{lab.pid()}/root")
        self.evidence = home / "evidence"
        self.canary = home / "canary"
        known = yaml.safe_load(lab.inventory.read_text())
        (self.connection,) = known["nuc"]["hosts"].values()

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(mode)

    def become(self, name: str, case: Case) -> dict[str, object]:
        """Set a host up; its variables."""
        top, folder = f"/opt/hostile/{name}", f"/var/lib/hostile/{name}"
        self.put(f"{top}/current/bin/hybrid-proofs", LIAR.replace("TOP", top), 0o755)
        answers: dict[str, object] = {"begin": f"{RUN}\n", "follow": DONE, "answer": "", "live": {}, **case.answers}
        for command, value in answers.items():
            self.put(f"{top}/{command}", value if isinstance(value, str | bytes) else json.dumps(value))
        for path, content in (case.files or recording()).items():
            self.put(f"{folder}/{RUN}/{path}", content)
        if case.shell:
            self.lab.root("bash", "-ec", f"cd {folder}/{RUN}; {case.shell}")
        return {**self.connection, "proof_root": top, "proof_host_evidence": folder, **case.variables}

    def refuse(self, playbook: str, cases: Mapping[str, Case], **variables: object) -> str:
        """Play it against all of them: each is refused for its reason in a line that names it; nothing changed here."""
        hosts = {name: self.become(name, case) for name, case in cases.items()}
        inventory = self.home / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"nuc": {"hosts": hosts}}))
        before = self.fingerprint()
        rc, out = self.play(playbook, "-i", str(inventory), f"--limit={','.join(hosts)},localhost", **variables)
        assert rc != 0, out
        assert "Traceback" not in out, out
        assert "\x1b" not in out, "what a host says reaches the terminal as it is"
        for name, case in cases.items():
            match = re.search(rf"^fatal: \[{re.escape(name)}[] ][^\n]*\n(?:    [^\n]*\n|\n)+", out, re.M)
            assert match, f"{name} was not refused\n{out}"
            result = re.sub(r"\s+", " ", match[0])
            assert re.search(case.reason, result), result
            assert f"{name}: " in result or str(self.home) in result or f"{name} " in result, result
        assert self.fingerprint() == before
        return out

    def play(self, playbook: str, *words: str, **variables: object) -> tuple[int, str]:
        common = {"proof_evidence": str(self.evidence), "flight_recorder_evidence": str(self.evidence)}
        # What is installed before is not what is tested here, and would take the hostile program's place.
        tags = ["--skip-tags=install"] if playbook in ("prove", "soak") else []
        arguments = ["-e", json.dumps(common | variables), "--forks=8", *tags, *words]
        process = self.lab.ansible(f"{playbook}.yml", *arguments, check=False, timeout=300)
        return process.returncode, process.stdout + process.stderr

    def fingerprint(self) -> dict[str, str]:
        """Every path of the checkout, what was brought home, and what is beside it.

        Without build/, where tests that run beside this one put the releases that they deploy.
        """
        state = {}
        for top in (CHECKOUT, self.home):
            for folder, names, files in os.walk(top):
                names[:] = [name for name in names if not name.startswith(".") and name not in ("__pycache__", "build")]
                for name in (*names, *files):
                    path = Path(folder, name)
                    if path.is_symlink() or path.is_dir():
                        state[str(path)] = os.readlink(path) if path.is_symlink() else "directory"
                    elif not name.endswith(".pyc"):
                        state[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        return state


@pytest.fixture(scope="module")
def hostile(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    made = Hostile(lab, tmp_path_factory.mktemp("controller"))
    made.evidence.mkdir()
    made.canary.write_text("untouched")
    return made


def recording() -> dict[str, bytes]:
    """Files of a run as an honest host has them, without a proof in it."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "events.jsonl")
        recorder.write("begun", data={"nonce": ""})
        recorder.write("command", argv=["true"], rc=0, stdout="x" * 20_000)
        recorder.close()
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return files | {"statement.json": b'{"predicate": {}}\n'}


# prove, and soak, which goes the same way -----------------------------------------------------------------------------

ID = "the id of its run is none of ours"
PACKAGE = dict.fromkeys(("blobs/__init__.py", "events.jsonl", "statement.json"), b"open('/tmp/owned', 'w')")
ASK = {"number": 1, "plays": ["verify"], "check": False, "without": []}


def begins(run: str) -> Case:
    return Case(ID, {"begin": f"{run}\n"})


def follows(reason: str, value: object) -> Case:
    return Case(reason, {"follow": value})


def asks(reason: str, **fields: object) -> Case:
    return follows(reason, {**DONE, "ask": {**ASK, **fields}})


def leaves(reason: str, name: str, content: bytes) -> Case:
    return Case(reason, files=recording() | {name: content})


PROVE = {
    # The hole itself: evidence/HOST/../../proofs is the checkout's own package.
    "into-the-checkout": Case(
        ID, {"begin": "../../proofs\n"}, PACKAGE, shell="mkdir -p /var/lib/proofs; cp -r . /var/lib/proofs"
    ),
    "a-variable": begins(f"{RUN} -e a=b"),
    "an-escape": begins(f"{RUN}{ESCAPE}"),
    "refuses": Case(r"one\\+x1b\]0;owned\\+x07; two", {"begin": f"one{ESCAPE}\ntwo\n", "begin.rc": "2"}),
    "deep": follows("is no JSON", "[" * 100_000),
    "huge": follows("the progress of its run has 20000002 bytes|answers 20000002 characters", f'"{"x" * 20_000_000}"'),
    "big-number": follows("beyond 64 bits", {**DONE, "next": 1 << 70}),
    "backwards": follows("next is -1", {**DONE, "next": -1}),
    "more-text": follows("goes on at", {"text": f"[x] {ESCAPE}", "next": 2, "ended": False}),
    "facts": follows("unknown ansible_facts", {**DONE, "ansible_facts": {}}),
    "idle": follows("in a row without news", {**DONE, "ended": False}),
    "other-play": asks("a proof asked: plays is", plays=["../../x"]),
    "pdb": asks("a proof asked: without is", without=["--pdb"]),
    "ask-number": asks("a proof asked: number is", number="1; id"),
    "package": leaves("may have events.jsonl, statement.json and blobs/SHA256", "blobs/__init__.py", b"import os"),
    "other-digest": leaves("is not what its name says", f"blobs/{'0' * 64}", b"x"),
    "of-another-run": Case("its first event lacks the nonce"),
    "no-events": Case("left no events.jsonl", shell="rm events.jsonl"),
    "broken-chain": leaves("line 1: not an event", "events.jsonl", b"{}\n"),
    "deep-statement": leaves("is no JSON of ours", "statement.json", b"[" * 50_000),
    "surrogate": leaves("surrogates not allowed", "statement.json", b'{"a": "\\ud800"}'),
    "huge-statement": leaves("statement.json.* with 8388608 bytes", "statement.json", b" " * (1 << 23)),
    "link": Case("statement.json.*no plain file", shell="ln -sfn /etc/shadow statement.json"),
    "linked-folder": Case("blobs.*no plain file", shell="rm -r blobs; ln -s /etc blobs"),
    "directory": Case("no plain file", shell="mkdir blobs/$(printf %064d 0)"),
    "pipe": Case("no plain file", shell="rm statement.json; mkfifo statement.json"),
    "sparse": Case("events.jsonl.*bytes", shell="truncate -s 3G events.jsonl"),
    "many": Case("may have 4098", shell="cd blobs; for n in {1..5000}; do printf -v f %064d $n; : >$f; done"),
    "total": Case("may have 268435456", shell="cd blobs; for n in {1..5}; do truncate -s 60M $(printf %064d $n); done"),
    "exists": Case("exists already"),
    "linked-home": Case("is a link"),
}


def test_no_run_is_brought_home_that_is_none(hostile: Hostile) -> None:
    (hostile.evidence / "exists" / RUN).mkdir(parents=True)
    (hostile.home / "elsewhere").mkdir()
    (hostile.evidence / "linked-home").symlink_to(hostile.home / "elsewhere")
    try:
        hostile.refuse("prove", PROVE)
    finally:
        hostile.lab.root("rm", "-rf", "/var/lib/hostile")


def test_a_soak_is_refused_the_same_way(hostile: Hostile) -> None:
    progress = follows("the progress of its run", {**DONE, "next": -1})
    cases = {"soak-id": begins("soak-../../../x"), "soak-progress": progress}
    cases["soak-progress"].answers["begin"] = f"{SOAK}\n"
    hostile.refuse("soak", cases)


def test_an_honest_recording_comes_home_whole(hostile: Hostile) -> None:
    """And one that cannot be rendered is told in a line: it has no run in it."""
    hosts = {"honest": hostile.become("honest", Case(""))}
    hostile.put(
        "/opt/hostile/honest/honest.py", HONEST.replace("EVENTS", f"/var/lib/hostile/honest/{RUN}/events.jsonl")
    )
    (hostile.home / "hosts.yml").write_text(yaml.safe_dump({"nuc": {"hosts": hosts}}))
    _, out = hostile.play("prove", "-i", str(hostile.home / "hosts.yml"), "--limit=honest,localhost")
    assert "Traceback" not in out
    home = hostile.evidence / "honest" / RUN
    recording = {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}
    assert {name: recording.get(name) for name in recording_of(hostile, "honest")} == recording_of(hostile, "honest")


def recording_of(hostile: Hostile, name: str) -> dict[str, bytes]:
    folder = hostile.root / f"var/lib/hostile/{name}/{RUN}"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# diagnose, history, verify, trust -------------------------------------------------------------------------------------


@contextmanager
def replaced_program(hostile: Hostile, path: str, text: str) -> Iterator[None]:
    """A program of the host that is another one meanwhile; the honest one is beside it."""
    hostile.lab.root("sh", "-c", f"cp -a {path} {path}.honest && rm {path}")
    hostile.put(path, text, 0o755)
    try:
        yield
    finally:
        hostile.lab.root("mv", f"{path}.honest", path)


def test_an_answer_without_end_is_no_diagnosis(hostile: Hostile) -> None:
    with replaced_program(hostile, "/usr/bin/hostname", "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x\n"):
        hostile.refuse("diagnose", {"endless": Case("20000000 characters where 8388608 are the most")})


LINE: dict[str, object] = {"when": "2026-01-02T03:04:05.000Z", "what": "deploy"}


def test_a_history_of_another_shape_is_not_shown(hostile: Hostile) -> None:
    hostile.put(DEPLOYMENTS, json.dumps(LINE | {"by": {"__ansible_unsafe": ESCAPE}}) + "\n")
    hostile.refuse("history", {"history": Case("line 1 of its history: by is")}, out=str(hostile.home / "history.json"))


def test_a_history_is_shown_without_what_moves_a_cursor(hostile: Hostile) -> None:
    hostile.put(DEPLOYMENTS, json.dumps(LINE | {"by": ESCAPE, "outcome": "failed", "why": ESCAPE}) + "\n")
    rc, out = hostile.play("history")
    hostile.lab.root("rm", DEPLOYMENTS)
    assert rc == 0, out
    assert "\x1b" not in out
    assert "owned" in out


def test_a_host_that_says_something_else_of_itself_is_not_verified(hostile: Hostile) -> None:
    hostile.put("/opt/hostile/look", json.dumps([ESCAPE]))
    # The probe's one-liners are answered, the modules of Ansible as well; what verify sends is not.
    text = '#!/bin/sh\ncase "$1" in -ISc) cat /opt/hostile/look ;; *) exec /usr/bin/python3.honest "$@" ;; esac\n'
    with replaced_program(hostile, "/usr/bin/python3", text):
        out = hostile.refuse("verify", {"verified": Case("has other parts than were asked for")})
    assert out.count("cannot be verified") <= 4, "one line, as it is told and as the play fails with it"


def test_preflight_believes_no_version_that_is_a_path(hostile: Hostile) -> None:
    text = '#!/bin/sh\ncase "$2" in *version_info*) echo ../../../x ;; *) exec /usr/bin/python3.honest "$@" ;; esac\n'
    with replaced_program(hostile, "/usr/bin/python3", text):
        hostile.refuse("preflight", {"version": Case("it says of itself .+python=../../../x")})


def test_facts_of_a_host_are_no_variables_of_ours(hostile: Hostile) -> None:
    """A module that answers with facts sets none of them: where evidence goes is the operator's to say."""
    facts = json.dumps({"changed": False, "ansible_facts": {"proof_signing_key": "/owned"}})
    tasks = [
        {"ansible.builtin.ping": {}},
        {"ansible.builtin.debug": {"msg": "{{ proof_signing_key | default('none') }}"}},
    ]
    playbook = hostile.home / "facts.yml"
    playbook.write_text(json.dumps([{"hosts": "nuc", "gather_facts": False, "tasks": tasks}]))
    with replaced_program(hostile, "/usr/bin/python3", f"#!/bin/sh\necho '{facts}'\n"):
        rc, out = hostile.play(os.path.relpath(playbook.with_suffix(""), CHECKOUT / "playbooks"))
    assert rc == 0, out
    assert "msg: none" in out


def test_trust_takes_no_link(hostile: Hostile) -> None:
    bundle, signers = hostile.home / "bundle", hostile.home / "allowed_signers"
    for path, content in recording().items():
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_bytes(content)
    signers.write_text("")
    (bundle / "statement.sig").symlink_to(hostile.canary)
    (bundle / "events.jsonl").unlink()
    (bundle / "events.jsonl").symlink_to(hostile.canary)
    case = Case("statement.sig cannot be read: Too many levels of symbolic links")
    hostile.refuse("trust", {"trusted": case}, proof=str(bundle), allowed_signers=str(signers))
