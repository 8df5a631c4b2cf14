"""What a fault leaves to be seen when it took place, of each case of the catalogue: in the shape that hosts record."""

from __future__ import annotations

from typing import Any

from proofs.catalog._config_check import SOUND, WRONG
from proofs.catalog.adoption import STAND_IN, USER
from proofs.catalog.drift import DESCRIPTION, OOM
from proofs.catalog.exit12 import ENDS, RULES
from proofs.catalog.rollback import CHANGES
from proofs.catalog.shadow import ATTEMPTS, INET_SOCKET, TRAPPED
from proofs.catalog.stall import STAGES
from proofs.experiment import sandbox_probe
from proofs.experiment.case import Case

_INVOCATION = "ab" * 16
_SENT = {"sent": 2003, "by_connection": [1007, 996], "repeats": 0, "lost": 0}
_NETWORK = {"interfaces": ["lo"], "netns": "net:[2]", "netns_of_host": "net:[1]"}
_BY_CLASS: dict[str, dict[str, Any]] = {
    "BadConfig": {
        "invocation": _INVOCATION,
        "config_sha256": "0" * 64,
        "bound": "/run/hybrid-proofs/r/exit12/unit/etc:/etc/hybrid-engine:rbind",
    },
    "ConfigCheck": {"configurations": len(WRONG) + len(SOUND)},
    "Control": {"pid": 42, "gone": True, "invocation": _INVOCATION},
    "Ends": {"ended": {str(number): number for number in ENDS}, "rules": RULES},
    "Frozen": {"pid": 42, "state": "T", "invocation": _INVOCATION},
    "Wedged": {
        "heartbeats_after_fault": 3,
        "last_tick": 151,
        "ticks_stopped": True,
        "process_state": "S",
        "threads": 5,
        "invocation": _INVOCATION,
    },
    "Stages": {
        stage: {
            "unit": f"hybrid-proof-mutant-stall-unit-{stage}.service",
            "tid": 50 + number,
            "name": stage,
            "state": "t",
            "others": {"hybrid-engine 42": "S"},
            "ran_on": 2,
            "invocation": _INVOCATION,
        }
        for number, stage in enumerate(STAGES)
    },
    "Sampling": _SENT,
    "Reloads": {"reloads": 7, "sent": [250, 500, 750, 1000, 1250, 1500, 1750]},
    "Replay": {"runs": 1, "ingest_mode": "REPLAY"},
    "Retention": {"old": 20, "young": 42},
    "Held": {"lock": "held"},
    "TakenOver": {
        "Description": "Hybrid Trading Bot Engine",
        "program": STAND_IN,
        "user": USER,
        "invocation": [_INVOCATION, "cd" * 16],
    },
    "Unusable": {"before": "", "now": "EPERM"},
    "Caps": {"sent": {"BTCUSDT": 702, "ETHUSDT": 351, "LTCUSDT": 350}, "lost": 3},
    "Pressed": {
        "burning": [42, 43],
        "cgroup": "/sys/fs/cgroup/x",
        "cpu.pressure": ["some avg10=55.10 avg60=20.00 avg300=5.00 total=1", "full avg10=0.00 avg60=0.00"],
    },
    "Killed": {"killed": 30, "sent": 900, "seed": 7},
    "Short": {"holder": 42, "another try": "database is locked", "sent": 700},
    "Long": {"holder": 42, "another try": "database is locked", "sent": 700},
    "Move": {"notices": 1},
    "Complaint": {"frames": 2},
    "Answered": {"greeted": 1, "answered": 1},
    "Refused": {"probe": "connection refused", "port": 4242},
    "Spoiled": {"garbage": {"primary": 20, "secondary": 0}},
    "Full": {"errno": "ENOSPC", "free_kb": 0, "size_kb": 4096, "last": 33},
    "Stopped": {"pid": 42, "invocation": _INVOCATION, "sent": [500, 510]},
    "Sealed": {**_NETWORK, "refused": {INET_SOCKET: "EAFNOSUPPORT"}, "refused_before": {INET_SOCKET: ""}},
    "Open": {
        **_NETWORK,
        "refused": dict.fromkeys(ATTEMPTS, TRAPPED),
        "refused_before": {words: "EAFNOSUPPORT" if words == "netlink-socket" else "" for words in ATTEMPTS},
    },
    "Live": {"invocation": _INVOCATION, "seen": ["it"], "signature_holds": True, "config_sha256": "0" * 64},
    "OutOfForce": {"in_force": ["hybrid-engine.service", "zz-proof.conf"], "invocation": _INVOCATION},
    "Installed": {name: ["hybrid-engine.service", "zz-proof.conf"] for name in CHANGES},
    "Sandbox": {"pid": 42, "confined": dict.fromkeys(sandbox_probe.STATUS, "0")},
    "Changed": {
        "Description": DESCRIPTION,
        "oom_score_adj": OOM,
        "cwd": "/",
        "invocation": [_INVOCATION, "cd" * 16],
        "files": {name: ["before", "after"] for name in ("unit", "60-added.conf", "model.py", "config.toml")},
    },
}
_OF_FAILOVER: dict[str, dict[str, Any]] = {
    "closes": {"connection": 1, "closed_ms": 1795228935415},
    "refuses": {"port": 4242, "probe": "connection refused"},
    "answers 451": {"answered": {"451": 1}},
    "goes silent": {"pid": 42, "state": "T"},
    "sends garbage": {"garbage": 20},
    "bad certificate": {"tls_hellos": 1, "accepted": 0},
    "stops trading": {"connection": 1, "silent_ms": 520},
}


def genuine(case: Case) -> dict[str, Any]:
    """A witness of this case as its host would have recorded it."""
    kinds = [kind.__name__ for kind in type(case).__mro__]
    if "Failover" in kinds:
        return dict(_OF_FAILOVER[case.name])
    result = dict(next(_BY_CLASS[kind] for kind in kinds if kind in _BY_CLASS))
    if kinds[0] == "Sampling":
        result["lost"] = case.left_out  # type: ignore[attr-defined]
    if kinds[0] == "Live":
        result["signature_holds"] = case._way.holds  # type: ignore[attr-defined]
    return result
