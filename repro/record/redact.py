"""Keep secrets out of the record: credentials in URLs, and options whose name says what they hold."""

from __future__ import annotations

import re
from typing import Final

REDACTED: Final = "<redacted>"

_SECRET_OPTION = re.compile(
    r"token|secret|password|passwd|passphrase|api[-_]?key|access[-_]?key|credential|private[-_]?key|(^|[-_])auth($|[-_])",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(r"TOKEN|KEY|SECRET|PASS|CRED|(^|_)AUTH($|_)", re.IGNORECASE)
_NOT_SECRET = re.compile(
    r"(^|[-_.])(max|min|num|n|new|special|pad|eos|bos|mask|unk|sep|cls)[-_]?tokens?|tokens?[-_](per|count|length|limit)|tokeni[sz]er",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(r"(?P<name>-{0,2}\+{0,2}[A-Za-z_][\w.-]*)=(?P<value>.*)", re.DOTALL)
_IN_SCRIPT = re.compile(
    r"""(?P<name>--?[A-Za-z][\w.-]*)(?P<between>\s+)(?!-)(?:"[^"]*"|'[^']*'|[^\s"']+)"""
    r"""|(?P<key>[A-Za-z_-][\w.-]*)(?P<equals>=|["']?\s*:\s*)(?:"[^"]*"|'[^']*'|[^\s"',}]+)"""
)
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s?#]*@")
_QUERY_SECRET = re.compile(
    r"(?P<name>[?&][\w.-]*(?:token|secret|password|api_?key|signature|credential)[\w.-]*=)[^&#\s]+", re.IGNORECASE
)


def is_secret_option(name: str) -> bool:
    """Say whether an option or a `NAME=value` word holds a secret, by its name."""
    bare = name.lstrip("-+")
    return _SECRET_OPTION.search(bare) is not None and _NOT_SECRET.search(bare) is None


def is_secret_variable(name: str) -> bool:
    """Say whether an environment variable holds a secret, by its name."""
    return _SECRET_VARIABLE.search(name) is not None


def url(text: str) -> str:
    """Return text whose URLs have lost their user, password and secret query parameters."""
    return _QUERY_SECRET.sub(rf"\g<name>{REDACTED}", _CREDENTIALS.sub(r"\g<scheme>", text))


def argv(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return a command line without secrets, and the positions where something was taken out."""
    clean: list[str] = []
    for position, word in enumerate(words):
        follows_secret = position > 0 and _announces(words[position - 1]) and not word.startswith("--")
        clean.append(REDACTED if follows_secret else _word(word))
    return tuple(clean), tuple(i for i, word in enumerate(words) if clean[i] != word)


def _announces(word: str) -> bool:
    """Say whether the next word is the secret: `--password x`."""
    return word.startswith("-") and "=" not in word and is_secret_option(word)


def _word(word: str) -> str:
    found = _ASSIGNMENT.fullmatch(word)
    if found and found["value"] and is_secret_option(found["name"]):
        return f"{found['name']}={REDACTED}"
    return url(_IN_SCRIPT.sub(_hide, word) if any(letter in word for letter in " \t\n{") else word)


def _hide(found: re.Match[str]) -> str:
    """Hide a value inside `bash -c "…"` or a JSON argument, if its name says that it is a secret."""
    name, between = found["name"] or found["key"], found["between"] or found["equals"]
    return f"{name}{between}{REDACTED}" if is_secret_option(name) else found[0]
