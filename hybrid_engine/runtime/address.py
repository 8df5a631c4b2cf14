"""Shows addresses without what may be secret in them: user, password, query values, unguessable parts of the path.

One file for three programs that import nothing of each other: proofs/evidence/address.py and
plugins/module_utils/address.py are links to it. Whatever is built for a host has a copy.
"""

import re

MARK = "[redacted]"
# No lookbehind: an address may follow any word. The scheme is bounded, so the search is linear in the text.
# A password may hold what ends an address elsewhere, such as a quote.
_USER = r"[^\s/@?#,;{}()\[\]|]{1,200}@"
_IN_TEXT = re.compile(rf"[a-z][a-z0-9+.-]{{0,19}}:(?:\\*/){{2}}(?:{_USER})?[^\s\"'<>\\`]+(?:\\+/[^\s\"'<>\\`]*)*", re.I)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/{1,2}", re.I)
_HOST = re.compile(r"(?:\[[0-9a-f:.]*\]|[\w.-]*)(?::\d*)?", re.I)
# What only a host looks like: where one follows an "@" in what seems to be the path, the password had a slash in it.
_LATER_HOST = re.compile(
    r"@(?=(?:\[[0-9a-f:.]+\]|[\w-]+(?:\.[\w-]+)+|localhost|[\w-]+(?=:\d))(?::\d+)?(?:[/?#]|\Z))", re.I
)
_STREAM = re.compile(r"!?\w{1,24}(?:@\w{1,16}){1,2}")  # btcusdt@trade
_WORDS = re.compile(r"(?:[a-z]{1,12}|v?\d{1,8})(?:[-_.](?:[a-z]{1,12}|v?\d{1,8}))*", re.I)
_SECRET_FOLDER = re.compile(
    r"(?:.*[-_])?(?:token|key|listenkey|secret|auth|jwt|session|sig|signature|password)s?", re.I
)
_OBJECT_FOLDERS = frozenset({"commit", "commits", "tree", "blob", "raw", "sha256"})
_DIGEST = re.compile(r"[0-9a-f]{7,64}")
_LONGEST_GUESSABLE = 11  # characters
# Letters of both cases and digits, or both in turn: no symbol, channel or version is spelled like that.
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d).{8}|(?:.*[A-Za-z]\d){3}|(?:.*\d[A-Za-z]){3}")


def show_address(address: str) -> str:
    """An address for a log or an error: without user, password, query values and unguessable parts of the path.

    >>> show_address("wss://me:pass@stream.example.com:9443/ws/btcusdt@trade?listenKey=abc")
    'wss://[redacted]@stream.example.com:9443/ws/btcusdt@trade?listenKey=[redacted]'
    """
    match = _SCHEME.match(address)
    scheme = match[0] if match else ""
    if scheme.lower() == "file://":
        return address
    rest = address[len(scheme) :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    begin = authority.rfind("@") + 1
    is_host = _HOST.fullmatch(authority, begin)
    later = [match.end() for match in _LATER_HOST.finditer(rest, begin)]
    # Without a host there, a password has a slash, or it is no address at all.
    at = later[-1] if later else begin if is_host else rest.rfind("@") + 1
    shown = f"{scheme}{MARK}@" if at else scheme
    head, hash_sign, fragment = rest[at:].partition("#")
    path, question, query = head.partition("?")
    host, *segments = path.split("/")
    if not _HOST.fullmatch(host):
        return f"{shown}{MARK}"
    segments = [_show_segment(segment, before) for before, segment in zip(["", *segments], segments, strict=False)]
    parts = re.split(r"([&;])", query)
    parts[::2] = [_show_parameter(part) for part in parts[::2]]
    return "/".join([shown + host, *segments]) + question + "".join(parts) + hash_sign + (MARK if fragment else "")


def hide_addresses(text: str) -> str:
    """A text in which every address is as `show_address` shows it."""
    return _IN_TEXT.sub(_show_match, text) if ":" in text else text


def _show_match(match: re.Match[str]) -> str:
    plain = re.sub(r"\\+/", "/", match[0])
    address = plain.rstrip(").,;:!")  # what ends a sentence
    return show_address(address) + plain[len(address) :]


def _show_segment(segment: str, before: str) -> str:
    """A part of a path. `before`: the one before it, whose name may say that this one is secret."""
    plain, semicolon, _ = segment.partition(";")
    name, equals, _ = plain.rstrip("=").partition("=")
    if equals:
        return f"{name if _WORDS.fullmatch(name) else ''}={MARK}"
    if plain and (_SECRET_FOLDER.fullmatch(before) or not _is_guessable(plain, before)):
        plain = MARK
    return f"{plain};{MARK}" if semicolon else plain


def _is_guessable(segment: str, before: str) -> bool:
    short = len(segment) <= _LONGEST_GUESSABLE and not _MIXED.match(segment)
    if short or (before in _OBJECT_FOLDERS and _DIGEST.fullmatch(segment)):
        return True
    return bool(_STREAM.fullmatch(segment) or _WORDS.fullmatch(segment))


def _show_parameter(parameter: str) -> str:
    """A part of a query: its name, where it has one."""
    name, equals, _ = parameter.partition("=")
    if not equals:
        return MARK if parameter else ""
    return f"{name if _WORDS.fullmatch(name) else MARK}={MARK}"
