"""Loads the configuration: defaults < file < environment < command line. Unknown keys are refused.

Every refusal is a ConfigError of one line: the file (or variable, or option), the key, its value, and what is allowed.
"""

import codecs
import hashlib
import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_engine.config.settings import NOT_IN_DIGEST, PROOF_MAX_AGE_H, REPLACED, Settings
from hybrid_engine.runtime.address import hide_addresses, show_address
from hybrid_engine.runtime.errors import ConfigError

if TYPE_CHECKING:
    from hybrid_engine.config.sources import Source

DEFAULT_PATH = Path("/etc/hybrid-engine/config.toml")
ENV_PREFIX = "HYBRID_ENGINE__"


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration in force: `origins` says for each key where its value comes from; `sources` are best first."""

    settings: Settings
    origins: dict[str, str]
    sources: "tuple[Source, ...]"
    path: Path

    @property
    def values(self) -> dict[str, Any]:
        """The value of every key, by dotted name."""
        return {name: attrgetter(name)(self.settings) for name in KEYS}

    @property
    def digest(self) -> str:
        """sha256 of the canonical effective config, without the keys that arming LIVE changes.

        A proof_max_age_h beyond the default is part of it.
        """
        body: dict[str, Any] = {k: v for k, v in self.values.items() if k not in NOT_IN_DIGEST}
        body["sources"] = [asdict(source) for source in self.sources]
        if self.settings.proof_max_age_h > PROOF_MAX_AGE_H:  # whoever trusts a proof for longer, proves that
            body["proof_max_age_h"] = self.settings.proof_max_age_h
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _list_keys(cls: type = Settings, prefix: str = "") -> Iterator[tuple[str, "Field[Any]"]]:
    """Every key, by dotted name, with its dataclass field."""
    for item in fields(cls):
        if isinstance(item.type, type) and is_dataclass(item.type):
            yield from _list_keys(item.type, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item


KEYS = dict(_list_keys())


def load_config(
    path: Path | None = None, overrides: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Load the configuration.

    `path` None means the default file, which may be missing; a named file may not. `overrides` are command-line values
    by dotted key; `environ` replaces os.environ. Raises ConfigError.
    """
    values = {name: item.default for name, item in KEYS.items()}
    origins = dict.fromkeys(KEYS, "default")
    file = path or DEFAULT_PATH
    try:
        table = _read_toml(file)
    except FileNotFoundError as error:
        if path is not None:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
        table = {}
    for name, value in _flatten(table, str(file)).items():
        values[name] = _check_value(f"{file}: {name}", KEYS[name], value)
        origins[name] = str(file)
    environ = os.environ if environ is None else environ
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            _refuse_near_miss(variable)
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        _refuse_unknown(name, f"environment: {variable}")
        values[name] = _parse_text(f"environment: {variable}", KEYS[name], environ[variable])
        origins[name] = f"environment {variable}"
    for name, text in (overrides or {}).items():
        values[name] = _parse_text(f"command line: {name}", KEYS[name], text)
        origins[name] = "command line"
    settings = _build(Settings, values)
    return Config(settings, origins, _check_combinations(settings, file), file)


def _refuse_near_miss(variable: str) -> None:
    """Raises ConfigError for a variable that was meant to set a key, and does not."""
    squeezed = _squeeze(variable)
    if not squeezed.startswith(_squeeze(ENV_PREFIX)):
        return
    import difflib  # imported here, because only a mistake needs it

    names = {_squeeze(name): name for name in (*KEYS, *REPLACED)}
    close = difflib.get_close_matches(squeezed.removeprefix(_squeeze(ENV_PREFIX)), names, n=1, cutoff=0.85)
    if close:
        name = names[close[0]]
        right = ENV_PREFIX + REPLACED.get(name, name).upper().replace(".", "__")
        raise ConfigError(f"environment: {variable}: sets nothing; did you mean {right}?")


def _squeeze(name: str) -> str:
    return "".join(c for c in name if c.isalnum()).lower()


def load_sources(path: Path, default_ca_file: str = "") -> "tuple[Source, ...]":
    """The sources in the file `path`, best first; those without a `ca_file` get the default one. Raises ConfigError."""
    # Imported here, because the exchanges' protocols take a sixth of the start-up time.
    from hybrid_engine.config.sources import parse_sources

    try:
        return parse_sources(path, _read_toml(path), default_ca_file)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: REAL_WS needs this file: one [[source]] table for each exchange") from error


def _read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises FileNotFoundError, or ConfigError when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); TOML is") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be parsed: {type(error).__name__}: {error}") from error


def _flatten(table: dict[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        dotted = f"{prefix}{name}"
        if "." in name:  # "engine.seed" in quotes is one key with a dot, not the key engine.seed
            raise ConfigError(f'{where}: "{dotted}": unknown key; write tables as tables, keys without quotes')
        if any(known.startswith(f"{dotted}.") for known in KEYS):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {dotted} = {_quote(value)}: must be a table, [{dotted}]")
            flat.update(_flatten(value, where, f"{dotted}."))
        else:
            _refuse_unknown(dotted, f"{where}: {dotted}")
            flat[dotted] = value
    return flat


def _refuse_unknown(name: str, where: str) -> None:
    if name in REPLACED:
        raise ConfigError(f"{where}: this key is now called {REPLACED[name]}")
    if name not in KEYS:
        import difflib  # imported here, because only a mistake needs it

        close = difflib.get_close_matches(name, KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else "`hybrid-engine config show` lists every key"
        raise ConfigError(f"{where}: unknown key; {hint}")


def _parse_text(where: str, item: "Field[Any]", text: str) -> Any:
    """The value of a text from the environment or the command line, checked."""
    value: Any = text
    with suppress(ValueError):  # stays text, which _check_value refuses with what is allowed
        if item.type is bool:
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif item.type in (int, float):
            value = int(text) if item.type is int else float(text)
    return _check_value(where, item, value)


def _check_value(where: str, item: "Field[Any]", value: Any) -> Any:
    """`value` in the key's own type. Raises ConfigError when it has another type or is out of bounds."""
    meta = item.metadata
    setting = f"{where} = {_quote(hide_addresses(value) if isinstance(value, str) else value)}"
    if item.type is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{setting}: must be true or false")
        return value
    if item.type is str:
        if not isinstance(value, str):
            raise ConfigError(f"{setting}: must be a text in quotes")
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise ConfigError(f"{setting}: must be UTF-8 text without a NUL character")
        by_name = {choice.upper().replace("_", ""): choice for choice in meta["choices"]}
        name = value.upper().replace("_", "")
        if by_name and name not in by_name:
            raise ConfigError(f"{setting}: must be one of {', '.join(meta['choices'])}")
        return by_name.get(name, value)
    kind, low, high = "a whole number" if item.type is int else "a number", meta["low"], meta["high"]
    valid = isinstance(value, int if item.type is int else int | float) and not isinstance(value, bool)
    if not valid or not low <= value <= high or not math.isfinite(value):
        raise ConfigError(f"{setting}: must be {kind} from {low:.15g} to {high:.15g}")
    return value if item.type is int else float(value)


def _quote(value: Any) -> str:
    """`value` for an error message, cut to 80 characters."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):  # an integer of thousands of digits, thousands of nested tables
        return f"a monstrous {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _build(cls: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    args = {}
    for item in fields(cls):
        name = f"{prefix}{item.name}"
        args[item.name] = values[name] if name in values else _build(item.type, values, f"{name}.")
    return cls(**args)


def _check_combinations(settings: Settings, file: Path) -> "tuple[Source, ...]":
    """Check what keys require of each other. Returns the sources of a mode that has some. Raises ConfigError."""
    engine = settings.engine
    if not settings.app.symbol:
        raise ConfigError(f'{file}: app.symbol = "": must name a symbol, such as "BTC/USD"')
    if not settings.app.db_path:
        raise ConfigError(f'{file}: app.db_path = "": must name the database file')
    if engine.ingest_mode == "SYNTHETIC" and not engine.ca_file:
        return ()
    from hybrid_engine.config.sources import Source, find_ca_file, is_file, is_ws_url  # slow, see load_sources

    ca_file = find_ca_file(f"{file}: engine.ca_file", engine.ca_file, file.parent) if engine.ca_file else ""
    if engine.ingest_mode == "REAL_WS":
        return load_sources(file.parent / engine.sources_file, ca_file)
    if engine.ingest_mode == "MOCK_WS":
        if not is_ws_url(engine.ws_url):
            raise ConfigError(
                f"{file}: engine.ws_url = {_quote(show_address(engine.ws_url))}: MOCK_WS needs a ws:// or wss:// URL"
            )
        return (Source("mock", engine.ws_url, "auto", (), 1, ca_file),)
    if engine.ingest_mode == "REPLAY":
        where, database = f"{file}: engine.replay_from", engine.replay_from.database
        if not database or engine.replay_from.run < 1:
            raise ConfigError(f"{where}: REPLAY needs {{ database = FILE, run = ID }} of an earlier run")
        if not is_file(database):
            raise ConfigError(f"{where}.database = {_quote(database)}: there is no such file")
    return ()
