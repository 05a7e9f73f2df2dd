"""Which files a run read and wrote, and which programs it ran: rows, under the rules of `repro.evidence.model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file that the run read or wrote."""

    path: str
    """Relative to the root if inside it, else absolute."""
    role: Literal["input", "output"]
    category: Literal["data", "code", "environment", "system", "temporary"]
    """Only `data` and `code` decide whether a replay may start."""
    dataset: str | None
    """The name of the `Dataset` that it belongs to."""
    size_bytes: int | None
    digest: str | None
    """`sha256:…`, or `blake3:…` where the settings ask for that. Of an input: its content when the run first read it.
    `None` when it could not be hashed; there is then a gap that names it."""
    modified_at: str | None
    process_key: str
    """The first process that opened it: the key of a `Process`; `KEY>PROGRAM` for a program below it that no agent
    watches, `>PROGRAM` where no Python process is above. Empty where the file was declared and nobody was seen to read
    it."""
    library: str
    """What was seen to open it: `python`, `torch`, …, as the agent says. Where the kernel alone saw it: `native` for
    compiled code in a Python process, which no hook knows; `python` for an interpreter whose agent was not awake yet;
    else the program's name. `stdin` for the file on standard input. Empty where nobody was seen to read it."""
    seen_by: Literal["agent", "kernel", "both", "declared"]
    """Which layer saw it opened: the agent inside Python, the kernel's filter, both; or only the user named it."""
    changed_during_run: bool
    """The bytes that were read may not be the bytes that were hashed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Input files that belong together, as one thing with one digest."""

    name: str
    """Path of the folder or file, as in `DataFile.path`; `hf:NAME` for a dataset or model in a Hugging Face cache."""
    kind: Literal["folder", "file", "dvc", "huggingface", "declared"]
    file_count: int
    """Of those that the run read; all that lie there where the user declared it."""
    size_bytes: int
    digest: str
    """SHA-256 of the canonical JSON list of `[path, digest]`, sorted, with paths relative to the dataset."""
    reference: str | None
    """What a pointer says that it is: `md5:…` in a `.dvc` file, `REPOSITORY@COMMIT` in a Hugging Face cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file that got another name or was removed by the run."""

    ordinal: int
    """In the order of time, from 0."""
    action: Literal["renamed", "linked", "removed"]
    path: str
    """As in `DataFile.path`."""
    target: str | None
    """The new name."""
    process_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program that the run executed, Python or not."""

    ordinal: int
    """In the order of time, from 0."""
    process_key: str
    """As in `DataFile`."""
    pid: int
    parent_pid: int
    path: str
    """Absolute."""
    argv: tuple[str, ...]
    """Secrets are replaced by `<redacted>`."""
    sha256: str | None
    """`None` when the file was gone, or could not be read."""
    started_at: str
