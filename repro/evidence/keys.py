"""The machine's signing key: Ed25519, made at the first record, readable by its owner alone.

A key is named by its keyid: `sha256:` and the SHA-256 of its public half as a DER-encoded SubjectPublicKeyInfo, which
`openssl pkey -pubin -in signing.pub -outform DER | sha256sum` prints too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from repro.errors import ExecutionError, UsageError
from repro.evidence import canonical

if TYPE_CHECKING:
    from repro.evidence.store import Store


_NO_HARD_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_CLAIM_TRIES: Final = 200
_CLAIM_PAUSE_SECONDS: Final = 0.01

PublicKeys: TypeAlias = Mapping[str, Ed25519PublicKey]
"""Public keys by keyid."""


class SigningKey:
    """A private key that signs and never shows itself: its text is its keyid."""

    __slots__ = ("_private", "keyid", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key()
        self.keyid = fingerprint(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.keyid})"


def fingerprint(public: Ed25519PublicKey) -> str:
    """Return a key's keyid."""
    return canonical.digest(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def public_path(store: Store) -> Path:
    """Return where the public half of the machine's key lies, as PEM."""
    return store.keys / "signing.pub"


def machine_key(store: Store) -> tuple[SigningKey, bool]:
    """Return this machine's key and whether it was made just now. Two first records at once make one key.

    Raises:
        UsageError: Others can read the key, it is a symbolic link, another user owns it, or it is no Ed25519 key.
        ExecutionError: The key cannot be written.
    """
    path = store.keys / "signing.pem"
    try:
        _private_directory(store.keys)
        created = not path.is_symlink() and not path.exists() and _create(path)
        key = _load(path)
        _publish(public_path(store), key)
    except OSError as error:
        raise ExecutionError(f"cannot read or write the signing key {path}: {error.strerror}") from error
    return key, created


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise UsageError(f"the key directory {directory} belongs to another user", hint="set REPRO_HOME to your own")
    if status.st_mode & 0o022:
        raise UsageError(f"others can write to the key directory {directory}", hint=f"run: chmod 700 {directory}")


def _create(path: Path) -> bool:
    private = Ed25519PrivateKey.generate()
    return _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def write_public(path: Path, public: Ed25519PublicKey) -> None:
    """Write a public key as PEM, unless the file is there already.

    Raises:
        ExecutionError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(path, _pem(public), 0o644)
    except OSError as error:
        raise ExecutionError(f"cannot write the public key {path}: {error.strerror}") from error


def _publish(path: Path, key: SigningKey) -> None:
    """Keep the public half beside the private one; a file left by an earlier key is replaced."""
    if path.exists() and path.read_bytes() != _pem(key.public):
        path.unlink()
    if not path.exists():
        _write_new(path, _pem(key.public), 0o644)


def _pem(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _write_new(path: Path, data: bytes, mode: int) -> bool:
    """Write a file that must not exist yet, whole or not at all; return whether it was we who wrote it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _give_name(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _give_name(temporary: Path, path: Path) -> None:
    """Give a file its name unless that is taken: of two writers, one wins.

    Raises:
        FileExistsError: The name is taken.
    """
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return
    claim = path.with_name(f".{path.name}.claim")  # such file systems still make a directory once
    for _ in range(_CLAIM_TRIES):  # a claim that is older than that was left by a writer that was killed
        with contextlib.suppress(FileExistsError):
            claim.mkdir()
            break
        time.sleep(_CLAIM_PAUSE_SECONDS)
    try:
        if path.exists():
            raise FileExistsError(path)
        temporary.rename(path)
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _load(path: Path) -> SigningKey:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a FIFO must not make us wait
    except OSError:
        if path.is_symlink():
            raise UsageError(f"the signing key {path} is a symbolic link", hint="put the key itself there") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        _refuse_exposed(path, os.fstat(file.fileno()))
        data = file.read()
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{path} holds no unencrypted Ed25519 key", hint="move it away, and a new key is made")
    return SigningKey(private)


def _refuse_exposed(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"the signing key {path} is not a plain file", hint="move it away, and a new key is made")
    if status.st_uid != os.geteuid():
        raise UsageError(f"the signing key {path} belongs to another user", hint="set REPRO_HOME to your own directory")
    if status.st_mode & 0o077:
        raise UsageError(f"others can read the signing key {path}", hint=f"run: chmod 600 {path}")
