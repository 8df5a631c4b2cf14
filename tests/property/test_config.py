"""Any configuration is either valid or refused with one line: never a traceback, never a value out of bounds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_engine.config.load import KEYS, Config, load_config, load_sources
from hybrid_engine.config.sources import KINDS
from hybrid_engine.exchanges import EXCHANGES
from hybrid_engine.runtime.errors import ConfigError

names = st.sampled_from([*KEYS, *(name.rpartition(".")[0] for name in KEYS if "." in name)])
texts = st.text(max_size=12) | st.sampled_from(
    ["SHADOW", "live", "mock_ws", "REAL_WS", "ws://h/ws/x@trade", "ws://[", "/etc/passwd", "\n", "nan", "1e999", "true"]
)
# Values as TOML writes them, with those that JSON does not have.
values = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(lambda x: repr(x) if "e" not in repr(x) or "." in repr(x) else repr(x).replace("e", ".0e")),
    st.sampled_from(
        ["nan", "inf", "-inf", "true", "false", "1979-05-27T07:32:00Z", "[]", "{}", "[1, 'x']", "{ a = 1 }"]
    ),
    st.sampled_from(
        ["0x" + "f" * 6000, "9" * 5000, "'" + "a" * 5000 + "'", "'''\n\n'''", '"\\u0000"', "1_000", "07", ""]
    ),
    texts.map(lambda text: "'" + text.replace("'", "").replace("\n", "").replace("\r", "") + "'"),
)
lines = st.one_of(
    st.tuples(names, values).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.tuples(st.text("abc._-\"' ", max_size=8), values).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    names.map(lambda name: f"[{name}]"),
    st.sampled_from(["[[engine]]", "[engine.replay_from]", "engine" + ".x" * 1100 + " = 1", "mode = 'PAPER'"]),
    st.text(max_size=20),
)


def check_config(config: Config) -> None:
    """Every value has its type and lies within its bounds."""
    for name, value in config.values.items():
        item = KEYS[name]
        assert type(value) is item.type, name
        low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
        if choices:
            assert value in choices
        if low is not None:
            assert low <= value <= high
    assert len(config.digest) == 64


def one_line(error: ConfigError) -> None:
    assert str(error).strip()
    assert len(str(error).splitlines()) == 1, str(error)


@pytest.mark.holds("CONFIG12")
@settings(max_examples=150)
@given(st.lists(lines, max_size=5).map("\n".join))
@example("[engine]\ntick_interval_ms" + ".x" * 1100 + " = 1")
@example('"engine.sample_every" = 5')
@example('"a\\nb" = 1')
@example("[engine]\nca_file = '" + "a" * 5000 + "'")
@example("a = " + "[" * 5000)
@example("[engine]\ningest_mode = 'MOCK_WS'\nws_url = 'ws://['")
def test_any_config_file(text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="config-") as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            config = load_config(path, {}, {})
        except ConfigError as error:
            one_line(error)
        else:
            check_config(config)


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="config-") as folder:
        for reader in (lambda path: load_config(path, {}, {}), load_sources):
            path = Path(folder) / "file.toml"
            path.write_bytes(content)
            try:
                reader(path)
            except ConfigError as error:
                one_line(error)


written = st.one_of(
    texts,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["0x10", "1_0", " 5 ", "٣", "9" * 5000, "\udcff", "true", "TRUE", "-0", "1e3", "NaN"]),
).filter(lambda text: "\x00" not in text)  # neither the environment nor a command line can contain a NUL


@settings(max_examples=150)
@given(
    st.dictionaries(
        names.map(lambda n: "HYBRID_ENGINE__" + n.upper().replace(".", "__")) | st.text(max_size=9), written
    ),
    st.dictionaries(st.sampled_from([*KEYS]), written, max_size=2),
)
def test_any_environment_and_command_line(environ: dict[str, str], overrides: dict[str, str]) -> None:
    try:
        config = load_config(Path("/dev/null"), overrides, environ)
    except ConfigError as error:
        one_line(error)
        return
    check_config(config)
    for name in overrides:
        assert config.origins[name] == "command line"


entry = st.dictionaries(
    st.sampled_from(["name", "url", "kind", "symbol", "symbols", "priority", "ca_file", "other"]),
    st.one_of(
        st.sampled_from(
            ["x", "", *KINDS, "ticker", "ws://h", "ws://h/ws/a@trade", "wss://h:99999/x", "ws://", "ftp://h", "ws://["]
        ),
        st.text(max_size=5),
        st.integers(-1, 1001),
        st.sampled_from([True, 1.5, [], {}, 1]),
        st.lists(st.sampled_from(["BTC/USD", "btc-usd", "A", "", 5]) | st.text(max_size=4), max_size=3),
    ),
)


@settings(max_examples=150)
@given(st.lists(entry, max_size=3))
def test_any_sources_file(entries: list[dict[str, Any]]) -> None:
    body = [
        "[[source]]\n" + "\n".join(f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in item.items())
        for item in entries
    ]
    with tempfile.TemporaryDirectory(prefix="sources-") as folder:
        path = Path(folder) / "ws_sources.toml"
        path.write_bytes("\n".join(body).encode("utf-8", "surrogatepass"))
        try:
            sources = load_sources(path)
        except ConfigError as error:
            one_line(error)
            return
    assert len(sources) == len(entries) > 0
    assert [s.priority for s in sources] == sorted(s.priority for s in sources)
    for source in sources:
        assert source.name
        assert source.kind in KINDS
        assert all(
            isinstance(text, str) for text in EXCHANGES[source.kind].subscribe_messages(source.symbols or ("A/B",))
        )
        assert source.url.startswith(("ws://", "wss://"))
