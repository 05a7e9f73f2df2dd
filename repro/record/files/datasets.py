"""Group the data that a run read, so that a reader sees "data: 10,000 files, 195 MiB, sha256:…" and not 10,000 rows.

A file belongs to the first of these that it fits: what the user declared, a Hugging Face cache, what a DVC pointer
names, a folder: the deepest that holds all files read below one place, never the root, `/`, the home or a temporary
folder itself. A file alone is a data set of its own; many of one suffix, straight in the root or in a shared folder,
are one named like `*.png`.

Sources: the cache of huggingface_hub ("Understand caching" in its documentation: `models--ORG--NAME/snapshots/COMMIT`),
that of `datasets` (`ORG___NAME/CONFIG/VERSION/HASH`), and DVC's pointer files ("outs" of a `.dvc` file, and the suffix
`.dir` of a folder's digest).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Final, Literal, Protocol

from repro.evidence import canonical
from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import Dataset, Gap
from repro.record.capture import Context

_MOST_LOOSE: Final = 8
"""So many files of one suffix are told one by one; more are one data set, such as `*.png`."""
Kind = Literal["folder", "file", "dvc", "huggingface", "declared"]
_HUB: Final = re.compile(
    r"(?P<folder>.*/(?:models|datasets|spaces)--(?P<name>[^/]+))/(?:snapshots/(?P<commit>[^/]+)|blobs)/"
)
_ARROW: Final = re.compile(r"(?P<folder>.*/huggingface/datasets/(?P<name>[^/]+))/[^/]+/[^/]+/(?P<commit>[^/]+)/")
_POINTER: Final = re.compile(r"^\s*(?:-\s+)?md5:\s*['\"]?([0-9a-f]{32}(?:\.dir)?)['\"]?\s*$", re.MULTILINE)
_PLAIN_MD5: Final = re.compile(r"^\s*(?:-\s+)?hash:\s*md5\s*$", re.MULTILINE)
_LARGEST_CHECKED_BYTES: Final = 64 * 1024 * 1024
_LARGEST_POINTER_BYTES: Final = 64 * 1024


class _Member(Protocol):
    """A file that may belong to a data set: a row of the manifest, or what becomes one."""

    @property
    def path(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def category(self) -> str: ...

    @property
    def size_bytes(self) -> int | None: ...

    @property
    def digest(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where a data set lies, and what is said of it. There is one of each: to compare the texts would take long."""

    name: str
    kind: Kind
    folder: str
    """Absolute, ended by a slash; of a single file, its own path."""
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Data sets, and what belongs to them."""

    names: Mapping[str, str]
    """By the path of an input, its data set."""
    datasets: tuple[Dataset, ...]
    gaps: tuple[Gap, ...]


def declared(paths: Iterable[str], cwd: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield every regular file that the user declared, with its state: each path itself, or all that lies below it.

    Links are followed, each folder once.

    Args:
        paths: As given; relative ones start from `cwd`.
        cwd: Absolute.
    """
    for path in paths:
        start = os.path.abspath(os.path.join(os.fsencode(cwd), os.fsencode(path)))  # noqa: PTH100, PTH118 - bytes
        with suppress(OSError):
            about = os.stat(start)  # noqa: PTH116 - bytes
            if stat.S_ISDIR(about.st_mode):
                yield from _below(start)
            else:
                yield start, about


def _below(start: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the regular files below a folder, in order; what cannot be listed holds none."""
    seen: set[tuple[int, int]] = set()
    left = [start]
    while left:
        folders: list[bytes] = []
        files: list[tuple[bytes, os.stat_result]] = []
        with suppress(OSError):
            _list(left.pop(), seen, folders, files)
        left.extend(sorted(folders, reverse=True))
        yield from sorted(files, key=itemgetter(0))


def _list(
    folder: bytes, seen: set[tuple[int, int]], folders: list[bytes], files: list[tuple[bytes, os.stat_result]]
) -> None:
    """List one folder, unless it was seen: by its descriptor, as to look up the whole path of each file costs more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if (about.st_dev, about.st_ino) in seen:
            return
        seen.add((about.st_dev, about.st_ino))
        prefix = folder.rstrip(b"/") + b"/"
        with os.scandir(descriptor) as entries:
            for entry in entries:
                with suppress(OSError):  # a link to nowhere
                    about = entry.stat()
                    if stat.S_ISREG(about.st_mode):
                        files.append((prefix + os.fsencode(entry.name), about))
                    elif stat.S_ISDIR(about.st_mode):
                        folders.append(prefix + os.fsencode(entry.name))
    finally:
        os.close(descriptor)


def group(files: Iterable[_Member], context: Context) -> Grouped:
    """Put inputs of the category `data` into data sets."""
    places = _Places(context)
    wanted = {_absolute(file.path, places.root): file for file in files if _is_data(file)}
    found: dict[str, Place] = {}
    loose: list[str] = []
    for path in wanted:
        place = places.named(path)
        if place is None:
            loose.append(path)
        else:
            found[path] = place
    found.update(places.folders(loose))
    members: dict[Place, list[tuple[str, _Member]]] = {}
    for path, place in found.items():
        members.setdefault(place, []).append((path, wanted[path]))
    named = [(place, members[old]) for old, place in _distinct(members).items()]
    names = {file.path: place.name for place, inside in named for _, file in inside}
    sets = tuple(sorted((_dataset(place, inside) for place, inside in named), key=lambda each: each.name))
    gaps = tuple(gap for place, inside in named for gap in _check_pointer(place, inside))
    return Grouped(names=names, datasets=sets, gaps=gaps)


def _is_data(file: _Member) -> bool:
    return file.role == "input" and file.category == "data"


def _distinct(places: Iterable[Place]) -> dict[Place, Place]:
    """Give data sets of the same name at different places names of their own."""
    by_name: dict[str, list[Place]] = {}
    for place in places:
        by_name.setdefault(place.name, []).append(place)
    return {
        place: place if len(same) == 1 else replace(place, name=_longer_name(place))
        for same in by_name.values()
        for place in same
    }


def _longer_name(place: Place) -> str:
    return f"hf:{place.reference}" if place.reference else f"{place.name} ({place.folder})"


def _dataset(place: Place, files: list[tuple[str, _Member]]) -> Dataset:
    listed = sorted([_inside(place, path), row.digest] for path, row in files)
    return Dataset(
        name=place.name,
        kind=place.kind,
        file_count=len(files),
        size_bytes=sum(row.size_bytes or 0 for _, row in files),
        digest=canonical.list_digest(listed),
        reference=place.reference,
    )


def _inside(place: Place, path: str) -> str:
    return path[len(place.folder) :] if path.startswith(place.folder) and path != place.folder else _base(path)


class _Places:
    """Finds where data sets lie."""

    def __init__(self, context: Context) -> None:
        self.root = encode_path(context.root).rstrip("/") + "/"
        home = context.environment.get("HOME") or "/root"
        shared = ("/tmp", "/var/tmp", "/mnt", "/media", "/srv", "/scratch", "/home", "/var", "/opt", "/data")  # noqa: S108
        self._shared = {
            encode_path(path).rstrip("/") for path in (home, context.environment.get("TMPDIR") or "", *shared)
        }
        self._pointers: dict[str, str | None] = {}
        self._listed: dict[str, frozenset[str]] = {}
        self._known: dict[tuple[str, Kind, str, str | None], Place] = {}
        named = [
            encode_path(os.path.abspath(os.path.join(context.working_directory, path)))  # noqa: PTH100, PTH118 - links
            for path in context.declared
        ]
        self._declared = [
            (path, path + "/", self._place(name=self._name(path), kind="declared", folder=path + "/")) for path in named
        ]

    def _place(self, *, name: str, kind: Kind, folder: str, reference: str | None = None) -> Place:
        """Return the one place that is all of this."""
        key = name, kind, folder, reference
        place = self._known.get(key)
        if place is None:
            place = self._known[key] = Place(name=name, kind=kind, folder=folder, reference=reference)
        return place

    def named(self, path: str) -> Place | None:
        """Return the data set that something other than the folder says a file belongs to."""
        return self._of_user(path) or self._of_hub(path) or self._of_dvc(path)

    def folders(self, paths: Sequence[str]) -> dict[str, Place]:
        """Return the data sets of files that nothing names."""
        together: dict[str, list[str]] = {}
        for path in paths:
            together.setdefault(self._top(path), []).append(path)
        found: dict[str, Place] = {}
        for top, members in together.items():
            if len(members) == 1 or not top:
                found.update(self._loose(members))
                continue
            folder = _common(members)
            place = self._place(name=self._name(folder), kind="folder", folder=folder)
            found.update((path, place) for path in members)
        return found

    def _loose(self, paths: list[str]) -> Iterator[tuple[str, Place]]:
        """Yield the data sets of files that lie in no folder of their own: one each, unless many are of one kind."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            folder, _, name = path.rpartition("/")
            kinds.setdefault((folder, os.path.splitext(name)[1]), []).append(path)  # noqa: PTH122 - encoded text
        for (folder, suffix), members in kinds.items():
            if len(members) <= _MOST_LOOSE:
                yield from ((path, self._file(path)) for path in members)
                continue
            place = self._place(name=self._name(f"{folder}/*{suffix}"), kind="folder", folder=f"{folder}/")
            yield from ((path, place) for path in members)

    def _top(self, path: str) -> str:
        """Return the topmost folder that a data set may be, ended by a slash; nothing where a file lies in none."""
        end = len(self.root) if path.startswith(self.root) else self._end_of_shared(path)
        slash = path.find("/", end)
        return path[: slash + 1] if slash >= 0 else ""

    def _end_of_shared(self, path: str) -> int:
        """Return where the name of what lies in the deepest shared folder above a file begins."""
        folder = path
        while folder := folder.rpartition("/")[0]:
            if folder in self._shared:
                return len(folder) + 1
        return 1

    def _name(self, folder: str) -> str:
        path = folder.rstrip("/")
        return path[len(self.root) :] if path.startswith(self.root) else path

    def _file(self, path: str) -> Place:
        return self._place(name=self._name(path), kind="file", folder=path)

    def _of_user(self, path: str) -> Place | None:
        for declared, folder, place in self._declared:
            if path.startswith(folder):
                return place
            if path == declared:
                return self._place(name=self._name(declared), kind="declared", folder=path)
        return None

    def _of_hub(self, path: str) -> Place | None:
        found = _HUB.match(path) or _ARROW.match(path)
        if found is None:
            return None
        name = re.sub(r"--|___", "/", found["name"], count=1)
        commit = found["commit"] or self._commit(found["folder"])
        folder = found[0] if found["commit"] else found["folder"] + "/"
        reference = f"{name}@{commit}" if commit else None
        return self._place(name=f"hf:{name}", kind="huggingface", folder=folder, reference=reference)

    def _commit(self, folder: str) -> str | None:
        """Return the only commit that a cache holds: content was opened by the name of its blob."""
        try:
            commits = os.listdir(decode_path(folder) + b"/snapshots")  # noqa: PTH208 - bytes
        except OSError:
            return None
        return encode_path(commits[0]) if len(commits) == 1 else None

    def _of_dvc(self, path: str) -> Place | None:
        """Return what a pointer beside the file, or beside a folder above it, names."""
        folder, is_file = path, True
        while len(folder) > 1 and folder + "/" != self.root:
            reference = self._pointer(folder)
            if reference is not None:
                return self._place(
                    name=self._name(folder), kind="dvc", folder=path if is_file else folder + "/", reference=reference
                )
            if not path.startswith(self.root) and not is_file:
                return None  # outside the root, the nearest folder is enough to look at
            folder, is_file = folder.rpartition("/")[0], False
        return None

    def _pointer(self, path: str) -> str | None:
        folder, _, name = path.rpartition("/")
        if name + ".dvc" not in self._pointers_in(folder):
            return None
        if path not in self._pointers:
            found = _POINTER.search(_pointer_text(path))
            self._pointers[path] = f"md5:{found[1]}" if found else None
        return self._pointers[path]

    def _pointers_in(self, folder: str) -> frozenset[str]:
        """Return the pointers that a folder holds: one listing is faster than asking for one beside every file."""
        if folder not in self._listed:
            try:
                with os.scandir(decode_path(folder) or b"/") as entries:
                    names = [encode_path(entry.name) for entry in entries if entry.name.endswith(b".dvc")]
            except OSError:
                names = []
            self._listed[folder] = frozenset(names)
        return self._listed[folder]


def _pointer_text(path: str) -> str:
    try:
        with open(decode_path(path) + b".dvc", "rb") as file:  # noqa: PTH123 - bytes
            return file.read(_LARGEST_POINTER_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _check_pointer(place: Place, files: list[tuple[str, _Member]]) -> Iterator[Gap]:
    """Compare a small file with what its pointer says; of a folder, the pointer's digest is of a list of DVC's."""
    path, row = files[0]
    is_plain = place.kind == "dvc" and path == place.folder and (row.size_bytes or 0) <= _LARGEST_CHECKED_BYTES
    if not is_plain or place.reference is None or not _PLAIN_MD5.search(_pointer_text(path)):
        return
    try:
        with open(decode_path(path), "rb") as file:  # noqa: PTH123 - bytes
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:
        return
    if place.reference != f"md5:{found}":
        reason = f"it is not what {_base(path)}.dvc says that it is: {place.reference} there, md5:{found} here"
        yield Gap(topic="data", subject=row.path, reason=reason)


def _absolute(path: str, root: str) -> str:
    return path if path.startswith("/") else root + path


def _common(paths: Sequence[str]) -> str:
    """Return the deepest folder that holds all of these files, ended by a slash."""
    first, last = min(paths), max(paths)
    size = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[: first.rfind("/", 0, size) + 1]


def _base(path: str) -> str:
    return path.rpartition("/")[2]
