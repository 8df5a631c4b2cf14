"""The gate of LIVE: a table of refusals, and a valid bundle. Signed with real keys by the real ssh-keygen."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from hybrid_engine import live_gate
from hybrid_engine.config.load import Config, load_config
from hybrid_engine.domain.events import BUY, Signal
from hybrid_engine.runtime import unit
from hybrid_engine.runtime.errors import ConfigError
from hybrid_engine.runtime.release import Release
from proofs.catalog import REQUIRED
from proofs.evidence import signature
from proofs.host.identity import machine_identity

SIGNAL = Signal(1, "BTC/USD", BUY, "TEST", 1.0, 0.1, 0)
RELEASE = Release("0.1.0", "0.1.0-abc", "a" * 64)
HARDENING = "/etc/systemd/system/hybrid-engine.service.d/40-hardening.conf"
UNIT = [
    unit.part("file", "/etc/systemd/system/hybrid-engine.service", b"[Service]"),
    unit.part("file", HARDENING, b"[Service]\nNoNewPrivileges=yes"),
    unit.part("environment", "PATH", b"/usr/bin:/bin"),
]
Json = Any

AUTHORITIES = [trustme.CA().cert_pem.bytes() for _ in range(2)]


class Bundle:
    """A configuration with a bundle that opens the gate; each row of the table breaks one thing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config_file = directory / "config.toml"
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        self.signers = directory / "allowed_signers"
        self.armed = True
        self.ingest_mode = "REAL_WS"
        self.url = "wss://stream.binance.com:9443/ws/btcusdt@trade"
        self.max_age_h = 168.0
        self.strategy = "periodic"
        self.more = ""  # lines of [engine]
        self.authority = directory / "ca.pem"
        self.authority.write_bytes(AUTHORITIES[0])
        self.unit_parts = list(UNIT)  # what the process finds
        self.named = str(self.bundle)
        self.namespace = live_gate.NAMESPACE
        self.key = self.make_key("operator")
        self.signers.write_text(f"operator {self.key.with_suffix('.pub').read_text()}")
        self.statement: Json = {}
        self.text = ""  # the statement's bytes, for what json.dumps does not write
        self.after_signing: Callable[[], object] = lambda: None

    def make_key(self, name: str) -> Path:
        path = self.directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        return path

    def load(self) -> Config:
        armed = str(self.armed).lower()
        text = f'mode = "LIVE"\nlive_armed = {armed}\nproof_bundle = "{self.named}"\n'
        text += f"proof_max_age_h = {self.max_age_h}\n"
        text += f'[engine]\ningest_mode = "{self.ingest_mode}"\nws_url = "{self.url}"\n'
        text += f'strategy = "{self.strategy}"\n{self.more}'
        self.config_file.write_text(text)
        source = f'[[source]]\nname = "one"\nurl = "{self.url}"\npriority = 1\nkind = "binance"\n'
        source += f'ca_file = "{self.authority}"\n'
        (self.directory / "ws_sources.toml").write_text(source)
        return load_config(self.config_file, environ={})

    def fill(self) -> None:
        """The statement of a run in which every required proof passed."""
        parts = [*UNIT, *live_gate.held_files(self.load())]
        digests = (RELEASE.digest, self.load().digest, unit.digest(parts))
        self.statement = {
            "_type": live_gate.STATEMENT_TYPE,
            "predicateType": live_gate.PREDICATE_TYPE,
            "subject": [{"digest": {"sha256": digest}} for digest in digests],
            "predicate": {
                "verdict": "PASS",
                "finished": datetime.now(UTC).isoformat(),
                "host": {"machine_id": machine_identity(), "hostname": "nuc"},
                "required": list(live_gate.REQUIRED),
                "unit_parts": parts,
                "proofs": [
                    {"name": name, "verdict": "PASS", "restored": True, "mutant": {"verdict": "FAIL"}}
                    for name in live_gate.REQUIRED
                ],
            },
        }

    @property
    def predicate(self) -> Json:
        return self.statement["predicate"]

    def sign(self) -> None:
        path = self.bundle / "statement.json"
        path.write_text(self.text or json.dumps(self.statement))
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.key), "-n", self.namespace, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        (self.bundle / "statement.json.sig").rename(self.bundle / "statement.sig")
        self.after_signing()


def age(bundle: Bundle, **ago: float) -> None:
    bundle.predicate["finished"] = (datetime.now(UTC) - timedelta(**ago)).isoformat()


def disarm(bundle: Bundle) -> None:
    bundle.armed = False


def name_nothing(bundle: Bundle) -> None:
    bundle.named = ""


def lose(name: str) -> Callable[[Bundle], None]:
    def spoil(bundle: Bundle) -> None:
        bundle.after_signing = (bundle.directory / name).unlink

    return spoil


def edit_after_signing(bundle: Bundle) -> None:
    path = bundle.bundle / "statement.json"
    bundle.after_signing = lambda: path.write_text(path.read_text().replace("nuc", "nux"))


def sign_with_a_strange_key(bundle: Bundle) -> None:
    bundle.key = bundle.make_key("stranger")


def sign_for_something_else(bundle: Bundle) -> None:
    bundle.namespace = "git"


def of_another_type(bundle: Bundle) -> None:
    bundle.statement["predicateType"] = "https://slsa.dev/provenance/v1"


def no_statement(bundle: Bundle) -> None:
    bundle.statement = ["PASS"]


def of_another_release(bundle: Bundle) -> None:
    bundle.statement["subject"][0]["digest"]["sha256"] = "b" * 64


def of_another_config(bundle: Bundle) -> None:
    bundle.statement["subject"][1]["digest"]["sha256"] = "b" * 64


def of_two_configs(bundle: Bundle) -> None:
    bundle.statement["subject"].append(bundle.statement["subject"][1])


def of_another_host(bundle: Bundle) -> None:
    bundle.predicate["host"]["machine_id"] = "0" * 32


def without_a_proof(bundle: Bundle) -> None:
    # a statement cannot require less than the gate does
    bundle.predicate["required"].remove("stall")
    bundle.predicate["proofs"] = [p for p in bundle.predicate["proofs"] if p["name"] != "stall"]


def requires_more_than_it_ran(bundle: Bundle) -> None:
    bundle.predicate["required"].append("tomorrow")


def inconclusive(bundle: Bundle) -> None:
    bundle.predicate["proofs"][1]["verdict"] = "INCONCLUSIVE"


def not_restored(bundle: Bundle) -> None:
    bundle.predicate["proofs"][1]["restored"] = False


def mutant_passes(bundle: Bundle) -> None:
    bundle.predicate["proofs"][1]["mutant"]["verdict"] = "PASS"


def make_a_pipe(bundle: Bundle) -> None:
    def replace() -> None:
        path = bundle.bundle / "statement.json"
        path.unlink()
        os.mkfifo(path)

    bundle.after_signing = replace


def make_it_huge(bundle: Bundle) -> None:
    bundle.after_signing = lambda: os.truncate(bundle.bundle / "statement.json", live_gate.MAX_BYTES + 1)


def let_others_write_the_signers(bundle: Bundle) -> None:
    bundle.signers.chmod(0o664)


def say_a_key_twice(bundle: Bundle) -> None:
    bundle.text = json.dumps(bundle.statement).replace('"verdict": "PASS"', '"verdict": "FAIL", "verdict": "PASS"', 1)


def without_time_zone(bundle: Bundle) -> None:
    bundle.predicate["finished"] = datetime.now(UTC).replace(tzinfo=None).isoformat()


def say_a_proof_twice(bundle: Bundle) -> None:
    bundle.predicate["proofs"].insert(0, {**bundle.predicate["proofs"][0], "verdict": "FAIL"})


def fail_as_a_whole(bundle: Bundle) -> None:
    bundle.predicate["verdict"] = "FAIL"


def feed_prices_of_no_exchange(bundle: Bundle) -> None:
    bundle.ingest_mode = "SYNTHETIC"


def feed_prices_of_a_mock(bundle: Bundle) -> None:
    bundle.ingest_mode = "MOCK_WS"


def talk_in_the_clear(bundle: Bundle) -> None:
    bundle.url = "ws://127.0.0.1:9/ws/btcusdt@trade"


def trust_for_longer(bundle: Bundle) -> None:
    bundle.max_age_h = 169.0


def let_others_replace_the_signers(bundle: Bundle) -> None:
    bundle.after_signing = lambda: bundle.directory.chmod(0o777)


def mask_a_drop_in(bundle: Bundle) -> None:
    bundle.unit_parts[1] = unit.part("file", f"/run/systemd/system.control/{HARDENING.rpartition('/')[2]}", b"")


def edit_a_drop_in(bundle: Bundle) -> None:
    bundle.unit_parts[1] = unit.part("file", HARDENING, b"[Service]\nNoNewPrivileges=no")


def set_a_proxy(bundle: Bundle) -> None:
    bundle.unit_parts.append(unit.part("environment", "HTTPS_PROXY", b"http://192.0.2.1"))


def set_another_path(bundle: Bundle) -> None:
    bundle.unit_parts[2] = unit.part("environment", "PATH", b"/tmp")


def never_give_up(bundle: Bundle) -> None:
    bundle.more = "network_deadline_s = 86400\n"


def replace_the_authority(bundle: Bundle) -> None:
    bundle.after_signing = lambda: bundle.authority.write_bytes(AUTHORITIES[1])


def of_another_unit(bundle: Bundle) -> None:
    bundle.statement["subject"][2]["digest"]["sha256"] = "b" * 64


def link_to_the_signers(bundle: Bundle) -> None:
    def replace() -> None:
        elsewhere = bundle.signers.rename(bundle.directory / "elsewhere")
        bundle.signers.symlink_to(elsewhere)

    bundle.after_signing = replace


REFUSED: list[tuple[Callable[[Bundle], None], str]] = [
    (disarm, "live_armed is false"),
    (name_nothing, "proof_bundle names no directory"),
    (lose("bundle/statement.json"), "statement.json cannot be read"),
    (lose("bundle/statement.sig"), "statement.sig cannot be read"),
    (lose("allowed_signers"), "allowed_signers cannot be read"),
    (edit_after_signing, "the signature does not hold"),
    (sign_with_a_strange_key, "made by nobody that"),
    (sign_for_something_else, "the signature does not hold"),
    (of_another_type, "of another type"),
    (no_statement, "is not a statement of proofs"),
    (of_another_release, "of another release"),
    (of_another_config, "of another configuration"),
    (of_two_configs, "is not a statement of proofs: ValueError: too many values"),
    (of_another_host, "of another host"),
    (lambda bundle: age(bundle, hours=169), "169.0 h old"),
    (lambda bundle: age(bundle, hours=-1), "from the future"),
    (without_a_proof, "required proofs that were not run: stall"),
    (requires_more_than_it_ran, "required proofs that were not run: tomorrow"),
    (inconclusive, "stall is required and says INCONCLUSIVE"),
    (not_restored, "stall did not put the host back"),
    (mutant_passes, "stall is void"),
    (make_a_pipe, "is not a file of at most"),
    (make_it_huge, "is not a file of at most"),
    (let_others_write_the_signers, "can be written by others"),
    (let_others_replace_the_signers, "can be written by others"),
    (link_to_the_signers, "allowed_signers is a link"),
    (feed_prices_of_no_exchange, "engine.ingest_mode = SYNTHETIC has no prices of an exchange"),
    (feed_prices_of_a_mock, "engine.ingest_mode = MOCK_WS has no prices of an exchange"),
    (talk_in_the_clear, "the source one is not encrypted"),
    (trust_for_longer, "of another configuration"),
    (never_give_up, "makes a guarantee void, G5: engine.network_deadline_s = 86400, and it holds from 5 to 600"),
    (mask_a_drop_in, f"of another unit than this one: file {HARDENING} is gone; file /run/systemd/system.control/"),
    (edit_a_drop_in, f"of another unit than this one: file {HARDENING} is another"),
    (set_a_proxy, "of another unit than this one: environment HTTPS_PROXY is new"),
    (set_another_path, "of another unit than this one: environment PATH is another"),
    (replace_the_authority, "of another unit than this one: ca_file "),
    (of_another_unit, "of another unit than this one: its digest"),
    (say_a_key_twice, "is not a statement of proofs: ValueError: a key is there twice"),
    (without_time_zone, "of no time zone"),
    (say_a_proof_twice, "a proof is there twice"),
    (fail_as_a_whole, "the run as a whole says FAIL"),
]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(live_gate, "read_release", lambda: RELEASE)
    monkeypatch.setattr(live_gate, "release_difference", lambda home: "")
    monkeypatch.setattr(live_gate, "SIGNERS_OWNERS", {0, os.getuid()})
    created = Bundle(tmp_path)
    monkeypatch.setattr(unit, "unit_parts", lambda: created.unit_parts)
    created.fill()
    return created


def refusal(bundle: Bundle) -> str:
    bundle.sign()
    with pytest.raises(ConfigError) as caught:
        live_gate.check(bundle.load())
    return str(caught.value)


@pytest.mark.holds("G1")
@pytest.mark.parametrize(("spoil", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_gate_stays_shut(bundle: Bundle, spoil: Callable[[Bundle], None], reason: str) -> None:
    spoil(bundle)
    message = refusal(bundle)
    assert message.startswith(f"{bundle.config_file}: mode = LIVE: refused, ")
    assert reason in message


def test_gate_requires_what_every_host_is_proven_by() -> None:
    assert set(live_gate.REQUIRED) == set(REQUIRED["nuc"])


@pytest.mark.holds("G1")
@pytest.mark.parametrize("name", REQUIRED["nuc"])
def test_no_proof_may_be_missing(bundle: Bundle, name: str) -> None:
    bundle.predicate["required"] = [other for other in bundle.predicate["required"] if other != name]
    bundle.predicate["proofs"] = [proof for proof in bundle.predicate["proofs"] if proof["name"] != name]
    assert refusal(bundle).endswith(f"required proofs that were not run: {name}")


@pytest.mark.holds("G1")
@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "ERROR", "NOT RUN", "", "pass", None, True])
def test_nothing_but_pass_opens_the_gate(bundle: Bundle, verdict: object) -> None:
    bundle.predicate["verdict"] = verdict
    refusal_of_run = refusal(bundle)
    bundle.predicate["verdict"] = "PASS"
    bundle.predicate["proofs"][2]["verdict"] = verdict
    refusal_of_proof = refusal(bundle)
    assert "the gate is open" not in refusal_of_run + refusal_of_proof


@pytest.mark.holds("G1")
@pytest.mark.parametrize("verdict", ["PASS", "INCONCLUSIVE", "ERROR", "NOT RUN", "", None])
def test_mutants_have_to_fail(bundle: Bundle, verdict: object) -> None:
    bundle.predicate["proofs"][2]["mutant"]["verdict"] = verdict
    assert "the gate is open" not in refusal(bundle)


@pytest.mark.holds("G1")
@pytest.mark.parametrize("restored", [False, None, 0, 1, "yes"])
def test_host_has_to_be_restored(bundle: Bundle, restored: object) -> None:
    bundle.predicate["proofs"][2]["restored"] = restored
    assert "the gate is open" not in refusal(bundle)


@pytest.mark.holds("G1")
def test_valid_bundle_opens_gate_without_network(bundle: Bundle) -> None:
    assert refusal(bundle).endswith("the gate is open, but no live adapter installed (hybrid_engine.adapters)")


@pytest.mark.holds("G1")
@pytest.mark.parametrize("option", ['namespaces="another"', 'valid-before="20200101"', 'valid-after="20990101"'])
def test_key_of_another_purpose_or_time_signs_nothing(bundle: Bundle, option: str) -> None:
    bundle.sign()
    name, key = bundle.signers.read_text().split(maxsplit=1)
    bundle.signers.write_text(f"{name} {option} {key}")
    with pytest.raises(ConfigError) as caught:
        live_gate.check(bundle.load())
    assert "the gate is open" not in str(caught.value)


@pytest.mark.parametrize("lines", ["!eve,operator {key}", '"two words" {key}', "operator {key}\nother {key}"])
def test_signers_read_like_verifier(bundle: Bundle, lines: str) -> None:
    key = bundle.key.with_suffix(".pub").read_text().strip()
    bundle.signers.write_text(lines.format(key=key) + "\n")
    body = json.dumps(bundle.statement).encode()
    bundle.sign()
    signature.check(body, (bundle.bundle / "statement.sig").read_bytes(), bundle.signers)
    assert "the gate is open" in refusal(bundle)


ADAPTER = """
from hybrid_engine.stages.adapter import Execution
class Adapter:
    def execute(self, signal, price):
        return Execution("REJECTED", "TEST_HALTED", price, 0.0)
class Lame: pass
"""


def install_adapter(directory: Path, name: str, factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of an installed package that names an adapter."""
    about = directory / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{live_gate.ADAPTERS}]\n{name} = {factory}\n")
    (directory / "adapter_of_test.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(str(directory))


@pytest.mark.holds("G1")
def test_adapter_loaded_by_entry_point_behind_gate(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_adapter(tmp_path / "one", "halting", "adapter_of_test:Adapter", monkeypatch)
    bundle.sign()
    live_gate.check(bundle.load())
    assert live_gate.load_adapter(bundle.load()).execute(SIGNAL, 100.0).reason == "TEST_HALTED"
    bundle.armed = False
    assert "live_armed is false" in refusal(bundle)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("adapter_of_test:Lame", "the adapter bad (adapter_of_test:Lame) has no execute(signal, price)"),
        ("adapter_of_test:Missing", "the adapter bad (adapter_of_test:Missing) cannot be made: AttributeError"),
        ("no_such_module:Adapter", "the adapter bad (no_such_module:Adapter) cannot be made: ModuleNotFoundError"),
    ],
)
def test_unusable_adapter_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, reason: str
) -> None:
    install_adapter(tmp_path / "one", "bad", factory, monkeypatch)
    bundle.sign()
    with pytest.raises(ConfigError) as caught:
        live_gate.load_adapter(bundle.load())
    assert reason in str(caught.value)


def test_two_adapters_are_refused(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_adapter(tmp_path / "one", "first", "adapter_of_test:Adapter", monkeypatch)
    install_adapter(tmp_path / "two", "second", "adapter_of_test:Adapter", monkeypatch)
    assert "more than one live adapter is installed, keep one: first (" in refusal(bundle)


def test_checkout_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_gate, "read_release", lambda: Release("0.1.0", "unreleased", "unreleased"))
    bundle.statement["subject"][0]["digest"]["sha256"] = "unreleased"
    assert "runs from no release" in refusal(bundle)


def test_missing_ssh_keygen_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_gate, "KEYGEN", str(bundle.directory / "ssh-keygen"))
    assert "ssh-keygen, which checks the signature, is not installed" in refusal(bundle)


@pytest.mark.holds("G1")
def test_another_program_of_that_name_checks_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    program = bundle.directory / "bin" / "ssh-keygen"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho operator\n")
    program.chmod(0o755)
    edit_after_signing(bundle)
    bundle.sign()
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    with pytest.raises(ConfigError, match="the signature does not hold"):
        live_gate.check(bundle.load())


@pytest.mark.holds("G1")
def test_signers_of_another_user_are_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_gate, "SIGNERS_OWNERS", {os.getuid() + 1})
    assert "and not to root, so it vouches for nobody" in refusal(bundle)


@pytest.mark.holds("G1")
def test_altered_release_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_gate, "release_difference", lambda home: "lib/x.py is not as it was built")
    assert "the release on the disk is not the one that was proven" in refusal(bundle)


@pytest.mark.holds("G1")
def test_strategy_of_another_text_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(bundle.directory))
    module = bundle.directory / "strategy_of_test.py"
    module.write_text("def make(settings): ...\n")
    bundle.strategy = "strategy_of_test:make"
    bundle.fill()
    assert "the gate is open" in refusal(bundle)
    module.write_text("def make(settings): raise\n")
    assert f"of another unit than this one: strategy {module} is another" in refusal(bundle)


@pytest.mark.holds("G1")
def test_process_of_no_unit_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_no_unit() -> list[str]:
        raise unit.UnitError("this process runs in no unit of systemd")

    monkeypatch.setattr(unit, "unit_parts", in_no_unit)
    assert "refused, this process runs in no unit" in refusal(bundle)


def test_config_check_leaves_the_unit_to_the_start(bundle: Bundle) -> None:
    """Its own process is in the unit of whoever calls it, as a deploy does before it replaces anything."""
    bundle.unit_parts = []
    assert "of another unit" in refusal(bundle)
    with pytest.raises(ConfigError, match="the gate is open, but no live adapter"):
        live_gate.check(bundle.load(), in_unit=False)


def test_arming_keeps_config_digest(bundle: Bundle) -> None:
    shadow = load_config(None, {"app.symbol": "BTC/USD"}, environ={})
    armed = load_config(None, {"mode": "live", "live_armed": "true", "proof_bundle": "/x"}, environ={})
    assert shadow.digest == armed.digest


def test_other_modes_are_not_checked(tmp_path: Path) -> None:
    live_gate.check(load_config(None, {"mode": "PAPER"}, environ={}))
