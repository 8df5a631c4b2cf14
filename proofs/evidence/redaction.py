"""Removes credentials from what is recorded, because evidence is meant to be passed on.

The proofs need no credential, but an output may hold one: `systemctl cat` shows Environment=, an error repeats a
header, a config has a key. Three things are replaced: what has the name of a credential, every variable of a unit that
is not known to be harmless, and the values that the recorder has learned. They are replaced before an output is hashed
or cut, so that they reach neither an event nor a blob.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from proofs.verdict import Json

MARK = "[redacted]"
_WORDS = (
    r"secret|token|passw(?:or)?d|passphrase|credentials?|authorization|cookie"
    r"|(?:api|access|private|secret|session|signing|encryption|auth|master|account)[-_.]?key"
)
# A recording may hold a word of any length, so a name is looked for from where a word begins (or, in a very long one,
# from its own beginning), and neither of its ends in more than one way: the time stays linear in the text.
_END = r"(?:[-_]++[^\W_]{1,60}+){0,16}+"
_NAME = rf"(?:(?<![\w.-])[\w.-]{{0,200}}?|(?={_WORDS})(?<=[\w.-]{{200}}))(?:{_WORDS}){_END}"
_SECRET_NAME = re.compile(rf"[\w.-]*(?:{_WORDS}){_END}", re.I)
# Variables are named shorter than settings: KRAKEN_KEY, DB_PASS.
_VARIABLE = (
    r"(?<![A-Za-z0-9_])(?:[A-Z0-9]{1,40}_){0,12}?"
    r"(?:KEY|PASS|PWD|APIKEY|JWT|HMAC|SEED|MNEMONIC|PRIVATE|DSN|AUTH|WEBHOOK)(?:_[A-Z0-9]{1,40}){0,3}"
)
# Names that sound like it and are systemd's own, or hold paths, switches and figures: if that is what they hold.
_SYSTEMDS = re.compile(r"(?:Load|Import|Set|Pass)Credential(?:Encrypted)?", re.I)
_HARMLESS = re.compile(r".*(?:_file|_path|_digest|_sha256|_count|_ms|_s)", re.I)
_HARMLESS_VALUE = re.compile(r"[\"'\\]*(?:[\d.]+|[~.]?/\S*|[0-9a-f]{64}|true|false|null)?[\"'\\]*", re.I)
# What a unit's Environment= may show; of everything else only the name.
_SHOWN = re.compile(r"HYBRID_ENGINE__\w+|PATH|LANG|LC_\w+|TZ|HOME|USER|SHELL|PYTHON\w+|JOURNAL_STREAM|NOTIFY_SOCKET")
_ENVIRONMENT = re.compile(r"^(?P<key>[ \t]*Environment=)(?P<words>(?:\\\n|[^\n])*)", re.M)
_VALUE = r"(?:\\[\s\S]|[^\s\"'\\])+"
_SET = re.compile(
    r"(?P<before>(?P<quote>[\"'])(?P<name>[A-Za-z_]\w*)=)(?:\\.|(?!(?P=quote))[^\\\n]|\\(?!.))*"
    r"|(?P<bare>(?P<other>[A-Za-z_]\w*)=)(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|\\[\s\S]|[^\s\"'\\]|\\\Z)+"
    r"|(?![\"'])[^\s\"']+"  # a word that sets nothing is the rest of a value somebody forgot to quote
)
_VARIABLE_NAME = re.compile(_VARIABLE)
_NOT_YET = re.escape(MARK)
_SHAPES = (
    (re.compile(r"(\bSetCredential(?:Encrypted)?=[^:\s]{1,255}:)(?:[^\\\n]|\\.)*", re.S), rf"\1{MARK}"),
    (re.compile(r"(\b(?:Authorization|(?:Set-)?Cookie)\\*[\"']?\s*[:=]\s*\\*[\"']?)[^\n\"'\\]+", re.I), rf"\1{MARK}"),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"), rf"\1{MARK}"),
    (re.compile(rf"((?<![\w-])--[\w-]{{0,60}}?(?:{_WORDS})[\w-]{{0,60}}[ \t]+)[^\s\"'-][^\s\"']*", re.I), rf"\1{MARK}"),
    (re.compile(r"((?<!\S)-u[ \t]+[^\s:\"']{1,200}:)[^\s\"']+"), rf"\1{MARK}"),
    (re.compile(r"(https://hooks\.[^\s/\"']{1,200}/)[^\s\"']+"), rf"\1{MARK}"),
    (re.compile(r"((?<![\w+.-])[a-z][\w+.-]{0,60}://[^\s/:@]*:)[^\s/@]+(?=@)", re.I), rf"\1{MARK}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MARK),
)
# NAME=value, name = "value", "name": "value" (also inside a JSON string), and "NAME=value with spaces".
_QUOTED = (
    r"(?P<quote>[\"'])(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)"
    r"|(?P<escaped>\\+[\"'])(?:(?!(?P=escaped))[^\n])*(?P=escaped)"
)
_ASSIGNED = (
    re.compile(rf"(?P<before>(?P<quote>[\"'])(?P<name>{_NAME}|{_VARIABLE})=)(?:\\.|(?!(?P=quote))[^\\\n])*", re.I),
    re.compile(rf"(?P<before>(?P<name>{_VARIABLE})=)(?:{_QUOTED}|{_VALUE})"),
    re.compile(rf"(?P<before>(?P<name>{_NAME})=)(?!{_NOT_YET}|(?:Bearer|Basic) )(?:{_QUOTED}|{_VALUE})", re.I),
    re.compile(
        rf"(?P<before>(?P<name>{_NAME})\\*[\"']?\s*[=:]\s*)"
        rf"(?!{_NOT_YET}|(?:Bearer|Basic) )(?:{_QUOTED}|[^\s\"',;}}\\]+)",
        re.I,
    ),
)
_SHORTEST = 6  # a shorter value occurs in texts by chance, and replacing it would make them unreadable


class Redactor:
    """Replaces credentials in texts. environment: variables whose secret values are replaced wherever they occur."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._known: list[str] = []
        self.learn(value for name, value in environment.items() if is_secret(name))

    def learn(self, values: Iterable[str]) -> None:
        """Replace these values too, wherever they occur."""
        known = {*self._known, *(value for value in values if len(value) >= _SHORTEST)}
        self._known = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        for value in self._known:
            text = text.replace(value, MARK)
        text = _ENVIRONMENT.sub(_unit_variables, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        for assigned in _ASSIGNED:
            text = assigned.sub(_masked, text)
        return text

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The words of a command; a word that follows `--password` or `-u NAME:` is replaced as well."""
        words = [self._word(word) for word in argv]
        for number, word in enumerate(argv[:-1]):
            if word.startswith("--") and is_secret(word[2:]):
                words[number + 1] = MARK
            elif word == "-u" and ":" in argv[number + 1]:
                words[number + 1] = argv[number + 1].partition(":")[0] + ":" + MARK
        return words

    def _word(self, word: str) -> str:
        """A word is one assignment, even if its value has blanks."""
        name, equals, _ = word.partition("=")
        return f"{name}={MARK}" if equals and is_secret(name.lstrip("-")) else self.text(word)

    def data(self, data: Json) -> Json:
        """The same for JSON data; the values of keys that name a credential are replaced as well."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, list | tuple):
            return [self.data(item) for item in data]
        if isinstance(data, dict):
            plain = (bool, type(None))  # which are no credential, whatever their key is called
            secret = {key for key, value in data.items() if is_secret(str(key)) and not isinstance(value, plain)}
            return {self.text(str(key)): MARK if key in secret else self.data(value) for key, value in data.items()}
        return data


def _masked(match: re.Match[str]) -> str:
    value = match[0].removeprefix(match["before"])
    harmless = _SYSTEMDS.fullmatch(match["name"]) or (
        _HARMLESS.fullmatch(match["name"]) and _HARMLESS_VALUE.fullmatch(value)
    )
    return match[0] if harmless else match["before"] + MARK


def _unit_variables(match: re.Match[str]) -> str:
    def of(word: re.Match[str]) -> str:
        shown = _SHOWN.fullmatch(word["name"] or word["other"] or "")
        return word[0] if shown else (word["before"] or word["bare"] or "") + MARK

    return match["key"] + _SET.sub(of, match["words"])


def is_secret(name: str) -> bool:
    """A variable, key or setting of that name holds a credential.

    >>> [is_secret(name) for name in ("KRAKEN_API_KEY", "DB_PASS", "db.password", "tls_key", "LoadCredential")]
    [True, True, True, False, False]
    """
    named = _SECRET_NAME.fullmatch(name) or _VARIABLE_NAME.fullmatch(name)
    return bool(named) and not _HARMLESS.fullmatch(name) and not _SYSTEMDS.fullmatch(name)
