"""Pressure: throttles the sampling while the engine's tasks are stalled for CPU, memory or I/O.

Pressure (PSI) is stall time as a percentage of wall time; it is not CPU use. The pressure of the unit's own cgroup
decides, because what other programs do to each other is not the engine's concern; the host's pressure is logged beside
it. While the pressure lasts, the sampling climbs a ladder of steps; when it has gone, it descends. Pressure that cannot
be read is unknown: it counts neither as pressure nor as calm.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.runtime.log import Logger

KINDS = ("cpu", "memory", "io")
READ_EVERY_S = 1.0
# When two readings are further apart, nothing is known of the time between: the process may have been stopped.
BLIND_AFTER_S = 5 * READ_EVERY_S
_SOME = re.compile(r"^some avg10=(\d{1,3}(?:\.\d+)?) ", re.MULTILINE)

Readings = Mapping[str, float | None]

log = Logger("hybrid_engine::pressure")


class Step(NamedTuple):
    """A step of the throttle ladder; `name` is the log field pressure_state."""

    name: str
    sample_every: int


LADDER = (Step("NORMAL", 1), Step("THROTTLE1", 5), Step("THROTTLE2", 10), Step("THROTTLE3", 20))
TOP = len(LADDER) - 1


class Decision(NamedTuple):
    """`action`: THROTTLE_UP, THROTTLE_DOWN, THROTTLE_MAX (already on the top step) or ABORT."""

    action: str
    reason: str


class ThrottleLadder:
    """Decides from readings which step of LADDER is in force. No clock, no files: `now` is seconds of any clock."""

    def __init__(self) -> None:
        self.level = 0  # index in LADDER
        self._read_at = self._moved_at = float("-inf")
        self._over_since: float | None = None
        self._calm_since: float | None = None
        self._reported: set[str] = set()  # THROTTLE_MAX and ABORT, during the present pressure

    @property
    def step(self) -> Step:
        return LADDER[self.level]

    def decide(self, now: float, avg10: Readings, engine: EngineSettings) -> Decision | None:
        """The decision that these readings and those before them lead to, or None."""
        limits = read_limits(engine)
        known = {kind: value for kind, value in avg10.items() if value is not None}
        over = [f"{kind} {value:g} > {limits[kind]:g}" for kind, value in known.items() if value > limits[kind]]
        # With one kind unknown it is not known that everything is calm.
        calm = len(known) == len(KINDS) and all(value < limits[kind] / 2 for kind, value in known.items())
        if now - self._read_at > BLIND_AFTER_S:
            self._over_since = self._calm_since = None
        self._read_at = now
        self._over_since = (now if self._over_since is None else self._over_since) if over else None
        self._calm_since = (now if self._calm_since is None else self._calm_since) if calm else None
        if self._over_since is None:
            self._reported.clear()
        if now - self._moved_at < engine.psi_cooldown_s:
            return None
        if self._over_since is not None:
            lasted_s = now - self._over_since
            reason = f"{', '.join(over)} for {lasted_s:.1f} s"
            if self.level < TOP:
                return self._move(+1, now, reason) if lasted_s >= engine.psi_trip_s else None
            for action, after_s in (("THROTTLE_MAX", engine.psi_trip_s), ("ABORT", engine.psi_give_up_s)):
                if lasted_s >= after_s and action not in self._reported:
                    self._reported.add(action)
                    return Decision(action, reason)
        elif self._calm_since is not None and self.level > 0:
            lasted_s = now - self._calm_since
            if lasted_s >= engine.psi_calm_s:
                return self._move(-1, now, f"every kind under half its limit for {lasted_s:.1f} s")
        return None

    def _move(self, by: int, now: float, reason: str) -> Decision:
        self.level, self._moved_at = self.level + by, now
        # The next move needs evidence of its own.
        self._over_since = self._calm_since = None
        self._reported.clear()
        return Decision("THROTTLE_UP" if by > 0 else "THROTTLE_DOWN", reason)


class PressureMonitor:
    """Reads the pressure at most every READ_EVERY_S and has the sampling in force. `proc` is the path of /proc."""

    def __init__(self, engine: EngineSettings, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._unknown: list[str] = []
        self._last: Readings = dict.fromkeys(KINDS)
        self._worst = dict(self._last)
        self._next_read = float("-inf")
        self._start(engine)

    def _start(self, engine: EngineSettings) -> None:
        self._engine = engine
        # A replay is not sampled, so there is nothing to throttle.
        self._actions = "off" if engine.ingest_mode == "REPLAY" else engine.psi_actions
        self._ladder = ThrottleLadder()
        self._folder = Path(engine.psi_path) if engine.psi_path else find_own_cgroup(self._proc)

    def reload(self, engine: EngineSettings) -> None:
        """Apply new settings. The step stays, unless psi_path or psi_actions changed."""
        old = self._engine
        if (engine.psi_actions, engine.psi_path) != (old.psi_actions, old.psi_path):
            self._start(engine)
        self._engine = engine

    @property
    def sample_every(self) -> int:
        """The sampling in force: the configured one or the ladder's, whichever keeps fewer trades."""
        throttle = self._ladder.step.sample_every if self._actions == "on" else 1
        return max(self._engine.sample_every, throttle)

    def check(self, now: float) -> dict[str, object] | None:
        """Read the pressure. Returns the log fields of a decision, or None. `now` is in monotonic seconds."""
        if self._actions == "off" or now < self._next_read:
            return None
        self._next_read = now + READ_EVERY_S
        raw = read_psi(self._folder, "{}.pressure")
        self._last = avg10 = {kind: parse_some_avg10(raw[kind]) for kind in KINDS}
        self._log_unknown([kind for kind in KINDS if avg10[kind] is None])
        for kind, value in avg10.items():
            self._worst[kind] = max((v for v in (value, self._worst[kind]) if v is not None), default=None)
        decision = self._ladder.decide(now, avg10, self._engine)
        if decision is None:
            return None
        logonly = {"action": "PSI_LOGONLY", "would": decision.action}
        return {
            **(logonly if self._actions == "logonly" else {"action": decision.action}),
            "state": self._ladder.step.name,
            "psi_actions": self._actions,
            "reason": decision.reason,
            "psi": _split_lines(raw),
            "host_psi": _split_lines(read_psi(self._proc / "pressure", "{}")),
        }

    def _log_unknown(self, unknown: list[str]) -> None:
        where = str(self._folder) if self._folder else "this process is in no cgroup of its own"
        if unknown and unknown != self._unknown:
            log.warn("pressure is unknown", kinds=unknown, where=where)
        elif self._unknown and not unknown:
            log.info("pressure is known", where=where)
        self._unknown = unknown

    def heartbeat_fields(self) -> dict[str, object]:
        """Log fields of HEARTBEAT and FINAL METRICS. The worst avg10 are those since the last call; None: unknown."""
        state = "OFF" if self._actions == "off" else self._ladder.step.name
        worst = {f"psi_{kind}_worst": value for kind, value in self._worst.items()}
        self._worst = dict(self._last)  # the last reading averages past seconds, so it counts for the next call too
        return {"sample_every": self.sample_every, "psi_actions": self._actions, "pressure_state": state, **worst}


def read_limits(engine: EngineSettings) -> dict[str, float]:
    """The configured limits by kind: the highest avg10 that is not pressure yet."""
    return dict(zip(KINDS, (engine.psi_cpu_limit, engine.psi_memory_limit, engine.psi_io_limit), strict=True))


def find_own_cgroup(proc: Path) -> Path | None:
    """The directory of this process's cgroup (v2); None where it has none, or is in the root, which is the host's."""
    groups = _read_text(proc / "self" / "cgroup") or ""
    group = next((line[3:] for line in groups.splitlines() if line.startswith("0::/")), None)
    if group is None:
        return None
    for line in (_read_text(proc / "self" / "mountinfo") or "").splitlines():
        mount, _, file_system = line.partition(" - ")
        if not file_system.startswith("cgroup2 "):
            continue
        root, at = mount.split()[3:5]
        inside = group if root == "/" else group.removeprefix(root)
        if root != "/" and inside == group:
            continue  # a mount of another part of the hierarchy: our group is not below it
        folder = Path(at, inside.lstrip("/"))
        if (folder / "cgroup.events").exists():  # every group but the root has this file
            return folder
    return None


def missing_controls(proc: Path = Path("/proc")) -> list[str]:
    """What this host's kernel does not show or enforce, each with its remedy; empty where it does."""
    missing = []
    if not (proc / "pressure/cpu").exists():
        missing.append("no pressure (PSI) is known, so nothing is throttled: boot with psi=1")
    lines = (_read_text(proc / "cgroups") or "").splitlines()
    if any(line.split()[0] == "memory" and line.split()[-1] == "0" for line in lines if line.strip()):
        missing.append("MemoryMax= bounds nothing, and memory pressure is unknown: boot with cgroup_enable=memory")
    return missing


def read_psi(folder: Path | None, name: str) -> dict[str, str | None]:
    """The text of each kind's file, None where it cannot be read. `name` is the file's name with {} for the kind."""
    return {kind: _read_text(folder / name.format(kind)) if folder else None for kind in KINDS}


def parse_some_avg10(text: str | None) -> float | None:
    """Percent of the last 10 s in which at least one task was stalled; None when the text does not have it."""
    match = _SOME.search(text or "")
    return float(match[1]) if match and float(match[1]) <= 100 else None


def _split_lines(raw: Mapping[str, str | None]) -> dict[str, list[str] | None]:
    return {kind: None if text is None else text.splitlines() for kind, text in raw.items()}


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
