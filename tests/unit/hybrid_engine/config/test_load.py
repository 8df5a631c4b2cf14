"""Loading the configuration: precedence, refusals, and what the digest covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybrid_engine.config.load import KEYS, load_config
from hybrid_engine.config.settings import NOT_IN_DIGEST
from hybrid_engine.runtime.errors import ConfigError, ExitCode


def loaded(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **overrides: str) -> Any:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path, {key.replace("__", "."): value for key, value in overrides.items()}, environ or {})


def refused(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ, **overrides)
    assert caught.value.code is ExitCode.CONFIG
    return str(caught.value).replace(str(tmp_path / "config.toml"), "FILE")


@pytest.mark.holds("G0")
def test_defaults_match_documentation(tmp_path: Path) -> None:
    engine = loaded(tmp_path).values
    expected = {
        "mode": "SHADOW",
        "live_armed": False,
        "engine.tick_interval_ms": 500,
        "engine.signal_every_n_ticks": 10,
        "engine.heartbeat_interval_secs": 10.0,
        "engine.sample_every": 1,
        "engine.dead_after_s": 20.0,
        "engine.network_deadline_s": 120.0,
        "engine.parse_error_limit": 20,
        "engine.overload_after_s": 10.0,
        "engine.storage_deadline_s": 30.0,
        "engine.admit_wait_ms": 50.0,
        "engine.batch_rows": 1000,
        "engine.flush_interval_ms": 1000.0,
        "risk_caps.max_exposure_usd": 10_000.0,
        "risk_caps.max_symbol_exposure_usd": 5_000.0,
        "risk_caps.max_open_orders": 10,
        "channels.tick": 256,
        "channels.signal": 64,
        "channels.persist": 512,
        "dashboard.host": "127.0.0.1",
        "dashboard.port": 8501,
    }
    assert {key: engine[key] for key in expected} == expected
    assert all(item.metadata["doc"] for item in KEYS.values())


def test_precedence_of_origins(tmp_path: Path) -> None:
    text = "[engine]\nsample_every = 2\nseed = 2\nbatch_rows = 2\n"
    environ = {"HYBRID_ENGINE__ENGINE__SAMPLE_EVERY": "3", "HYBRID_ENGINE__ENGINE__SEED": "3", "OTHER": "x"}
    config = loaded(tmp_path, text, environ, engine__sample_every="4")
    engine = config.settings.engine
    assert (engine.sample_every, engine.seed, engine.batch_rows, engine.signal_every_n_ticks) == (4, 3, 2, 10)
    origins = [
        config.origins[f"engine.{key}"] for key in ("sample_every", "seed", "batch_rows", "signal_every_n_ticks")
    ]
    file = str(tmp_path / "config.toml")
    assert origins == ["command line", "environment HYBRID_ENGINE__ENGINE__SEED", file, "default"]


@pytest.mark.parametrize(
    ("variable", "right"),
    [
        ("HYBRID_ENGINE_ENGINE__SEED", "HYBRID_ENGINE__ENGINE__SEED"),
        ("HYBRID_ENGINE__ENGINE_SEED", "unknown key; did you mean engine.seed?"),
        ("HYBRID_ENGINE_ENGINE_SAMPLE_EVERY", "HYBRID_ENGINE__ENGINE__SAMPLE_EVERY"),
        ("HYBRID_ENGINE_ENGINE_SAMPLE_EVRY", "HYBRID_ENGINE__ENGINE__SAMPLE_EVERY"),
        ("hybrid_engine__app__symbol", "HYBRID_ENGINE__APP__SYMBOL"),
        ("Hybrid_Engine__App__Symbol", "HYBRID_ENGINE__APP__SYMBOL"),
        ("HYBRIDENGINE__MODE", "HYBRID_ENGINE__MODE"),
        ("HYBRID_ENGINE_MODE", "HYBRID_ENGINE__MODE"),
        ("HYBRID-ENGINE__MODE", "HYBRID_ENGINE__MODE"),
    ],
)
def test_environment_variable_that_nearly_fits_is_refused(tmp_path: Path, variable: str, right: str) -> None:
    message = refused(tmp_path, "", {variable: "1"})
    assert message.startswith(f"environment: {variable}: ")
    assert right in message


@pytest.mark.parametrize("variable", ["HYBRID_ENGINE_LAB", "HYBRID_ENGINE", "HYBRID", "HYBRID_ENGINE_RELEASE", "PATH"])
def test_other_environment_variables_are_let_be(tmp_path: Path, variable: str) -> None:
    loaded(tmp_path, "", {variable: "1"})


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xef\xbb\xbf[engine]\nseed = 3\n")
    assert load_config(tmp_path / "config.toml").settings.engine.seed == 3


def test_environment_variables_for_nested_and_top_level_keys(tmp_path: Path) -> None:
    database = tmp_path / "old.db"
    database.touch()
    environ = {
        "HYBRID_ENGINE__MODE": "paper",
        "HYBRID_ENGINE__LIVE_ARMED": "TRUE",
        "HYBRID_ENGINE__ENGINE__INGEST_MODE": "replay",
        "HYBRID_ENGINE__ENGINE__REPLAY_FROM__DATABASE": str(database),
        "HYBRID_ENGINE__ENGINE__REPLAY_FROM__RUN": "3",
    }
    settings = loaded(tmp_path, "", environ).settings
    assert (settings.mode, settings.live_armed, settings.engine.replay_from.run) == ("PAPER", True, 3)


def test_missing_file_refused_only_when_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_engine.config.load.DEFAULT_PATH", tmp_path / "none.toml")
    assert load_config(None, {}, {}).settings.mode == "SHADOW"
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_config(tmp_path / "none.toml", {}, {})
    (tmp_path / "none.toml").write_text("mode = 'PAPER'")
    assert load_config(None, {}, {}).settings.mode == "PAPER"


@pytest.mark.holds("CONFIG12")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_every = 5", "FILE: sample_every: unknown key; did you mean engine.sample_every?"),
        ("[engine]\nsample_evry = 5", "FILE: engine.sample_evry: unknown key; did you mean engine.sample_every?"),
        ("[zzz]\nx = 5", "FILE: zzz: unknown key; `hybrid-engine config show` lists every key"),
        ("engine = 5", "FILE: engine = 5: must be a table, [engine]"),
        ("[[engine]]", "FILE: engine = [{}]: must be a table, [engine]"),
        ("[engine]\nreplay_from = 'x'", 'FILE: engine.replay_from = "x": must be a table, [engine.replay_from]'),
        ('"engine.seed" = 5', 'FILE: "engine.seed": unknown key; write tables as tables'),
        ("[engine]\nsample_every = 0", "FILE: engine.sample_every = 0: must be a whole number from 1 to 1000000"),
        ("[engine]\nsample_every = 1000001", "engine.sample_every = 1000001: must be a whole number from 1 to 1000000"),
        ("[engine]\nsample_every = 2.0", "FILE: engine.sample_every = 2.0: must be a whole number from 1 to 1000000"),
        ("[engine]\nsample_every = true", "FILE: engine.sample_every = true: must be a whole number"),
        ("[engine]\nsample_every = '5'", 'FILE: engine.sample_every = "5": must be a whole number'),
        ("[engine]\nsample_every = [5]", "FILE: engine.sample_every = [5]: must be a whole number"),
        ("[engine]\ntick_interval_ms = 0xF" + "f" * 5000, "FILE: engine.tick_interval_ms = a monstrous int: must be"),
        ("[engine]\nvolume = nan", "FILE: engine.volume = NaN: must be a number from 1e-12 to 1000000000000"),
        ("[engine]\nvolume = inf", "FILE: engine.volume = Infinity: must be a number"),
        ("[risk_caps]\nmax_exposure_usd = -1", "FILE: risk_caps.max_exposure_usd = -1: must be a number from 1e-09"),
        ("[channels]\nsignal = 1", "FILE: channels.signal = 1: must be a whole number from 2"),
        ("[channels]\npersist = 3", "FILE: channels.persist = 3: must be a whole number from 4"),
        ("live_armed = 1", "FILE: live_armed = 1: must be true or false"),
        ("mode = 'shadows'", 'FILE: mode = "shadows": must be one of SHADOW, PAPER, LIVE'),
        ("mode = 5", "FILE: mode = 5: must be a text in quotes"),
        ("[app]\nsymbol = ''", 'FILE: app.symbol = "": must name a symbol'),
        ('[app]\ndb_path = "a\\u0000b"', 'FILE: app.db_path = "a\\u0000b": must be UTF-8 text without a NUL'),
        ("[engine]\nca_file = '/none.pem'", 'FILE: engine.ca_file = "/none.pem": there is no such file'),
        ("[engine]\nca_file = '" + "x" * 400 + "'", "there is no such file"),  # ENAMETOOLONG
        ("[engine]\ningest_mode = 'WS'", "must be one of SYNTHETIC, REPLAY, MOCK_WS, REAL_WS"),
        ("[engine]\ningest_mode = 'MOCK_WS'\nws_url = 'http://x'", 'engine.ws_url = "http://x": MOCK_WS needs a ws://'),
        (
            "[engine]\ningest_mode = 'MOCK_WS'\nws_url = 'ws://['",
            'engine.ws_url = "ws://[redacted]": MOCK_WS needs a ws://',
        ),
        ("[engine]\ningest_mode = 'MOCK_WS'\nws_url = 'ws://h:99999'", "MOCK_WS needs a ws:// or wss:// URL"),
        ("[engine]\ningest_mode = 'REPLAY'", "FILE: engine.replay_from: REPLAY needs"),
        ("[engine]\ningest_mode = 'REAL_WS'", "ws_sources.toml: REAL_WS needs this file"),
        ("[channels]\ntick_channel_size = 9", "FILE: channels.tick_channel_size: this key is now called channels.tick"),
        ("[channels]\nsignal_channel_size = 9", "this key is now called channels.signal"),
        ("[channels]\npersist_channel_size = 9", "this key is now called channels.persist"),
        ("[engine\n", "FILE: is not valid TOML: "),
        ("mode = 'PAPER'\nmode = 'SHADOW'", "FILE: is not valid TOML: "),
        ("x = " + "[" * 5000, "FILE: cannot be parsed: RecursionError"),
    ],
)
def test_refusal_names_file_key_and_allowed_values(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"HYBRID_ENGINE__ENGINE__NOPE": "1"}, "environment: HYBRID_ENGINE__ENGINE__NOPE: unknown key"),
        ({"HYBRID_ENGINE__SAMPLE_EVERY": "1"}, "HYBRID_ENGINE__SAMPLE_EVERY: unknown key; did you mean engine.sample"),
        ({"HYBRID_ENGINE__ENGINE": "1"}, "environment: HYBRID_ENGINE__ENGINE: unknown key"),
        (
            {"HYBRID_ENGINE__ENGINE__SEED": "x"},
            'environment: HYBRID_ENGINE__ENGINE__SEED = "x": must be a whole number',
        ),
        ({"HYBRID_ENGINE__ENGINE__VOLUME": "nan"}, "HYBRID_ENGINE__ENGINE__VOLUME = NaN: must be a number"),
        ({"HYBRID_ENGINE__LIVE_ARMED": "1"}, 'HYBRID_ENGINE__LIVE_ARMED = "1": must be true or false'),
        ({"HYBRID_ENGINE__APP__SYMBOL": "\udcff"}, 'HYBRID_ENGINE__APP__SYMBOL = "\\udcff": must be UTF-8 text'),
        ({"HYBRID_ENGINE__CHANNELS__TICK_CHANNEL_SIZE": "9"}, "this key is now called channels.tick"),
    ],
)
def test_environment_variable_is_checked(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    assert message in refused(tmp_path, "", environ)


def test_command_line_option_is_checked(tmp_path: Path) -> None:
    assert "command line: engine.sample_every = 0: must be" in refused(tmp_path, engine__sample_every="0")
    assert 'command line: engine.run_seconds = "soon": must be' in refused(tmp_path, engine__run_seconds="soon")


BOUNDED = [name for name, item in KEYS.items() if item.metadata["low"] is not None]


@pytest.mark.holds("CONFIG12")
@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_of_every_key_are_checked(tmp_path: Path, name: str) -> None:
    """Wherever the value comes from; at its bounds it is allowed."""
    low, high = KEYS[name].metadata["low"], KEYS[name].metadata["high"]
    table, _, key = name.rpartition(".")
    step = 1 if KEYS[name].type is int else (high - low) * 1e-9
    for value in (low - step, high + step, -(10**15), high * 10 + 1):
        written = f"{value:.17g}"
        for refusal in (
            refused(tmp_path, f"[{table}]\n{key} = {value!r}" if table else f"{key} = {value!r}"),
            refused(tmp_path, "", {"HYBRID_ENGINE__" + name.upper().replace(".", "__"): written}),
            refused(tmp_path, "", None, **{name.replace(".", "__"): written}),
        ):
            assert "must be a " in refusal
            assert f" from {low:.15g} to {high:.15g}" in refusal
    for value in (low, high):
        assert loaded(tmp_path, "", None, **{name.replace(".", "__"): f"{value!r}"}).values[name] == value


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"mode = '\xff'")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(path, {}, {})


@pytest.mark.parametrize("mode", ["shadow", "Shadow", "SHADOW", "paper", "PAPER"])
def test_modes_are_case_insensitive(tmp_path: Path, mode: str) -> None:
    assert loaded(tmp_path, f"mode = '{mode}'").settings.mode == mode.upper()


@pytest.mark.parametrize("mode", ["synthetic", "Synthetic"])
def test_ingest_modes_are_case_insensitive(tmp_path: Path, mode: str) -> None:
    assert loaded(tmp_path, f"[engine]\ningest_mode = '{mode}'").settings.engine.ingest_mode == "SYNTHETIC"
    url = "[engine]\nws_url = 'ws://h'\ningest_mode = "
    assert loaded(tmp_path, f"{url}'mockws'").settings.engine.ingest_mode == "MOCK_WS"


def test_config_of_first_system_loads(tmp_path: Path) -> None:
    text = """
        [app]
        symbol = "SOL/USDC"
        db_path = "data/bot.db"
        [engine]
        tick_interval_ms = 500
        start_price = 100.0
        price_step = 0.05
        volume = 1.0
        sample_every = 1
        [dashboard]
        host = "127.0.0.1"
        port = 8501
        refresh_seconds = 1
    """
    settings = loaded(tmp_path, text).settings
    assert (settings.app.symbol, settings.engine.start_price, settings.dashboard.refresh_seconds) == (
        "SOL/USDC",
        100.0,
        1,
    )


@pytest.mark.holds("G0")
def test_nothing_but_its_key_changes_the_mode(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.mode == "SHADOW"
    assert loaded(tmp_path, "[engine]\nseed = 2").settings.mode == "SHADOW"
    assert loaded(tmp_path, "live_armed = true\nproof_bundle = '/tmp'").settings.mode == "SHADOW"
    assert loaded(tmp_path, "", {"HYBRID_ENGINE__ENGINE__SEED": "3"}).settings.mode == "SHADOW"
    assert loaded(tmp_path, "", {}, engine__seed="4").settings.mode == "SHADOW"
    assert loaded(tmp_path, "", {}, mode="PAPER").settings.mode == "PAPER"


@pytest.mark.holds("G1")
def test_digest_excludes_arming_keys(tmp_path: Path) -> None:
    assert {"mode", "live_armed", "proof_bundle", "proof_max_age_h"} == NOT_IN_DIGEST
    plain = loaded(tmp_path).digest
    assert (
        plain == loaded(tmp_path, "[engine]\nsample_every = 1\n").digest
    )  # written or default, the digest is the same
    assert plain == loaded(tmp_path, "mode = 'PAPER'\nlive_armed = true").digest
    others = ["[engine]\nsample_every = 2", "[app]\nsymbol = 'X'", "[risk_caps]\nmax_open_orders = 9"]
    digests = {plain, *(loaded(tmp_path, text).digest for text in others)}
    assert len(digests) == 4
    assert loaded(tmp_path, engine__sample_every="2").digest in digests - {plain}


def test_digest_covers_sources(tmp_path: Path) -> None:
    sources = tmp_path / "ws_sources.toml"
    digests = set()
    for priority in (1, 2):
        sources.write_text(f"[[source]]\nname='a'\nurl='ws://h/ws/a@trade'\nkind='binance'\npriority={priority}\n")
        digests.add(loaded(tmp_path, "[engine]\ningest_mode = 'REAL_WS'").digest)
    assert len(digests) == 2
