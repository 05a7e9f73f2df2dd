"""Commitments: what is written of an environment variable whose value must not be stored.

A commitment lets whoever knows a value see that it is the one of the run, and tells nobody else what it is. Both kinds
can be recomputed without this tool. With `salt` the bytes of the fact `environment commitment_salt` (32 bytes, drawn at
random for each run, stored in hexadecimal), `name` and `value` the bytes of the variable, and `‖` for concatenation:

- `hmac-sha256:<64 hex digits>` is HMAC-SHA256 (RFC 2104) with the key `salt` over `name ‖ 0x00 ‖ value`;
- `scrypt:<N>:<r>:<p>:<64 hex digits>` is scrypt (RFC 7914) of the password `value` under the salt
  `salt ‖ 0x00 ‖ name`, with cost N, block size r, parallelism p and 32 bytes of output.

The second is for values that look secret: each guess costs about 10 ms and `128 · N · r` bytes of memory. The first
hides only what cannot be guessed: the salt is public, so anybody may try `8` for a number of threads.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import Final

SALT_BYTES: Final = 32
_COST, _BLOCK_SIZE, _PARALLELISM = 2**13, 8, 1
_MAX_MEMORY_BYTES: Final = 64 * 1024 * 1024
_SCRYPT: Final = re.compile(r"scrypt:([0-9]{1,7}):([0-9]{1,2}):([0-9]):([0-9a-f]{64})")


def commit(salt: str, name: str, value: str, *, secret: bool) -> str:
    """Return the commitment to a variable's value.

    Args:
        salt: Of the run, in hexadecimal.
        name: Of the variable, as `os.environ` has it.
        value: As `os.environ` has it, surrogates for bytes that are not UTF-8.
        secret: Whether guessing is to be costly.

    Raises:
        ValueError: The salt is not hexadecimal.
    """
    key, called, content = bytes.fromhex(salt), os.fsencode(name), os.fsencode(value)
    if not secret:
        return "hmac-sha256:" + hmac.digest(key, called + b"\0" + content, "sha256").hex()
    digest = _scrypt(key, called, content, _COST, _BLOCK_SIZE, _PARALLELISM)
    return f"scrypt:{_COST}:{_BLOCK_SIZE}:{_PARALLELISM}:{digest}"


def matches(commitment: str, salt: str, name: str, value: str) -> bool | None:
    """Say whether a value is the committed one; `None` where the commitment or the salt is none that we know.

    Costs are read from the commitment, which may be hostile: beyond 64 MiB of memory it is not computed.
    """
    try:
        key, called, content = bytes.fromhex(salt), os.fsencode(name), os.fsencode(value)
        if commitment.startswith("hmac-sha256:"):
            found = commit(salt, name, value, secret=False)
        elif stated := _SCRYPT.fullmatch(commitment):
            cost, block_size, parallelism = (int(stated[place]) for place in (1, 2, 3))
            digest = _scrypt(key, called, content, cost, block_size, parallelism)
            found = f"scrypt:{stated[1]}:{stated[2]}:{stated[3]}:{digest}"
        else:
            return None
    except (ValueError, MemoryError):  # no salt; a cost that scrypt refuses
        return None
    return hmac.compare_digest(found.encode(), commitment.encode("utf-8", "surrogatepass"))


def _scrypt(key: bytes, name: bytes, value: bytes, cost: int, block_size: int, parallelism: int) -> str:
    return hashlib.scrypt(
        value,
        salt=key + b"\0" + name,
        n=cost,
        r=block_size,
        p=parallelism,
        maxmem=_MAX_MEMORY_BYTES,
        dklen=32,
    ).hex()
