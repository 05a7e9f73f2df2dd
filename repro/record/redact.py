"""Keep secrets out of the record.

Three things give a secret away: the name of the option or variable that holds it, its place in a URL, and the shape of
the token itself. What is redacted cannot be replayed, so a name that merely looks alike (`--max-tokens`) is left alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

REDACTED: Final = "<redacted>"

_SECRET_OPTION: Final = re.compile(
    r"token|secret|password|passwd|passphrase|api[-_]?key|access[-_]?key|credential|private[-_]?key"
    r"|(encryption|signing|ssh|account|license)[-_]?key|(^|[-_.])auth($|[-_.])"
    r"|(^|[-_.])pass$|(^|[-_])pwd$",
    re.IGNORECASE,
)
_SECRET_VARIABLE: Final = re.compile(r"TOKEN|KEY|SECRET|PASS|CRED|PWD.|.PWD|(^|_)AUTH($|_)", re.IGNORECASE)
_NOT_SECRET: Final = re.compile(
    r"(^|[-_.])(max|min|num|n|new|special|pad|eos|bos|mask|unk|sep|cls|stop|image|audio|start|end|extra)[-_]?tokens?"
    r"|tokens?[-_](per|count|length|limit|id|ids|type|budget)|tokeni[sz]"
    r"|(first|second|one|two|n|num|single|multi|forward|backward|each)[-_]pass$|^-*(old)?pwd$",
    re.IGNORECASE,
)
_SWITCHES: Final = frozenset(("true", "false", "none", "null", "yes", "no", "on", "off"))
_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9._]{0,14}(e[-+]?[0-9]{1,2})?[kmbt]?", re.IGNORECASE)
_QUOTED: Final = r""""(?:[^"\\]|\\.)*+"|'[^']*+'"""
_ASSIGNMENT: Final = re.compile(r"(?P<name>-{0,2}\+{0,2}[A-Za-z_][\w.-]*+)=(?P<value>.*)", re.DOTALL)
_NAME_IN_SCRIPT: Final = re.compile(
    # The look-behind lets each word be tried once, so that a long one takes no quadratic time.
    r"""(?<![\w.-])(?:--?[A-Za-z][\w.-]*+(?P<space>\s++)(?!-)|[A-Za-z_-][\w.-]*+(?:(?P<equals>=)|["']?\s*+(?P<colon>:)\s*+))"""
)
_VALUE_IN_SCRIPT: Final = {
    "space": re.compile(rf"""(?:{_QUOTED}|[^\s"'])++|\S++""", re.DOTALL),
    "equals": re.compile(rf"""(?:{_QUOTED}|[^\s"';&|])++|["']\S++""", re.DOTALL),
    "colon": re.compile(rf"""(?:{_QUOTED}|[^\s"',}}]++)|["']\S++""", re.DOTALL),
}
_CURL_USER: Final = re.compile(r"(?P<before>\bcurl\s[^\n;|&]{0,300}?(?<=\s)(?:-u|--user|--proxy-user)[\s=]\s*)\S+")
_CREDENTIALS: Final = re.compile(r"(?<=://)(?:[^/\s:@\"'<>]+:(?!\d+[/?#\s])[^/\s\"'<>]*@|[^/\s?#\"'<>]*@)")
_QUERY_SECRET: Final = re.compile(
    r"(?P<name>[?&](?:[\w.-]*(?:token|secret|password|api_?key|signature|credential)[\w.-]*|sig|key|auth|pwd)=)[^&#\s\"']+",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # Amazon
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}"
    r"|hf_[A-Za-z0-9]{20,}|AIza[\w-]{35}|ya29\.[\w-]{20,}|pypi-AgEI[\w-]{20,}|npm_[A-Za-z0-9]{36}|dop_v1_[0-9a-f]{64}"
    r"|xox[abeoprs]-[\w-]{10,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|(?<!-)sk-(?=[\w-]*[0-9])(?=[\w-]*[A-Z])[\w-]{20,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # JSON Web Token: RFC 7519
    r")",
    re.DOTALL,
)
_AUTHORIZATION: Final = re.compile(
    r"(?P<name>authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?|(?<![\w-])(?:Bearer|BEARER)\s+(?=[\w.~+/=-]{16}))"
    r"[^\s\"',;]+",
    re.IGNORECASE,
)
_PASSWORD_OF_PROGRAM: Final = {
    "curl": re.compile(r"(?P<option>-u|--user|--proxy-user|-U)(?:=(?P<glued>.+))?"),
    "mysql": re.compile(r"(?P<option>-p)(?P<glued>.+)"),
    "mysqldump": re.compile(r"(?P<option>-p)(?P<glued>.+)"),
    "sshpass": re.compile(r"(?P<option>-p)(?P<glued>.+)?"),
}
"""Short options that hold a password, by program: their names alone say nothing."""
_SECRET_FILE: Final = re.compile(
    r"\.env(?!.*(example|sample|template|dist)$)(\..+)?|.*\.(pem|p12|pfx|jks|keystore|kdbx|ovpn|ppk)|.*\.key"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|(.*[-_.])?credentials?(\.(json|ya?ml|toml|ini|csv))?|client_secrets?.*\.json"
    r"|secrets?(\.(json|ya?ml|toml|ini|env))?|[._]netrc|\.pypirc|\.pgpass|\.my\.cnf|\.git-credentials|\.htpasswd"
    r"|\.npmrc|\.dockercfg|\.dockerconfigjson|kaggle\.json|\.boto|\.s3cfg|\.vault-token|service[-_]account.*\.json",
    re.IGNORECASE,
)


def is_secret_option(name: str) -> bool:
    """Say whether an option or a `NAME=value` word holds a secret, by its name."""
    bare = name.lstrip("-+")
    return _SECRET_OPTION.search(bare) is not None and _NOT_SECRET.search(bare) is None


def _is_secret(name: str, value: str) -> bool:
    """Say whether a value is a secret: `--use-auth-token true` and `--train-tokens 1e9` hold none."""
    if not is_secret_option(name) or value.lower() in _SWITCHES:
        return False
    return not (name.lower().endswith("tokens") and _NUMBER.fullmatch(value))


def is_secret_variable(name: str) -> bool:
    """Say whether an environment variable holds a secret, by its name."""
    return _SECRET_VARIABLE.search(name) is not None and name not in ("OLDPWD", "PWD")


def is_secret_file(path: str | bytes) -> bool:
    """Say whether a file is a store of secrets, by its base name: `.env`, `*.pem`, `id_rsa`, `.netrc` and their like.

    What git tracks is the project's own decision; this is for files that nobody asked to publish.
    """
    name = os.fsdecode(path).rpartition("/")[2]
    return _SECRET_FILE.fullmatch(name) is not None


def has_token(text: str) -> bool:
    """Say whether text holds something that has the shape of a secret: a known token, a private key."""
    return _TOKEN.search(text) is not None or _AUTHORIZATION.search(text) is not None


def url(text: str) -> str:
    """Return text whose URLs have lost their user, password and secret query parameters."""
    if "@" in text and "://" in text:
        text = _CREDENTIALS.sub("", text)
    return _QUERY_SECRET.sub(rf"\g<name>{REDACTED}", text) if "=" in text else text


def tokens(text: str) -> str:
    """Return text without what has the shape of a secret, whatever it is called: fit for source code."""
    return url(_AUTHORIZATION.sub(rf"\g<name>{REDACTED}", _TOKEN.sub(REDACTED, text)))


def text(text: str) -> str:
    """Return text without secrets: by shape, in URLs, and by the names of options and keys in it."""
    text = _CURL_USER.sub(rf"\g<before>{REDACTED}", tokens(text))
    pieces: list[str] = []
    kept_to, position = 0, 0
    while named := _NAME_IN_SCRIPT.search(text, position):
        position = named.end()
        name = named[0].strip(" \t\n\r=:\"'")
        if not is_secret_option(name):
            continue  # what follows is looked at in its turn: `--env API_KEY=x`
        value = _VALUE_IN_SCRIPT[str(named.lastgroup)].match(text, position)
        if value and _is_secret(name, value[0]):
            pieces += (text[kept_to:position], REDACTED)
            kept_to = position = value.end()
    return "".join((*pieces, text[kept_to:]))


def value(name: str, value: str) -> str:
    """Return the value of a named parameter, without secrets: nothing of it where the name says that it is one."""
    return REDACTED if value and _is_secret(name, value) else text(value)


def argv(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return a command line without secrets, and the positions where something was taken out."""
    clean: list[str] = []
    of_program: Callable[[str], re.Match[str] | None] = lambda word: None  # noqa: E731 - replaced word by word
    for position, word in enumerate(words):
        before = words[position - 1] if position else ""
        if program := _PASSWORD_OF_PROGRAM.get(word.rpartition("/")[2]):
            of_program = program.fullmatch
        option = of_program(before)
        if (_announces(before, word) and not word.startswith("--")) or (option and not option["glued"]):
            clean.append(REDACTED)
        elif (option := of_program(word)) and option["glued"]:
            clean.append(word[: option.start("glued")] + REDACTED)
        else:
            clean.append(_word(word))
    return tuple(clean), tuple(i for i, word in enumerate(words) if clean[i] != word)


def _announces(word: str, following: str) -> bool:
    """Say whether the next word is the secret: `--password x`."""
    return word.startswith("-") and "=" not in word and _is_secret(word, following)


def _word(word: str) -> str:
    """Return one word of a command line without its secret: `--env=API_KEY=x` is looked at name by name."""
    head = ""
    while (found := _ASSIGNMENT.fullmatch(word)) and found["value"]:
        head += f"{found['name']}="
        if _is_secret(found["name"], found["value"]):
            return head + REDACTED
        word = found["value"]
    return head + (text(word) if any(letter in word for letter in " \t\n{;,&") else tokens(word))
