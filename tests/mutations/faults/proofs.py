"""Faults of the proofs themselves: a host not put back, a mutant not needed, evidence that is believed."""

from tests.mutations.fault import in_file

_VERIFIER = "the verifier runs on the controller, and a run on the host is honest"
_ERROR = "every proof ends with ERROR then, which opens nothing and is no FAIL"
_KILLED = "it shows when a run is killed, and then there is no verdict"

FAULTS = (
    *in_file(
        "proofs/restore/lease.py",
        (
            "no-timer-behind-a-lease",
            "RESTORED",
            'host.do("systemd-run", "--quiet", f"--unit={unit}", self._timer_flag(host), accuracy, *undo)',
            "host.look(*undo[:0], 'true', unit, accuracy)",
            _KILLED,
        ),
        (
            "lease-not-saved",
            "RESTORED",
            "write_atomically(self.path, json.dumps(asdict(self)).encode())",
            "self.path.touch()",
            _ERROR,
        ),
        ("files-left-under-run", "RESTORED", "path.unlink(missing_ok=True)\n        for", "for"),
        (
            "etc-not-compared",
            "RESTORED",
            'for key in ("active", "cat_sha256", "etc_sha256") if',
            'for key in ("active",) if',
            "a host that was put back shows no difference",
        ),
        (
            "stopped-engine-left-running",
            "RESTORED",
            'if lease.before["active"] == "active" else',
            'if lease.before["active"] else',
            "the engine of a proven host runs",
        ),
    ),
    *in_file(
        "proofs/restore/file_backups.py",
        (
            "backup-with-another-mode",
            "RESTORED",
            'write_atomically(path, body, original["mode"]',
            "write_atomically(path, body, 0o600",
        ),
    ),
    *in_file(
        "proofs/verdict.py",
        (
            "one-uncaught-mutant-is-enough",
            "MUTANTS",
            "if void and verdict is Verdict.PASS:",
            "if len(void) > 1 and verdict is Verdict.PASS:",
            "its mutants are caught on a sound host",
        ),
        (
            "mutant-failing-anywhere",
            "MUTANTS",
            "if r.verdict is Verdict.FAIL]\n    if elsewhere := [r for r in failed if not r.failed_at_guard]:",
            "if r.verdict is Verdict.FAIL]\n    if elsewhere := [r for r in failed if not r.checks]:",
            "its mutants are caught on a sound host",
        ),
        (
            "nothing-judged-is-a-pass",
            "MUTANTS",
            "default=Verdict.INCONCLUSIVE)",
            "default=Verdict.PASS)",
            "every proof has cases",
        ),
        (
            "pass-without-witness",
            "MUTANTS",
            "    if not witness:\n",
            "    if witness is False:\n",
            "every fault is witnessed on a sound host",
        ),
        (
            "pass-with-few-samples",
            "MUTANTS",
            "    if n < n_min:\n",
            "    if n < n_min / 100:\n",
            "a sound host gives enough samples",
        ),
        (
            "unknown-is-a-pass",
            "MUTANTS",
            "if self.ok is None:\n            return Verdict.INCONCLUSIVE",
            "if self.ok is None:\n            return Verdict.PASS",
            "a sound host answers every question",
        ),
    ),
    *in_file(
        "proofs/evidence/recorder.py",
        ("cut-recording-accepted", "EVIDENCE", 'if event["prev"] != prev:', 'if event["prev"] == "":', _VERIFIER),
        (
            "edited-event-accepted",
            "EVIDENCE",
            'if event["sha256"] != hashlib',
            'if not event["sha256"] and hashlib',
            _VERIFIER,
        ),
        ("half-a-line-accepted", "EVIDENCE", 'if not whole.endswith(b"\\n"):', "if not whole:", _VERIFIER),
    ),
    *in_file(
        "proofs/verifier/verify.py",
        (
            "verifier-takes-the-future",
            "EVIDENCE",
            "if age_s < -_CLOCK_SLACK_S:",
            "if age_s < -1e9 * _CLOCK_SLACK_S:",
            _VERIFIER,
        ),
        (
            "verifier-takes-unrestored-hosts",
            "EVIDENCE",
            'if proof["restored"] is not True:',
            'if proof["restored"] is None:',
            _VERIFIER,
        ),
        ("verifier-takes-other-hosts", "EVIDENCE", "if not live or proven != live:", "if not live:", _VERIFIER),
        (
            "verifier-believes-the-statement",
            "EVIDENCE",
            "for d in differences(statement, rebuilt)",
            "for d in differences(rebuilt, rebuilt)",
            _VERIFIER,
        ),
    ),
    *in_file(
        "proofs/verifier/recompute.py",
        (
            "figures-not-read-again",
            "EVIDENCE",
            "        if self.whole is None:\n            return\n",
            "        if self.whole is not None:\n            return\n",
            _VERIFIER,
        ),
        (
            "missing-cases-accepted",
            "EVIDENCE",
            "elif len(results) < len(self.proof.cases(deployed)):",
            "elif not results:",
            _VERIFIER,
        ),
    ),
)
