"""No secret goes into the evidence: it is meant to be handed around.

The proofs need no credential, but what they record may hold one: `systemctl cat` shows Environment=, an error repeats a
header, a config has a key. What looks like a credential by its name, or is the value of one in this process's own
environment, is replaced before it is hashed or cut, so it reaches neither an event nor a blob.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

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
# Names that sound like it and hold paths, switches and figures: systemd's own settings among them.
_HARMLESS = re.compile(
    r"(?:Load|Import|Set)Credential(?:Encrypted)?|.*(?:_file|_path|_digest|_sha256|_count|_ms|_s)", re.I
)
_NOT_YET = re.escape(MARK)
_SHAPES = (
    (re.compile(r"(\bSetCredential(?:Encrypted)?=[^:\s]{1,255}:)(?:[^\\\n]|\\.)*", re.S), rf"\1{MARK}"),
    (re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"), rf"\1{MARK}"),
    (re.compile(r"((?<![\w+.-])[a-z][\w+.-]{0,60}://[^\s/:@]*:)[^\s/@]+(?=@)", re.I), rf"\1{MARK}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), MARK),
)
# NAME=value, name = "value", "name": "value" (also inside a JSON string), and "NAME=value with spaces".
_ASSIGNED = (
    re.compile(rf"(?P<before>[\"'](?P<name>{_NAME})=)(?:(?![\"'\n]).)*", re.I),
    re.compile(
        rf"(?P<before>(?P<name>{_NAME})\\*[\"']?\s*[=:]\s*)"
        rf"(?!{_NOT_YET}|(?:Bearer|Basic) )(?:(?P<quote>\\*[\"'])(?:(?!(?P=quote))[^\n])*(?P=quote)|[^\s\"',;}}\\]+)",
        re.I,
    ),
)
_SHORTEST = 6  # a value shorter than this says nothing by being there, and would tear holes into every text


class Redactor:
    """Knows this process's own credentials, and what a credential looks like."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        known = {value for name, value in environment.items() if is_secret(name) and len(value) >= _SHORTEST}
        self._known = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        for value in self._known:
            text = text.replace(value, MARK)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        for assigned in _ASSIGNED:
            text = assigned.sub(_masked, text)
        return text

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command's words: also the one that follows `--password`."""
        words = [self.text(word) for word in argv]
        for number, word in enumerate(argv[:-1]):
            if word.startswith("--") and is_secret(word[2:]):
                words[number + 1] = MARK
        return words

    def data(self, data: Json) -> Json:
        """The same for what json.loads gives, also by the names of its keys."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, list | tuple):
            return [self.data(item) for item in data]
        if isinstance(data, dict):
            return {
                self.text(str(key)): MARK if isinstance(value, str) and is_secret(str(key)) else self.data(value)
                for key, value in data.items()
            }
        return data


def _masked(match: re.Match[str]) -> str:
    return match[0] if _HARMLESS.fullmatch(match["name"]) else match["before"] + MARK


def is_secret(name: str) -> bool:
    """A variable, key or setting of that name holds a credential.

    >>> [is_secret(name) for name in ("KRAKEN_API_KEY", "db.password", "tls_key", "LoadCredential", "token_file")]
    [True, True, False, False, False]
    """
    return bool(_SECRET_NAME.fullmatch(name)) and not _HARMLESS.fullmatch(name)
