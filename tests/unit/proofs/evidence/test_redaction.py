"""What a credential looks like, wherever it stands; and what looks like one and is none."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proofs.errors import ProofError
from proofs.evidence import redaction
from proofs.evidence.redaction import Redactor
from proofs.host import deployed

S = "hunter2hunter2"
LEFT_OUT = [
    f"password {S} login bob",
    f"LS0tLS1CRUdJTiBQ{S}",
    f"$ANSIBLE_VAULT;1.1;AES256;{S}\n31323334353637383930",
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
# The same in the forms of other programs: each is of a kind that was once recorded whole.
LEFT_OUT += [
    f"wss://me:{S}@h.example/ws",
    f"wss://me:a@{S}@h.example/ws",
    f"wss://me:a/{S}@h.example/ws",
    f"wss://{S}@h.example/ws",
    f"wss://h.example/ws?token={S}",
    f"wss://h.example/ws?a=1&sig={S}",
    f"wss://h.example/ws?listenKey={S}",
    f"wss://h.example/ws?jwt={S}",
    f"wss://h.example/ws?user={S}",
    f"wss://h.example/ws/{S}",
    f"https://h.example/hook/{S}",
    f"HTTPS_PROXY=http://u:{S}@proxy:3128",
    f"postgres://u:{S}@h/db",
    f"redis://:{S}@h:6379/0",
    f"amqp://u:{S}@h//",
    f"mysql+pymysql://u:{S}@h/db",
    f"mongodb+srv://u:{S}@h.example/db?w=1",
    f"host=h user=u password={S} dbname=d",
    f"Server=h;Uid=u;Pwd={S};",
    f"-----BEGIN RSA PRIVATE KEY-----\n{S}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}\n",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{S}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"-----BEGIN PGP MESSAGE-----\n{S}",
    f"-----BEGIN ENCRYPTED PRIVATE KEY-----\\n{S}\\n-----END ENCRYPTED PRIVATE KEY-----",
    f"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n{S}\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
    f"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{S}\nPrivate-MAC: {S}",
    f"AGE-SECRET-KEY-1{S.upper()}{S}",
    f"password: {S}",
    f"password:  '{S} {S}'",
    f"  api_key: {S}",
    f"api-secret : {S}",
    f"password: |\n  {S}\n  {S}\nnext: 1",
    f"secret: >-\n  {S}",
    f"pass: {S}",
    f"passwd={S}",
    f"pwd: {S}",
    f'"pwd": "{S}"',
    f'{{"api_key": "{S}"}}',
    f'{{"apiKey":"{S}"}}',
    f'{{"secretKey" : "{S}"}}',
    f'{{"apiSecret":"{S}"}}',
    f'{{"signature":"{S}"}}',
    f'{{"listenKey":"{S}"}}',
    f'{{"sig":"{S}","jwt":"{S}"}}',
    f'{{"auth":{{"user":"u","pass":"{S}"}}}}',
    f'{{"token":["{S}","{S}"]}}',
    f'{{"a":"{{\\"b\\":\\"{{\\\\\\"token\\\\\\":\\\\\\"{S}\\\\\\"}}\\"}}"}}',
    f'{{"password":"a\\"{S}"}}',
    f"{{'password': '{S}'}}",
    f'password = """{S}"""',
    f"x --key {S}",
    f"x --key={S}",
    f"x --pass {S}",
    f"x --token '{S} {S}'",
    f'x --secret "{S} {S}"',
    f"x --password -{S}",
    f"mysql -p {S}",
    f"mysql -p{S}",
    f"sshpass -p '{S}' ssh h",
    f"curl -u u:{S} x",
    f"curl -uu:{S} x",
    f"curl --user u:{S} x",
    f"curl --user=u:{S} x",
    f"curl --proxy-user u:{S} x",
    f"curl -H 'X-MBX-APIKEY: {S}'",
    f"X-MBX-APIKEY: {S}",
    f"CB-ACCESS-KEY: {S}",
    f"CB-ACCESS-SIGN: {S}",
    f"CB-ACCESS-PASSPHRASE: {S}",
    f"API-Key: {S}",
    f"API-Sign: {S}",
    f"X-GEMINI-APIKEY: {S}",
    f"X-GEMINI-PAYLOAD: {S}",
    f"X-GEMINI-SIGNATURE: {S}",
    f"{{'X-MBX-APIKEY': '{S}', 'API-Sign': '{S}'}}",
    f'("cb-access-sign", "{S}")',
    f"authorization: Bearer {S}",
    f"Authorization: Basic {S}==",
    f"Authorization: HMAC key=1, signature={S}",
    f'"Authorization": "Bearer {S}"',
    f"Proxy-Authorization: Basic {S}",
    f"Set-Cookie: sid={S}; Path=/",
    f"X-Auth-Token: {S}",
    f"got Bearer {S}",
    f"aws_secret_access_key = {S}",
    f"aws_session_token={S}",
    f"ghp_{S}{S}{S}",
    f"github_pat_{S}{S}_{S}",
    f"glpat-{S}{S}",
    f"xoxb-1234-{S}",
    f"sk_live_{S}{S}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJ{S}.{S}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{S}",
    f"machine h.example login u password {S}",
    f"machine h.example\n\tlogin u\n\tpassword {S}",
    f"default login u password {S}",
    f"h.example:5432:db:u:{S}",
    f"*:*:*:u:{S}",
    f"SetCredential=key:{S}",
    f"SetCredentialEncrypted=key: \\\n  {S}",
    f"//registry.example/:_authToken={S}",
    f"otpauth://totp/x?secret={S}",
    f"password is {S}",
    f"password '{S}' was refused",
    f"IDENTIFIED BY '{S}'",
    f"export OPENSSL_PASS={S}",
    f"openssl -passin pass:{S}",
    f"u:$6$saltsalt${S}{S}{S}:19000:0:99999:7:::",
]
# Found by an audit of this table: names with something before them, other signs between name and value, other forms.
LEFT_OUT += [
    f"OK-ACCESS-SIGN: {S}",
    f"KC-API-SIGN: {S}",
    f"X-BAPI-SIGN: {S}",
    f"FTX-SIGN={S}",
    f"bfx-signature: {S}",
    f"X-Amz-Signature={S}",
    f'{{"authSig":"{S}","authPayload":"AUTH{S}","sign":"{S}"}}',
    f"JSESSIONID={S}",
    f"session_id: {S}",
    f"ansible_become_pass={S}",
    f"ansible_ssh_pass: {S}",
    f"SSHPASS={S} ssh h",
    f'{{"key":"{S}"}}',
    f"key={S}",
    f"key: {S}",
    f'["X-MBX-APIKEY", "{S}"]',
    f"('api_key', '{S}')",
    f"['--password', '{S}']",
    f'["--api-key", "{S}"]',
    f"x\0--key\0{S}\0y",
    f"got bearer {S}",
    f'Authorization: Digest username="u", response="{S}"',
    f"password => {S}",
    f"password := {S}",
    f"password -> {S}",
    f"'password' => '{S}'",
    f"token='{S}",
    f'password="{S}',
    f"API KEY: {S}",
    f"api key = {S}",
    f"secret:\n  - {S}\n  - {S}",
    f"passwords: [{S}, {S}]",
    f"password: >\n\n  {S}",
    f"token: !vault |\n  {S}",
    f"<password>{S}</password>",
    f'<apiKey value="{S}"/>',
    f"SecretStr('{S}')",
    f'"mnemonic": "{S}"',
    f'{{"seedPhrase":"{S}"}}',
    f"connect tcp u:{S}@10.0.0.1:443",
    f"u:{S}@h.example:9443/ws",
    f"wss%3A%2F%2Fu%3A{S}%40h.example%2Fws",
    f"wss%3A%2F%2Fh.example%2Fws%3Ftoken%3D{S}",
    f'wss://u:pa"{S}@h.example/ws',
    f"wss://u:pa'{S}@h.example/ws",
    f"wss://u:pa<{S}>@h.example/ws",
    f"ya29.{S}{S}",
    f"whsec_{S}{S}",
    f"dop_v1_{S}{S}",
    f"glrt-{S}{S}",
    f"shpat_{S}{S}",
    f"xprv{S}{S}{S}",
    f"123456789:AA{S}{S}abcde",
    f"eyJhbGciOiJkaXIifQ..{S}.{S}.{S}",
    f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC{S}",
]
# Of other programs, and of exchanges that log in over the WebSocket.
LEFT_OUT += [
    f"FTX-KEY: {S}",
    f"AccessKeyId={S}",
    f"X-Auth: BITSTAMP {S}",
    f"redis-cli -h h.example -a {S} ping",
    f"ldapsearch -x -D cn=me -w {S}",
    f"PresharedKey = {S}",
    f'psk="{S}"',
    f"Passwort: {S}",
    f"hmac={S}",
    f"X-Hmac: {S}",
    f'"auth": "{S}"',
    f"hvs.{S}{S}",
    f"secret=b'{S}'",
    f"user_key={S}",
    f'{{"op":"auth","args":["{S}",1700000000,"{S}"]}}',
    f'{{"op": "login", "args": ["{S}"]}}',
]
STAYS = [
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    '{"config_digest":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}',
    "InvocationID=4d1b3c5e6f7a8b9c0d1e2f3a4b5c6d7e",
    '{"e":"trade","t":3216549870,"p":"42000.10","q":"0.001","T":1700000000123}',
    "2026-11-30T07:07:27.123456Z",
    "wss://stream.binance.com:9443/ws/btcusdt@trade",
    "https://docs.example.org/en/latest/index.html",
    "file:///var/lib/hybrid-engine/hybrid.db?mode=ro",
    "ExecStart=/opt/hybrid-engine/current/bin/hybrid-engine run",
    "mkdir -p /var/lib/hybrid-engine",
    "journalctl -p err -u hybrid-engine.service",
    "ps -p 123",
    "the key engine.sample_every is 5",
    "keys: 3",
    "12:34:56:78",
    "127.0.0.1:9001:x",
    '"authors": "x"',
    "monkey: banana",
    "signals=5 signatures=2",
    "MemoryMax=536870912",
    "-----BEGIN CERTIFICATE-----",
    "ssh-keygen -Y verify -n hybrid",
    "drwx------ 2 hybrid-engine hybrid-engine 4096 Nov 30 07:07 .",
    "pass: 15 of 15",
    "PASS stall",
    "passed: 12",
    "LoadCredential=key:/etc/credstore/key",
    "KeyringMode=private",
    "tls_key=/a/b.pem",
    "token_file=/run/secrets/token",
    "secret_s=12.5",
    "Environment=HYBRID_ENGINE__ENGINE__SAMPLE_EVERY=5 LANG=C.UTF-8",
    '{"seed": 123456, "key": "engine.sample_every", "keys": ["a"]}',
    "BYPASS=1 of COMPASS=north and MONKEY=7",
    "Started user:hybrid-engine2@1000.service",
    "0.1.0-9f86d0818842",
    "20261130T220223Z-96a7: run soak-4d1b3c5e6f7a8b9c0d1e2f3a4b5c6d7e ended",
    '{"run": "20261130T220223Z-96a7", "release_name": "0.1.0-9f86d0818842", "symbol": "1000SHIBUSDT"}',
    "signature: statement.sig cannot be read: No such file or directory",
    "design=12345678 assign=12345678 keystroke=abc12345678901",
    "btcusdt@trade ethusdt@aggTrade",
    "bearer of news",
    "auth: none",
    "ps -a 123456",
    "authority=h.example",
    '{"op":"subscribe","args":["trade.BTCUSDT"]}',
    '["password", "token"]',
    "set <password> in the file",
    "12:34:56.789012 root@10.0.0.1:22",
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


@given(
    secret=st.from_regex(r"[a-z]{4}[0-9][A-Za-z0-9]{9,20}", fullmatch=True),
    shape=st.sampled_from(LEFT_OUT),
    after=st.sampled_from(["", " ", "\n", "\nnext=1"]),
)
def test_no_secret_passes_in_any_shape(secret: str, shape: str, after: str) -> None:
    once = Redactor({}).text("\n" + shape.replace(S, secret) + after)
    assert secret not in once
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


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_credential_that_is_no_file_ends_the_run(tmp_path: Path, kind: str) -> None:
    """It is not read, and without its value nothing could be left out."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    (tmp_path / "target").write_text(S)
    if kind == "link":
        (directory / "exchange").symlink_to(tmp_path / "target")
    else:
        os.mkfifo(directory / "exchange")
    with pytest.raises(ProofError, match=r"exchange is a .* was not opened"):
        deployed.credentials("Environment=", directory)


def test_what_is_learned_later_is_replaced_in_texts_seen_before() -> None:
    redactor = Redactor({})
    assert redactor.text("the word is plainword") == "the word is plainword"
    redactor.learn(["plainword"])
    assert "plainword" not in redactor.text("the word is plainword")


NEEDS = [*((needs, shape) for needs, shape, _ in redaction._SHAPES if needs), *redaction._ASSIGNED]


def spellings(text: str) -> tuple[str, ...]:
    """The text in other cases, and with letters that re.IGNORECASE takes for others."""
    alike = text.replace("s", "\u017f").replace("k", "\u212a").replace("i", "\u0131")
    return text, text.upper(), text.lower(), text.swapcase(), alike


@pytest.mark.parametrize("text", LEFT_OUT)
def test_text_of_a_shape_has_a_word_that_it_is_looked_for_by(text: str) -> None:
    for spelling in spellings(text):
        for needs, shape in NEEDS:
            assert not shape.search(spelling) or any(word in redaction._fold(spelling) for word in needs)


@pytest.mark.parametrize(("needs", "shape"), NEEDS, ids=[str(number) for number in range(len(NEEDS))])
def test_every_shape_that_is_looked_for_by_words_has_a_known_text(
    needs: tuple[str, ...], shape: re.Pattern[str]
) -> None:
    phrase = "mnemonic: legal winner thank year wave sausage worth"
    assert any(shape.search(text) for text in (*LEFT_OUT, phrase))
    assert not shape.search(phrase) or any(word in phrase for word in needs)
