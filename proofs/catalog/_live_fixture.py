"""What LIVE needs on a host, all of it scratch: an armed configuration, keys, allowed signers, a valid bundle."""

import copy
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime

from proofs.catalog._steady import UP_S, steady
from proofs.catalog.names import NAMES
from proofs.evidence import signature, unit_parts
from proofs.experiment.subject import CONFIG_DIR, Source, Subject, config
from proofs.host import deployed
from proofs.host.identity import machine_identity
from proofs.verdict import Json

BUNDLE = CONFIG_DIR / "bundle"
# What LIVE asks of a configuration: an exchange, over TLS, and no guarantee made void. Nothing listens there, and
# nothing has to.
_CONFIG = config(ingest_mode="REAL_WS", tick_interval_ms=20, psi_actions="on")
_SOURCES: list[Source] = [
    {"name": name, "url": f"wss://127.0.0.1:{port}/ws/btcusdt@trade", "kind": "binance", "priority": port}
    for name, port in (("one", 1), ("other", 2))
]


class LiveFixture:
    """A LIVE configuration, keys and a bundle, all scratch. A way to be refused spoils one thing of it."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.host = subject, subject.host
        self.bundle, self.signers = subject.etc / "bundle", subject.etc / "allowed_signers"
        self.keys = subject.scratch / "keys"  # outside of what is bound into the unit
        self.environment = subject.scratch / "environment.json"  # the parts that the first case read of its process
        self.armed, self.named, self.tick_ms = True, str(BUNDLE), "20"
        self.ingest_mode = "REAL_WS"
        self.more = ""  # lines of [engine] beside the sound ones
        self.key, self.namespace = "operator", signature.NAMESPACE
        self.after: Callable[[LiveFixture], object] = lambda fixture: None
        self.masks = False  # whether a drop-in of the unit is masked after the signing
        self.masked = ""
        self.statement: dict[str, Json] = {}
        self.sound: dict[str, Json] = {}

    def await_steady(self) -> None:
        """Bring the unit to its steady state, then let it begin a run in SHADOW on what LIVE is to start with."""
        if self.subject.store.last_tick():
            return
        steady(self.subject)
        before = len(self.subject.store.runs())
        self.subject.put_sources(_SOURCES)
        self.subject.put("config.toml", _CONFIG)
        self.subject.restart()
        self.host.wait_for("a run on the exchange", UP_S, lambda: len(self.subject.store.runs()) > before)
        parts = [part for part in self.unit_parts() if part.split(" ")[1] == unit_parts.ENVIRONMENT]
        self.environment.write_text(json.dumps(parts))

    def unit_parts(self) -> list[str]:
        """The parts of the unit under test as it is now."""
        shown = self.host.look(*deployed.show_unit(self.subject.unit.name), quiet=True)
        return deployed.parts_of_unit(shown.stdout, "")

    def make_keys(self) -> None:
        self.keys.mkdir(exist_ok=True, mode=0o700)
        for name in ("operator", "stranger"):
            if not (self.keys / name).exists():
                self.host.do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.keys / name))

    def good(self, started: dict[str, Json]) -> None:
        """The statement that a run of every proof would leave for what the engine said it is when it started."""
        passed = {"verdict": "PASS", "restored": True, "mutant": {"verdict": "FAIL"}}
        parts = sorted({*self.unit_parts(), *json.loads(self.environment.read_text())})
        digests = (started["release_digest"], started["config_digest"], unit_parts.digest(parts))
        self.statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "predicateType": "urn:hybrid-engine:proofs:v2",
            "subject": [{"digest": {"sha256": digest}} for digest in digests],
            "predicate": {
                "verdict": "PASS",
                "finished": datetime.now(UTC).isoformat(),
                "required": list(NAMES),
                "unit_parts": parts,
                "host": {"machine_id": machine_identity(), "hostname": "this host"},
                "proofs": [{"name": name, **copy.deepcopy(passed)} for name in NAMES],
            },
        }
        self.sound = copy.deepcopy(self.statement)

    @property
    def predicate(self) -> dict[str, Json]:
        predicate: dict[str, Json] = self.statement["predicate"]
        return predicate

    def proof(self, name: str) -> dict[str, Json]:
        entry: dict[str, Json] = next(proof for proof in self.predicate["proofs"] if proof["name"] == name)
        return entry

    def write(self) -> None:
        """Signed and in its place, readable by the engine; then what is spoiled after the signing."""
        shutil.rmtree(self.bundle, ignore_errors=True)
        self.bundle.mkdir(mode=0o755)
        self.subject.put("allowed_signers", f"operator {(self.keys / 'operator.pub').read_text()}")
        self.subject.put("bundle/statement.json", json.dumps(self.statement))
        body = str(self.bundle / "statement.json")
        self.host.do("ssh-keygen", "-q", "-Y", "sign", "-f", str(self.keys / self.key), "-n", self.namespace, body)
        (self.bundle / "statement.json.sig").rename(self.bundle / "statement.sig")
        (self.bundle / "statement.sig").chmod(0o644)
        self.after(self)
        if self.masks:
            self.masked = self.drop_ins()[0]
            self.subject.mask(self.masked)
        lines = [f"live_armed = {str(self.armed).lower()}", f'proof_bundle = "{self.named}"']
        text = _CONFIG.replace("tick_interval_ms = 20", f"tick_interval_ms = {self.tick_ms}")
        text = text.replace("REAL_WS", self.ingest_mode) + self.more
        self.subject.put("config.toml", "\n".join([*lines, text.replace('"SHADOW"', '"LIVE"')]))

    def drop_ins(self) -> list[str]:
        """Names of the unit's own drop-ins but for the one that puts the scratch directories in force."""
        paths = [path for path in self.subject.unit.files() if path.parent.name == f"{self.subject.unit.name}.d"]
        return [path.name for path in paths if path.name != "zz-proof.conf"]

    def put_back(self) -> None:
        """Put the masked drop-in in force again."""
        if self.masked:
            self.subject.unmask(self.masked)

    def on_disk(self) -> Json:
        return json.loads((self.bundle / "statement.json").read_bytes())

    def holds(self) -> bool:
        """The signature, by this proof's own look at it."""
        try:
            body, armored = ((self.bundle / name).read_bytes() for name in ("statement.json", "statement.sig"))
            return bool(signature.check(body, armored, self.signers))
        except (signature.BadSignature, OSError):
            return False
