"""Removes credentials from what is recorded, because evidence is meant to be passed on.

The proofs need no credential, but an output may hold one: `systemctl cat` shows Environment=, an error repeats a
header, a config has a key. Three things are replaced: what has the name of a credential, every variable of a unit that
is not known to be harmless, and the values that the recorder has learned. They are replaced before an output is hashed
or cut, so that they reach neither an event nor a blob.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from proofs.evidence.address import MARK as MARK
from proofs.evidence.address import hide_addresses
from proofs.verdict import Json

_WORDS = (
    r"secret|token|passw(?:or)?[dt]|passphrase|credentials?|authorization|cookie|mnemonic|seed[-_]?phrase"
    r"|(?:api|access|private|secret|session|signing|encryption|auth|master|account|user|consumer|pre-?shared)[-_.]?key"
    r"(?:[-_]?id)?"
)
# A recording may hold a word of any length, so a name is looked for from where a word begins (or, in a very long one,
# from its own beginning), and neither of its ends in more than one way: the time stays linear in the text.
_END = r"(?:[-_]++[^\W_]{1,60}+){0,16}+"
_NAME = rf"(?:(?<![\w.-])[\w.-]{{0,200}}?|(?={_WORDS})(?<=[\w.-]{{200}}))(?:{_WORDS}){_END}"
_SECRET_NAME = re.compile(rf"[\w.-]*(?:{_WORDS}){_END}", re.I)
# Variables are named shorter than settings: KRAKEN_KEY, DB_PASS.
_VARIABLE = (
    r"(?<![A-Za-z0-9_])(?:[A-Z0-9]{1,40}[_-]){0,12}?"
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
_TEXT = r"(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|[^\s\"'\0]+)"  # of a shell: a word, or one in quotes
_BARE = r"(?=[^\s\"',;}\\]*\d)[^\s\"',;}\\]{6,}"  # a word that looks like a credential
_PASSWORD = r"(?=[^\s:@/\"']*\d)[^\s:@/\"']{6,}"
# A host, and no unit of systemd: what follows a password where no scheme stands before the user.
_KEY = r"(?=[^\s\"',;}\\]*\d)(?=[^\s\"',;}\\]*[A-Za-z])[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]{11,}"
_REMOTE = r"(?:\d{1,3}(?:\.\d{1,3}){3}|(?![\w.-]*\.(?:service|slice|timer|socket|mount|scope)\b)[\w-]+(?:\.[\w-]+)+)"
_BLOCK = r"(?:![\w!/-]+[ \t]+)?[|>][+-]?\d?[ \t]*(?:\n+[ \t]+[^\n]*)+"  # of YAML
_ITEMS = r"(?:\n[ \t]*-[ \t]+[^\n]*)+"
_LIST = r"\[[^\]\n]*\]"
_LONG = r"(?P<long>\"{3}|'{3}).*?(?:(?P=long)|\Z)"  # of TOML
# Names that are a credential's only if nothing precedes or follows: `sig` is, `signals` is not.
_EXACT = (
    r"signature|sign|sig|jwt|hmac|psk|listen[-_]?key|pwd|pass|sshpass|(?:j|php)?sess(?:ion)?[-_]?id|csrf|xsrf|gemini-payload"
    r"|auth[-_]?(?:sig|sign|payload)"
)
# What stands before such a name, as in OK-ACCESS-SIGN or ansible_ssh_pass.
_BEFORE = r"(?:[A-Za-z0-9]{1,30}[-_]){0,4}"
_GIVES = r"(?:=>|:=|->|[=:])"
# What a key file may be called that holds nothing secret.
_PUBLIC = r"[A-Z0-9 ]{0,20}(?:CERTIFICATE|PUBLIC KEY|SIGNATURE|CRL|PARAMETERS|SIGNED MESSAGE)"
_PEM_END = r"-{4,5} ?END [^\n-]{0,60}-{4,5}"
_OPTION = rf"[\w-]{{0,60}}?(?:{_WORDS})[\w-]{{0,60}}|(?:\w{{1,30}}-)?(?:key|auth|pin|{_EXACT})"
_SAID = "password|passphrase|secret|token"
# What a text must have in it, with its case folded, for a shape to be looked for: one of these, or nothing. To look for
# a word is hundreds of times quicker than for a shape, and hardly any output has one.
_NEEDS_WORD = (
    *("secret", "token", "passw", "passphrase", "credential", "authorization", "cookie", "mnemonic", "seed"),
    "key",
)
_NEEDS_EXACT = ("sig", "jwt", "hmac", "psk", "listen", "pwd", "pass", "sess", "csrf", "xsrf", "gemini-payload", "auth")
_NEEDS_VARIABLE = ("key", "pass", "pwd", "jwt", "hmac", "seed", "mnemonic", "private", "dsn", "auth", "webhook")
_NEEDS_SAID = ("password", "passphrase", "secret", "token")
_ALIKE = str.maketrans("\u0130\u0131\u017f\u212a", "iisk")
_SHAPES: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (
        ("begin ",),
        re.compile(rf"-{{4,5}} ?BEGIN (?!{_PUBLIC})[^\n-]{{0,60}}-{{4,5}}.*?(?:{_PEM_END}|\Z)", re.S),
        MARK,
    ),
    (("private-",), re.compile(r"\b(Private-(?:Lines|MAC|Hash):)[^\n]*(?:\n[A-Za-z0-9+/=]+$)*", re.M), rf"\1 {MARK}"),
    (
        ("ls0tls1crudjti", "b3blbnnzac1rzxkt"),
        re.compile(r"(?:LS0tLS1CRUdJTi|b3BlbnNzaC1rZXkt)[A-Za-z0-9+/=]*(?:\\?\n[ \t]*[A-Za-z0-9+/=]{16,})*"),
        MARK,
    ),
    (
        (),
        re.compile(
            r"\b(?:gh[pousr]_\w{16,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{8,}|xapp-[\w-]{10,}"
            r"|[spr]k_(?:live|test)_\w{16,}|sk-[\w-]{20,}|AIza[\w-]{30,}|(?:AKIA|ASIA)[0-9A-Z]{16}|npm_\w{30,}"
            r"|pypi-[\w-]{20,}|hf_\w{20,}|AGE-SECRET-KEY-1\w+|SG\.[\w-]{16,64}\.[\w-]{16,}"
            r"|eyJ[\w-]{6,}\.[\w-]*\.[\w-]{6,}(?:\.[\w-]*){0,2}|eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*){0,3}"
            r"|ya29\.[\w-]{20,}|whsec_\w{16,}|dop_v1_\w{20,}|gl(?:rt|dt|cbt|ptt|soat)-[\w-]{16,}|shp(?:at|ss|ca)_\w{16,}"
            r"|xprv[A-Za-z0-9]{40,}|\d{8,10}:AA[\w-]{33}|hv[sbr]\.[\w-]{20,}|SK[0-9a-f]{32})",
        ),
        MARK,
    ),
    (("$",), re.compile(r"\$(?:1|2[abxy]|5|6|7|y|argon2id?)\$[\w./$=,+-]{20,}"), MARK),
    (
        ("setcredential",),
        re.compile(r"(\bSetCredential(?:Encrypted)?=[^:\s]{1,255}:)(?:[^\\\n]|\\.)*", re.S),
        rf"\1{MARK}",
    ),
    (("authorization",), re.compile(r"(\bAuthorization:[ \t]*(?:Digest|OAuth|Hawk)\b)[^\n]*", re.I), rf"\1 {MARK}"),
    (
        ("authorization", "cookie"),
        re.compile(r"(\b(?:Authorization|(?:Set-)?Cookie)\\*[\"']?\s*[:=]\s*\\*[\"']?)[^\n\"'\\]+", re.I),
        rf"\1{MARK}",
    ),
    (("bearer", "basic"), re.compile(r"(\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}"), rf"\1{MARK}"),
    (("bearer",), re.compile(rf"(\bbearer[ \t]+){_BARE}", re.I), rf"\1{MARK}"),
    (("$ansible_vault",), re.compile(r"\$ANSIBLE_VAULT;[^\n]*(?:\\?\n[ \t]*[0-9a-f]{16,})+"), MARK),
    (
        ("ibadan", "ibaakc"),
        re.compile(r"\bMI[A-Za-z0-9+/]{3,6}IB(?:ADAN|AAKC)[A-Za-z0-9+/=]*(?:\\?\n[ \t]*[A-Za-z0-9+/=]{16,})*"),
        MARK,
    ),
    (("%2f",), re.compile(r"((?:%3A|:)(?:%2F){2})[^\s\"'&]*(?:%40|%3F)[^\s\"'&]*", re.I), rf"\1{MARK}"),
    (("@",), re.compile(rf"(?<![\w/@.:%\]-])[\w.%+-]{{1,60}}:{_PASSWORD}@(?={_REMOTE})"), f"{MARK}@"),
    (("--",), re.compile(rf"((?<![\w-])--(?:{_OPTION})(?:[ \t\0]+|=))(?!--){_TEXT}", re.I), rf"\1{MARK}"),
    (("-u",), re.compile(r"((?<!\S)(?:-u[ \t]*|--(?:proxy-)?user[ \t=]+)[^\s:\"']{1,200}:)[^\s\"']+"), rf"\1{MARK}"),
    (("-p",), re.compile(rf"((?<!\S)-p[ \t]*)(?:{_BARE}(?<!/)|'[^'\n]*'|\"[^\"\n]*\")(?![^\s])"), rf"\1{MARK}"),
    (
        ("redis-cli", "ldap"),
        re.compile(r"(\b(?:redis-cli\b[^\n]{0,200}?\s-a|ldap\w{1,20}\b[^\n]{0,200}?\s-w)[ \t]*)[^\s\"']+", re.I),
        rf"\1{MARK}",
    ),
    (("x-auth:",), re.compile(r"(\bX-Auth:[ \t]*)[^\n\"']+", re.I), rf"\1{MARK}"),
    (
        ("args",),
        re.compile(rf"(\"op\"\s*:\s*\"(?:auth|login)\"\s*,\s*\"args\"\s*:\s*\[)(?!{_NOT_YET})[^{{}}\]\n]+", re.I),
        rf"\1{MARK}",
    ),
    (("-key:",), re.compile(rf"(\b[A-Z][A-Z0-9]{{1,20}}-KEY:[ \t]*){_KEY}"), rf"\1{MARK}"),
    (("password",), re.compile(r"(\blogin\s+\S{1,200}\s+(?:account\s+\S{1,200}\s+)?password\s+)\S+"), rf"\1{MARK}"),
    (("password",), re.compile(r"(\bpassword\s+)\S+(?=\s+login\b)"), rf"\1{MARK}"),
    (_NEEDS_SAID, re.compile(rf"(\b(?:{_SAID})[ \t]+(?:is|was)[ \t]+)[^\s\"']+", re.I), rf"\1{MARK}"),
    (
        (*_NEEDS_SAID, "identified by"),
        re.compile(rf"(\b(?:{_SAID}|IDENTIFIED BY)[ \t]+([\"']))[^\"'\n]+(?=\2)", re.I),
        rf"\1{MARK}",
    ),
    (("pass:",), re.compile(r"(\bpass:)(?=[^\s\"']*[A-Za-z])[^\s\"']{6,}"), rf"\1{MARK}"),
    ((":",), re.compile(r"(^[^:\s#]{1,255}:(?:\d{1,5}|\*):[^:\s]{1,63}:[^:\s]{1,63}:)[^:\s]{4,}$", re.M), rf"\1{MARK}"),
    (
        _NEEDS_WORD,
        re.compile(
            rf"({_NAME}s?\\*[\"']?[ \t]*[:=][ \t]*)(?!{_NOT_YET})(?:{_BLOCK}|{_LIST}|{_LONG}|{_ITEMS})", re.I | re.S
        ),
        rf"\1{MARK}",
    ),
    (
        _NEEDS_EXACT,
        re.compile(rf"((?<=[\"']){_BEFORE}(?:{_EXACT})(\\*[\"'])\s*[:=,]\s*\2)(?:\\.|(?!\2)[^\\\n])+(?=\2)", re.I),
        rf"\1{MARK}",
    ),
    (
        _NEEDS_EXACT,
        re.compile(rf"((?<![\w.-]){_BEFORE}(?:{_EXACT})[ \t]*[:=][ \t]*[\"']?)(?!{_NOT_YET}|/){_BARE}", re.I),
        rf"\1{MARK}",
    ),
    # `key` and `auth` alone name much else: what they hold has to look like a key.
    (
        ("key", "auth"),
        re.compile(r"((?<![\w.-])(?:key|auth)\\*[\"']?\s*[:=]\s*\\*[\"']?)" + _KEY, re.I),
        rf"\1{MARK}",
    ),
    (
        _NEEDS_WORD + _NEEDS_EXACT,
        re.compile(rf"([\"'](?:{_NAME}|{_EXACT})[\"'],\s*[\"'])(?!{_NOT_YET}){_BARE}(?=[\"'])", re.I),
        rf"\1{MARK}",
    ),
    (
        ("--",),
        re.compile(rf"([\"']--(?:{_OPTION})[\"'],\s*[\"'])(?!--|{_NOT_YET})[^\"'\n]+(?=[\"'])", re.I),
        rf"\1{MARK}",
    ),
    (
        _NEEDS_WORD,
        re.compile(rf"(<(?:{_WORDS})\w{{0,30}}(?:\s[^<>\n]{{0,200}})?>)(?!{_NOT_YET})[^<\n]+(?=</)", re.I),
        rf"\1{MARK}",
    ),
    (_NEEDS_WORD, re.compile(rf"(<(?:{_WORDS})\w{{0,30}}\s+value=[\"'])(?!{_NOT_YET})[^\"'\n]+", re.I), rf"\1{MARK}"),
    (
        ("key", "token"),
        re.compile(r"(\b(?:api|access|secret|private|signing)[ \t](?:key|token)[ \t]*[:=][ \t]*[\"']?)" + _BARE, re.I),
        rf"\1{MARK}",
    ),
    (
        _NEEDS_SAID,
        re.compile(rf"(\b\w{{0,20}}(?:Secret|Password|Token)(?:Str)?\((?:value=)?[\"'])(?!{_NOT_YET})[^\"'\n]+"),
        rf"\1{MARK}",
    ),
    (
        ("mnemonic", "seed"),
        re.compile(
            r"(\b(?:mnemonic|seed[-_ ]?phrase)\\*[\"']?\s*[:=]\s*\\*[\"']?)(?:[a-z]{3,8}[ ,]+){5,}[a-z]{3,8}", re.I
        ),
        rf"\1{MARK}",
    ),
)
# NAME=value, name = "value", "name": "value" (also inside a JSON string), and "NAME=value with spaces".
_QUOTED = (
    r"(?P<quote>[\"'])(?:\\.|(?!(?P=quote))[^\\\n])*(?P=quote)"
    r"|(?P<escaped>\\+[\"'])(?:(?!(?P=escaped))[^\n])*(?P=escaped)"
)
_ASSIGNED: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (
        _NEEDS_WORD + _NEEDS_VARIABLE,
        re.compile(rf"(?P<before>(?P<quote>[\"'])(?P<name>{_NAME}|{_VARIABLE})=)(?:\\.|(?!(?P=quote))[^\\\n])*", re.I),
    ),
    (_NEEDS_VARIABLE, re.compile(rf"(?P<before>(?P<name>{_VARIABLE})=)(?:{_QUOTED}|{_VALUE})")),
    (
        _NEEDS_WORD,
        re.compile(
            rf"(?P<before>(?P<name>{_NAME})=)(?!>|{_NOT_YET}|(?:Bearer|Basic) )(?:b?(?:{_QUOTED})|{_VALUE})", re.I
        ),
    ),
    (
        _NEEDS_WORD,
        re.compile(
            rf"(?P<before>(?P<name>{_NAME})\\*[\"']?\s*{_GIVES}\s*)"
            rf"(?!{_NOT_YET}|[\"']?(?:Bearer|Basic) )(?:b?(?:{_QUOTED})|[\"']?[^\s\"',;}}\\]+)",
            re.I,
        ),
    ),
)
_ROUNDS = 4
_SHORT, _MOST_KEPT = 100, 10_000  # characters of a text that is kept with its replacement; such texts
_SHORTEST = 6  # a shorter value occurs in texts by chance, and replacing it would make them unreadable


class Redactor:
    """Replaces credentials in texts. environment: variables whose secret values are replaced wherever they occur."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._known: list[str] = []
        self._replaced: dict[str, str] = {}  # short texts that occur over and over, such as keys of JSON
        self.learn(value for name, value in environment.items() if is_secret(name))

    def learn(self, values: Iterable[str]) -> None:
        """Replace these values too, wherever they occur."""
        known = {*self._known, *(value for value in values if len(value) >= _SHORTEST)}
        self._known = sorted(known, key=len, reverse=True)
        self._replaced.clear()

    def text(self, text: str) -> str:
        """The text without credentials. What replaces one may join two texts, so it is repeated."""
        if (known := self._replaced.get(text)) is not None:
            return known
        replaced = text
        for _ in range(_ROUNDS):
            replaced, before = self._replace(replaced), replaced
            if replaced == before:
                break
        if len(text) <= _SHORT and len(self._replaced) < _MOST_KEPT:
            self._replaced[text] = replaced
        return replaced

    def _replace(self, text: str) -> str:
        for value in self._known:
            text = text.replace(value, MARK)
        text = hide_addresses(_ENVIRONMENT.sub(_unit_variables, text))
        folded = _fold(text)
        for needs, shape, instead in _SHAPES:
            if not needs or any(word in folded for word in needs):
                text = shape.sub(instead, text)
        for needs, assigned in _ASSIGNED:
            if any(word in folded for word in needs):
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


def _fold(text: str) -> str:
    """The text in lower case; a letter that re.IGNORECASE takes for an ASCII one becomes that."""
    return (text if text.isascii() else text.translate(_ALIKE)).lower()


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
