"""The deployed settings beside those that each proof ran with: what it took over, what it changed, and by how much.

Both are read off the recording: the output of `hybrid-engine config check`, and the scratch configurations that a proof
wrote. What a scratch configuration does not name has the engine's default in the proof.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from proofs.evidence import recorder
from proofs.verdict import Json

_CHECK = ["config", "check"]
_LINE = re.compile(r"^([\w.]+) += (\S.*?) +# ([^\n]*?)(?:, default (\S[^\n]*))?$", re.M)
_VOID = re.compile(r"^void (\S.*)$", re.M)
_WRITTEN = re.compile(r"write \S+/etc/config\.toml")
# What a proof sets of itself, and what arming sets.
_OWN = ("mode", "live_armed", "proof_bundle", "proof_max_age_h")


class Setting(NamedTuple):
    value: Json
    default: Json


def void_guarantees(events: Sequence[dict[str, Json]]) -> list[str]:
    """The deployed values that make a guarantee void, as the engine's table of limits has them."""
    return _VOID.findall(_checked(events))


def of_proof(events: Sequence[dict[str, Json]], name: str) -> dict[str, Json]:
    """Which deployed settings a proof took over ("as_deployed") and which it did not ("changed").

    An entry of "changed" has the key, the deployed value, each value of the proof, and for numbers the least and the
    greatest of these as a multiple of the deployed one.
    """
    deployed = _settings(_checked(events))
    texts = [
        event["data"]["text"] for event in events if recorder.has_cases_of(event["scope"], name) and _is_config(event)
    ]
    runs = [scratch for text in texts if (scratch := _parsed(text)) is not None]
    as_deployed, changed = list[str](), list[dict[str, Json]]()
    for key, setting in sorted(deployed.items() if runs else ()):
        values = [run.get(key, setting.default) for run in runs]
        if all(value == setting.value for value in values):
            as_deployed.append(key)
        else:
            proven = sorted({json.dumps(value): value for value in values}.items())
            changed.append({"key": key, "deployed": setting.value, "proven": [value for _, value in proven]})
            numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
            if len(numbers) == len(values) and isinstance(setting.value, int | float) and setting.value:
                changed[-1]["times"] = [round(f(numbers) / setting.value, 6) for f in (min, max)]
    return {"as_deployed": as_deployed, "changed": changed}


def in_words(change: dict[str, Json]) -> str:
    """One entry of "changed" for a page."""
    proven = ", ".join(json.dumps(value) for value in change["proven"])
    times = " to ".join(dict.fromkeys(f"{value:g}" for value in change.get("times", ())))
    return f"{change['key']} {json.dumps(change['deployed'])} -> {proven}{f' (x {times})' if times else ''}"


def _checked(events: Sequence[dict[str, Json]]) -> str:
    """The output of the last `config check` before the run was announced."""
    end = next((number for number, event in enumerate(events) if event["kind"] == "run"), 0)
    checks = [e["stdout"] for e in events[:end] if e["kind"] == "command" and e["argv"][-2:] == _CHECK]
    return str(checks[-1]) if checks else ""


def _settings(checked: str) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for key, text, _, default in _LINE.findall(checked):
        if key not in _OWN:
            value = _scalar(text)
            settings[key] = Setting(value, _scalar(default) if default else value)
    return settings


def _scalar(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_config(event: dict[str, Json]) -> bool:
    data = event["data"]
    announced = event["kind"] == "intent" and isinstance(data, dict) and isinstance(data.get("text"), str)
    return announced and _WRITTEN.fullmatch(str(event["stdout"])) is not None


def _parsed(text: str) -> dict[str, Json] | None:
    """The settings that a configuration names, by dotted key; None: it is none, and no engine ran with it."""
    try:
        return dict(_flat(tomllib.loads(text), ""))
    except (ValueError, RecursionError):
        return None


def _flat(table: dict[str, Json], prefix: str) -> Iterator[tuple[str, Json]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float):
            yield f"{prefix}{name}", value
