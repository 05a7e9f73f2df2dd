"""SHA-256 and BLAKE2b by the interpreter's own implementations, found once: `hashlib` loads OpenSSL."""

from __future__ import annotations

from .. import sha256_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _blake2b() -> Any:
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    return blake2b


sha256 = sha256_type()
blake2b = _blake2b()
