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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

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


@dataclass(slots=True, kw_only=True)
class Untouched:
    """Files that the user declared, that the run did not open, and that are known from before: of each, one cell.

    Not an object each, as there may be a million and nothing to say of any that is not said of all.
    """

    paths: list[str] = field(default_factory=list)
    """As the manifest has them."""
    sizes_bytes: list[int] = field(default_factory=list)
    modified_at_ns: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def columns(self) -> tuple[list[Any], ...]:
        """Return the columns, in the order of the fields."""
        return self.paths, self.sizes_bytes, self.modified_at_ns, self.digests, self.places

    def add(self, *columns: Iterable[Any]) -> None:
        """Add files, given as `columns` gives them."""
        for column, cells in zip(self.columns(), columns, strict=True):
            column.extend(cells)

    def chosen(self, indices: Sequence[int]) -> Untouched:
        """Return some of the files, in this order."""
        found = Untouched()
        found.add(*(map(column.__getitem__, indices) for column in self.columns()))
        return found

    def by_place(self) -> dict[Place, Untouched]:
        """Return the files of each data set."""
        if not self.places or self.places.count(self.places[0]) == len(self.places):
            return {self.places[0]: self} if self.places else {}
        indices: dict[Place, list[int]] = {}
        for index, place in enumerate(self.places):
            indices.setdefault(place, []).append(index)
        return {place: self.chosen(inside) for place, inside in indices.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """Data sets, and what belongs to them."""

    names: Mapping[str, str]
    """By the path of an input, its data set."""
    places: Mapping[Place, str]
    """By where a data set lies, its name."""
    datasets: tuple[Dataset, ...]
    gaps: tuple[Gap, ...]


def group(files: Iterable[_Member], places: Places, untouched: Untouched | None = None) -> Grouped:
    """Put inputs of the category `data` into data sets.

    Args:
        files: All that the run read or wrote.
        places: Where data sets lie.
        untouched: Declared files that it did not; each names its place itself.
    """
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
    besides = untouched.by_place() if untouched else {}
    named = _distinct({**members, **besides})
    nobody = Untouched()
    sets = (_dataset(place, members.get(old, []), besides.get(old, nobody), places) for old, place in named.items())
    return Grouped(
        names={file.path: named[old].name for old, inside in members.items() for _, file in inside},
        places={old: place.name for old, place in named.items()},
        datasets=tuple(sorted(sets, key=lambda each: each.name)),
        gaps=tuple(gap for old, inside in members.items() for gap in _check_pointer(named[old], inside)),
    )


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


def _dataset(place: Place, files: list[tuple[str, _Member]], untouched: Untouched, places: Places) -> Dataset:
    listed = [_inside(place, path) for path, _ in files]
    listed += _below(place.folder, untouched.paths, places.root)
    return Dataset(
        name=place.name,
        kind=place.kind,
        file_count=len(listed),
        size_bytes=sum(row.size_bytes or 0 for _, row in files) + sum(untouched.sizes_bytes),
        digest=canonical.pairs_digest(listed, [*(row.digest for _, row in files), *untouched.digests]),
        reference=place.reference,
    )


def _inside(place: Place, path: str) -> str:
    return path[len(place.folder) :] if path.startswith(place.folder) and path != place.folder else _base(path)


def _below(folder: str, paths: Sequence[str], root: str) -> list[str]:
    """Return paths relative to a folder that all of them lie below, given as the manifest has them."""
    if root != folder and root.startswith(folder):
        return [_absolute(path, root)[len(folder) :] for path in paths]
    start = len(folder) - (len(root) if folder.startswith(root) else 0)
    return [path[start:] for path in paths]


class Places:
    """Finds where data sets lie.

    Args:
        context: What the recorder knows of the run.
    """

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

    def whole(self, folder: str) -> Place | None:
        """Return the declared data set that all files straight in a folder belong to; `None` where they may differ.

        Args:
            folder: Absolute, ended by a slash.
        """
        for declared, below, place in self._declared:
            if folder.startswith(below):
                return place
            if declared.startswith(folder):
                return None
        return None

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
