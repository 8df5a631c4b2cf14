"""Pressure in a running engine: recorded files replace those of the unit's cgroup, everything else is real."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounting import check_finished
from tests.support.pressure import CALM, PRESSED, put
from tests.support.process import EngineProcess, Launcher


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    """Limits that make a step at every reading."""
    return {"psi_actions": "on", "psi_path": str(folder), "psi_trip_s": 0, "psi_calm_s": 0, "psi_cooldown_s": 0, **more}


def due(spans: list[tuple[int, int]], received: int) -> int:
    """How many trades are kept. Each span is (received at its beginning, keep every Nth from there)."""
    ends = [start for start, _ in spans[1:]] + [received]
    return sum((end - start) // every for (start, every), end in zip(spans, ends, strict=True))


def spans_of(process: EngineProcess) -> list[tuple[int, int]]:
    """The samplings that the engine logged, in the order in which they applied."""
    result = [(0, process.messages("engine starting")[0]["sample_every"])]
    for line in process.lines:
        fields = line["fields"]
        if fields["message"] == "reloaded":
            result.append((fields["received"], fields["sample_every"]))
        elif fields["message"] == "pressure decision" and fields["received"] is not None:
            result.append((fields["received"], fields["current_sample_every"]))
    return result


@pytest.mark.holds("G2", "SAMPLING")
def test_throttle_and_release_lose_no_tick(engine: Launcher) -> None:
    folder = put(engine.folder / "psi", CALM)
    process = engine.start(engine=settings(folder))
    process.heartbeat(lambda f: f["pressure_state"] == "NORMAL" and f["psi_cpu_worst"] == 7.01)
    put(folder, PRESSED)
    process.wait("pressure decision", lambda f: f["action"] == "THROTTLE_MAX")
    process.heartbeat(lambda f: f["sample_every"] == 20 and f["psi_cpu_worst"] == 58.8)
    put(folder, CALM)
    process.wait("pressure decision", lambda f: f["state"] == "NORMAL")
    process.heartbeat(lambda f: f["sample_every"] == 1 and f["psi_cpu_worst"] == 7.01)
    assert process.stop() == 0
    events = process.messages("pressure decision")
    assert [(f["action"], f["state"], f["current_sample_every"]) for f in events] == [
        ("THROTTLE_UP", "THROTTLE1", 5),
        ("THROTTLE_UP", "THROTTLE2", 10),
        ("THROTTLE_UP", "THROTTLE3", 20),
        ("THROTTLE_MAX", "THROTTLE3", 20),
        ("THROTTLE_DOWN", "THROTTLE2", 10),
        ("THROTTLE_DOWN", "THROTTLE1", 5),
        ("THROTTLE_DOWN", "NORMAL", 1),
    ]
    for fields in events:
        texts = PRESSED if fields["action"] != "THROTTLE_DOWN" else CALM
        assert fields["psi"] == {kind: text.splitlines() for kind, text in texts.items()}
        assert set(fields["host_psi"]) == {"cpu", "memory", "io"}
    run = check_finished(engine.db)
    spans = spans_of(process)
    assert len(spans) == 7
    assert run["admitted"] == due(spans, run["received"]) > 0
    assert (run["dropped"], run["rejected"]) == (0, 0)
    assert process.final()["pressure_state"] == "NORMAL"


@pytest.mark.holds("G2")
def test_reload_and_throttle_respect_each_other(engine: Launcher) -> None:
    folder = put(engine.folder / "psi", PRESSED)
    keys = settings(folder, psi_cooldown_s=3600)
    process = engine.start(engine=keys)
    process.wait("pressure decision", lambda f: f["current_sample_every"] == 5)
    for configured, in_force in ((3, 5), (7, 7), (1, 5)):
        engine.write_config({"engine": {**keys, "sample_every": configured}})
        after = len(process.lines)
        process.send(signal.SIGHUP)
        assert process.wait("reloaded", after=after)["sample_every"] == in_force
        process.heartbeat(lambda f, n=in_force: f["sample_every"] == n and f["pressure_state"] == "THROTTLE1")  # type: ignore[misc]
    assert process.stop() == 0
    run = check_finished(engine.db)
    assert run["admitted"] == due(spans_of(process), run["received"])


@pytest.mark.holds("G2")
def test_top_of_ladder_logs_abort_and_continues(engine: Launcher) -> None:
    folder = put(engine.folder / "psi", PRESSED)
    process = engine.start(engine=settings(folder, psi_give_up_s=1))
    message = process.wait("pressure decision", lambda f: f["action"] == "ABORT")
    assert (message["state"], message["received"]) == ("THROTTLE3", None)
    after = len(process.lines)
    at = process.heartbeat()["received"]
    process.heartbeat(lambda f: f["received"] > at + 200 and f["pressure_state"] == "THROTTLE3")
    assert [line["fields"] for line in process.lines[after:] if line["fields"]["message"] == "pressure decision"] == []
    assert process.stop() == 0
    assert [line["level"] for line in process.lines if line["fields"].get("action") == "ABORT"] == ["ERROR"]


@pytest.mark.holds("G2")
def test_logonly_and_unknown_pressure_keep_every_tick(engine: Launcher) -> None:
    folder = put(engine.folder / "psi", PRESSED)
    keys = settings(folder, psi_actions="logonly")
    process = engine.start(engine=keys)
    would = process.wait("pressure decision", lambda f: f["state"] == "THROTTLE2")
    assert (would["action"], would["would"], would["current_sample_every"]) == ("PSI_LOGONLY", "THROTTLE_UP", 1)
    engine.write_config({"engine": {**keys, "psi_actions": "on", "psi_path": str(engine.folder / "nothing")}})
    process.send(signal.SIGHUP)
    assert process.wait("pressure is unknown")["kinds"] == ["cpu", "memory", "io"]
    process.heartbeat(lambda f: f["psi_cpu_worst"] is None and f["pressure_state"] == "NORMAL")
    assert process.stop() == 0
    run = check_finished(engine.db)
    assert (run["admitted"], run["sampled_out"]) == (run["received"], 0)
