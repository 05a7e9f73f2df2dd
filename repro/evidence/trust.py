"""Who may sign: the machine's own key, and the keys that its user chose to trust. Nothing in a run is ever trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from repro.errors import ExecutionError, UsageError
from repro.evidence import keys
from repro.evidence.keys import PublicKeys
from repro.evidence.store import Store

_PRIME: Final = 2**255 - 19
_ORDER_EIGHT: Final = int.from_bytes(
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
)
_LOW_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_EIGHT, _PRIME - _ORDER_EIGHT})
"""The y coordinates of the eight points of low order on edwards25519, which have 14 encodings (C2SP/CCTV, ed25519):
signs, and numbers not reduced. Under such a key one fixed signature verifies nearly any message."""

_MAX_BYTES: Final = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def trusted_keys(store: Store, extra: Iterable[Path] = ()) -> PublicKeys:
    """Return the trusted public keys by keyid: the machine's own, those in `keys/trusted/*.pub`, and those named now.

    Raises:
        UsageError: A file holds no usable Ed25519 public key, or is not there.
        ExecutionError: A file cannot be read.
    """
    found = [read_public(path) for path in (*_files(store), *extra)]
    return {keys.fingerprint(public): public for public in found}


def trusted_files(store: Store) -> dict[Path, str]:
    """Return the files of trusted public keys in the store, each with its keyid; the machine's own comes first.

    Raises:
        UsageError: A file holds no usable Ed25519 public key.
        ExecutionError: A file cannot be read.
    """
    return {path: keys.fingerprint(read_public(path)) for path in _files(store)}


def add(store: Store, file: Path, name: str) -> tuple[str, Path]:
    """Trust a public key from now on; return its keyid and where it lies.

    Raises:
        UsageError: The file holds no usable Ed25519 public key, the name is no file name, or another key has it.
        ExecutionError: The store cannot be written to.
    """
    public = read_public(file)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a key", hint="use letters, digits, dots, dashes and underscores")
    target = store.keys / "trusted" / f"{name}.pub"
    if target.exists() and keys.fingerprint(read_public(target)) != keys.fingerprint(public):
        raise UsageError(
            f"another key is trusted as {name!r} already", hint=f"choose another --name, or remove {target}"
        )
    keys.write_public(target, public)
    return keys.fingerprint(public), target


def _files(store: Store) -> list[Path]:
    own = keys.public_path(store)
    return [*([own] if own.exists() else []), *sorted((store.keys / "trusted").glob("*.pub"))]


def read_public(path: Path) -> Ed25519PublicKey:
    """Read one public key, PEM with a SubjectPublicKeyInfo.

    Raises:
        UsageError: There is no such file, it is no Ed25519 public key, or it is one of the 14 that any signature fits.
        ExecutionError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        raise UsageError(f"there is no public key {path}") from None
    except OSError as error:
        raise ExecutionError(f"cannot read the public key {path}: {error.strerror}") from error
    try:
        public = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if not isinstance(public, Ed25519PublicKey):
        raise UsageError(f"{path} holds no Ed25519 public key", hint="expected is a PEM file as `repro keys` prints it")
    if is_low_order(public):
        raise UsageError(f"{path} holds a weak key of low order: it would accept signatures that nobody made")
    return public


def is_low_order(public: Ed25519PublicKey) -> bool:
    """Say whether a public key is a point of low order, in any of its encodings."""
    raw = int.from_bytes(public.public_bytes(Encoding.Raw, PublicFormat.Raw), "little")
    return (raw & (2**255 - 1)) % _PRIME in _LOW_ORDER
