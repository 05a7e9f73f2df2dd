"""The error tree and the exit codes.

A mismatch is a value (`repro.audit.verdict.Verdict`); broken or missing evidence is an exception. Only `repro.cli`
catches these, prints `error:` and `hint:` lines and exits with `exit_code`. Each `slug` has a paragraph in
docs/reference/errors.md; a test holds the two together.

    ReproError
    ├── UsageError          2  the arguments or the configuration make no sense
    ├── AlteredError        3  a digest, a signature or a chain is wrong: do not trust the record
    ├── UntrustedError      4  the signature is valid, the signer is not trusted; or there is no signature
    ├── InconclusiveError   5  evidence is missing or cannot be compared
    └── ExecutionError      6  an engine, an index, the network or the disk failed
        └── UnsealedError      the command ran, but its record could not be sealed: its own status is passed on
"""

from __future__ import annotations

from typing import ClassVar

SAME = 0
DIFFERENT = 1
OUR_BUG = 70
INTERRUPTED = 130
STRICT_GAP = 125


class ReproError(Exception):
    """Root of every error that repro raises on purpose.

    Args:
        message: What went wrong, naming the thing.
        hint: The next step for the reader, in the imperative; `None` where there is none.
    """

    exit_code: ClassVar[int] = OUR_BUG
    slug: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status: int = self.exit_code


class UsageError(ReproError):
    """The arguments or the configuration make no sense."""

    exit_code = 2
    slug = "usage"


class AlteredError(ReproError):
    """A digest, a signature or a chain is wrong: the record must not be trusted."""

    exit_code = 3
    slug = "altered"


class UntrustedError(ReproError):
    """The record is signed by nobody whom this machine trusts, or not at all."""

    exit_code = 4
    slug = "untrusted"


class InconclusiveError(ReproError):
    """Evidence is missing or cannot be compared, so no answer is given."""

    exit_code = 5
    slug = "inconclusive"


class ExecutionError(ReproError):
    """An engine, a package index, the network or the disk failed."""

    exit_code = 6
    slug = "execution"


class UnsealedError(ExecutionError):
    """The command ran to its end, but its record could not be sealed.

    Args:
        message: What went wrong.
        exit_status: The command's own, which `repro record` passes on: no training fails for our sake.
        hint: The next step.
    """

    slug = "unsealed"

    def __init__(self, message: str, *, exit_status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status
