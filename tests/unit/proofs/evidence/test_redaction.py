"""What a credential looks like, wherever it stands; and what looks like one and is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proofs.evidence.redaction import Redactor
from proofs.host import deployed

S = "hunter2hunter2"
LEFT_OUT = [
    f"Environment=DB_PASS={S}",
    f"Environment=KRAKEN_KEY={S}",
    f'Environment="API_KEY={S} more {S}"',
    f"Environment='X_TOKEN={S} {S}'",
    f'Environment="X_TOKEN=a\\"{S}"',
    f"Environment=A=1 B_TOKEN={S} C=2",
    f"Environment=X_TOKEN=ab,{S}",
    f"Environment=X_TOKEN=ab;{S}",
    f"Environment=X_TOKEN=ab}}{S}",
    f"Environment=X_TOKEN={S[:3]}\\\n{S}",
    f"Environment=X_TOKEN=0123 {S}",
    f"Environment=WHATEVER_IT_IS_CALLED={S}",
    f"KEY={S}",
    f"export JWT={S}",
    f"PASS={S} HMAC={S} SEED={S} MNEMONIC={S}",
    f"login --password {S}",
    f"ExecStart=/x --api-key {S}",
    f"ExecStart=/x --api-secret={S}",
    f"curl -u user:{S} x",
    f'curl -H "Authorization: Token {S}"',
    f"Authorization: {S}",
    f"Cookie: session={S}; csrftoken={S}",
    f"https://hooks.slack.com/services/T0/B0/{S}",
    f"wss://x/ws?api_key={S}&x=1",
    f"token_s={S}",
    f"secret_file={S}",
    f'{{"fields":"{{\\"password\\":\\"{S}\\"}}"}}',
]
STAYS = [
    "LoadCredential=key:/etc/credstore/key",
    "KeyringMode=private",
    "tls_key=/a/b.pem",
    "token_file=/run/secrets/token",
    "secret_s=12.5",
    "Environment=HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5 LANG=C.UTF-8",
    '{"seed": 123456, "key": "engine.sample_every", "keys": ["a"]}',
    "BYPASS=1 of COMPASS=north and MONKEY=7",
]


@pytest.mark.holds("EVIDENCE")
@pytest.mark.parametrize("text", LEFT_OUT)
def test_a_credential_is_left_out(text: str) -> None:
    once = Redactor({}).text(text)
    assert S not in once
    assert Redactor({}).text(once) == once


@pytest.mark.parametrize("text", STAYS)
def test_what_is_none_stays(text: str) -> None:
    assert Redactor({}).text(text) == text


@given(st.lists(st.sampled_from([*LEFT_OUT, *STAYS, " ", "\n", '"', "\\", "=", "[redacted]"]), max_size=5))
@example(["Environment=A=b C=2", "\\"])
@example(["Environment=A=b C='2'", "="])
@example(['Environment="A=b', "\\"])
def test_redaction_is_idempotent(parts: list[str]) -> None:
    once = Redactor({}).text("".join(parts))
    assert Redactor({}).text(once) == once


def test_value_under_a_secret_name_is_left_out() -> None:
    data = {"env": {"DB_PASS": S, "X_TOKEN": [S], "SECRET": {"v": S}, "password": 5, "token": None, "secret": True}}
    assert Redactor({}).data(data) == {
        "env": {
            "DB_PASS": "[redacted]",
            "X_TOKEN": "[redacted]",
            "SECRET": "[redacted]",
            "password": "[redacted]",
            "token": None,
            "secret": True,
        }
    }


@pytest.mark.parametrize(
    "argv", [["curl", "-u", f"u:{S}"], ["x", "--token", S, "y"], ["env", f"X_TOKEN={S} {S}"], ["x", f"--api-key={S}"]]
)
def test_a_command_line_shows_none(argv: list[str]) -> None:
    assert S not in " ".join(Redactor({}).argv(argv))


def test_value_of_the_unit_is_left_out_everywhere(tmp_path: Path) -> None:
    (tmp_path / "exchange").write_text(f"{S}-1\nuser\n")
    shown = f'Environment=LANG=C "BROKER_PASS={S} 2" HYBRID_ENGINE__APP__SYMBOL=BTC/USD\n'
    redactor = Redactor({})
    redactor.learn(deployed.credentials(shown, tmp_path))
    assert redactor.text(f"it said {S}-1 and {S} 2 of BTC/USD") == "it said [redacted] and [redacted] of BTC/USD"
