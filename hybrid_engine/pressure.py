"""Is the engine short of something? Pressure (PSI) is stall time as a percentage of wall time: never CPU use.

What decides is the pressure of the unit's own cgroup, because what other programs do to each other is not the engine's
trouble; the host's is recorded beside it. A ladder of samplings is climbed while the pressure lasts and descended when
it is gone. What cannot be read is unknown, which is never "no pressure" and moves nothing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hybrid_engine.config.settings import EngineSettings
from hybrid_engine.runtime.log import Logger

KINDS = ("cpu", "memory", "io")
LOOK_EVERY_S = 1.0
# Between two looks further apart than this nothing is known: a process that was stopped did not see calm meanwhile.
BLIND_AFTER_S = 5 * LOOK_EVERY_S
_SOME = re.compile(r"^some avg10=(\d{1,3}(?:\.\d+)?) ", re.MULTILINE)

Readings = Mapping[str, float | None]

log = Logger("hybrid_engine::pressure")


class Rung(NamedTuple):
    name: str
    sample_every: int


LADDER = (Rung("NORMAL", 1), Rung("THROTTLE1", 5), Rung("THROTTLE2", 10), Rung("THROTTLE3", 20))
TOP = len(LADDER) - 1


class Decision(NamedTuple):
    """`action` THROTTLE_UP, THROTTLE_DOWN, THROTTLE_MAX (it would climb further, and cannot) or ABORT."""

    action: str
    reason: str


class Ladder:
    """The state machine alone: no clock, no file. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.step = 0
        self._looked_at = self._stepped_at = float("-inf")
        self._pressed_since: float | None = None
        self._calm_since: float | None = None
        self._told: set[str] = set()  # of THROTTLE_MAX and ABORT, during the pressure that lasts

    @property
    def rung(self) -> Rung:
        return LADDER[self.step]

    def look(self, now: float, avg10: Readings, engine: EngineSettings) -> Decision | None:
        """What these readings, and those before them, decide."""
        limits = limits_of(engine)
        over = [f"{kind} {value:g} > {limits[kind]:g}" for kind in KINDS if (value := avg10[kind]) is not None
                and value > limits[kind]]  # fmt: skip
        # One kind unknown is enough for not knowing that all is calm.
        calm = all((value := avg10[kind]) is not None and value < limits[kind] / 2 for kind in KINDS)
        if now - self._looked_at > BLIND_AFTER_S:
            self._pressed_since = self._calm_since = None
        self._looked_at = now
        self._pressed_since = (now if self._pressed_since is None else self._pressed_since) if over else None
        self._calm_since = (now if self._calm_since is None else self._calm_since) if calm else None
        rested = now - self._stepped_at >= engine.psi_cooldown_s
        if self._pressed_since is not None:
            return self._pressed(now - self._pressed_since, rested, ", ".join(over), now, engine)
        self._told.clear()
        if self._calm_since is not None and self.step > 0 and rested:
            lasted_s = now - self._calm_since
            if lasted_s >= engine.psi_calm_s:
                return self._move(-1, now, f"every kind under half its limit for {lasted_s:.1f} s")
        return None

    def _pressed(self, lasted_s: float, rested: bool, over: str, now: float, engine: EngineSettings) -> Decision | None:
        reason = f"{over} for {lasted_s:.1f} s"
        if self.step < TOP:
            return self._move(+1, now, reason) if rested and lasted_s >= engine.psi_trip_s else None
        for action, after_s in (("THROTTLE_MAX", engine.psi_trip_s), ("ABORT", engine.psi_give_up_s)):
            if rested and lasted_s >= after_s and action not in self._told:
                self._told.add(action)
                return Decision(action, reason)
        return None

    def _move(self, by: int, now: float, reason: str) -> Decision:
        self.step += by
        self._stepped_at = now
        # What moved it is spent: the next step needs evidence of its own.
        self._pressed_since = self._calm_since = None
        self._told.clear()
        return Decision("THROTTLE_UP" if by > 0 else "THROTTLE_DOWN", reason)


class Pressure:
    """Reads, at most every LOOK_EVERY_S, and says what sampling is in force. `proc` is where /proc is."""

    def __init__(self, engine: EngineSettings, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._unknown: list[str] = []
        self._last: Readings = dict.fromkeys(KINDS)
        self._worst = dict(self._last)
        self._next_look = float("-inf")
        self._begin(engine)

    def _begin(self, engine: EngineSettings) -> None:
        self._engine = engine
        # A replay is not sampled: there is nothing that a step could change.
        self._actions = "off" if engine.ingest_mode == "REPLAY" else engine.psi_actions
        self._ladder = Ladder()
        self._folder = Path(engine.psi_path) if engine.psi_path else own_cgroup(self._proc)

    def reload(self, engine: EngineSettings) -> None:
        """New settings. The rung stays, unless pressure is now read elsewhere or acted on otherwise."""
        old = self._engine
        if (engine.psi_actions, engine.psi_path) != (old.psi_actions, old.psi_path):
            self._begin(engine)
        self._engine = engine

    @property
    def sample_every(self) -> int:
        """In force: the operator's setting or the ladder's, whichever keeps fewer."""
        throttle = self._ladder.rung.sample_every if self._actions == "on" else 1
        return max(self._engine.sample_every, throttle)

    def look(self, now: float) -> dict[str, object] | None:
        """The fields of a decision's log line, when there is one. `now` is in monotonic seconds."""
        if self._actions == "off" or now < self._next_look:
            return None
        self._next_look = now + LOOK_EVERY_S
        raw = read_psi(self._folder, "{}.pressure")
        self._last = avg10 = {kind: some_avg10(raw[kind]) for kind in KINDS}
        self._tell_unknown([kind for kind in KINDS if avg10[kind] is None])
        for kind, value in avg10.items():
            self._worst[kind] = max((v for v in (value, self._worst[kind]) if v is not None), default=None)
        decision = self._ladder.look(now, avg10, self._engine)
        if decision is None:
            return None
        logonly = {"action": "PSI_LOGONLY", "would": decision.action} if self._actions == "logonly" else {}
        return {
            "action": decision.action,
            **logonly,
            "state": self._ladder.rung.name,
            "psi_actions": self._actions,
            "reason": decision.reason,
            "psi": _lines(raw),
            "host_psi": _lines(read_psi(self._proc / "pressure", "{}")),
        }

    def _tell_unknown(self, unknown: list[str]) -> None:
        if unknown == self._unknown:
            return
        self._unknown = unknown
        where = str(self._folder) if self._folder else "this process is in no cgroup of its own"
        if unknown:
            log.warn("pressure is unknown", kinds=unknown, where=where)
        else:
            log.info("pressure is known", where=where)

    def report(self) -> dict[str, object]:
        """The fields of HEARTBEAT and FINAL METRICS; the worst avg10 are those since the last call, None: unknown."""
        state = "OFF" if self._actions == "off" else self._ladder.rung.name
        worst = {f"psi_{kind}_worst": value for kind, value in self._worst.items()}
        self._worst = dict(self._last)  # an average of the seconds before: it counts on
        return {"sample_every": self.sample_every, "psi_actions": self._actions, "pressure_state": state, **worst}


def limits_of(engine: EngineSettings) -> dict[str, float]:
    """The highest avg10 that is no pressure yet, by kind."""
    return dict(zip(KINDS, (engine.psi_cpu_limit, engine.psi_memory_limit, engine.psi_io_limit), strict=True))


def own_cgroup(proc: Path) -> Path | None:
    """The directory of this process's own cgroup (v2); None where it is in none, or in the root, which is the host."""
    groups = _text(proc / "self" / "cgroup") or ""
    group = next((line[3:] for line in groups.splitlines() if line.startswith("0::/")), None)
    if group is None:
        return None
    for line in (_text(proc / "self" / "mountinfo") or "").splitlines():
        mount, _, file_system = line.partition(" - ")
        if not file_system.startswith("cgroup2 "):
            continue
        root, at = mount.split()[3:5]
        inside = group if root == "/" else group.removeprefix(root)
        if root != "/" and inside == group:
            continue  # mounted from another place of the hierarchy: our group is not below it
        folder = Path(at, inside.lstrip("/"))
        if (folder / "cgroup.events").exists():  # every group has it but the root
            return folder
    return None


def read_psi(folder: Path | None, name: str) -> dict[str, str | None]:
    """The files' texts by kind, None for what cannot be read. `name` has {} for the kind."""
    return {kind: _text(folder / name.format(kind)) if folder else None for kind in KINDS}


def some_avg10(text: str | None) -> float | None:
    """Percent of the last 10 s in which at least one task was stalled; None when the text does not say.

    >>> some_avg10("some avg10=12.50 avg60=3.00 avg300=1.00 total=99")
    12.5
    """
    found = _SOME.search(text or "")
    value = float(found[1]) if found else None
    return value if value is not None and value <= 100 else None


def _lines(raw: Mapping[str, str | None]) -> dict[str, list[str] | None]:
    return {kind: None if text is None else text.splitlines() for kind, text in raw.items()}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
