"""A program of its own: ask the package index, through pip and its configuration, for the files of given versions.

It is run in a process of its own, as pip's machinery is private to it and slow to import. pip-tools sets pip up from
the user's configuration (indexes, find-links, proxies, certificates, credentials); pip's session fetches each
project's page once, in four threads; only the files of the wanted version are looked at. Nothing is resolved, as all
that is wanted is known: `pip-compile --generate-hashes` needs a minute for 18 distributions, and downloads every
wheel of a version of which the index's JSON API says nothing.

Standard input is one JSON object: `wanted`, a list of `[name, version]`; `prefix`, of the environment whose `pip.conf`
counts; `python`, such as `3.11`. Standard output is a JSON object a line, one for each name as it comes: `name`,
`version`, `index` (the first one that has it), `files`, and `trouble` where an index did not answer. A file has `name`,
`url`, `sha256`, `size_bytes` and `uploaded_at` (or null). Formats: PEP 503, 691, 700.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

_THREADS: Final = 4
_FAILURES_TO_GIVE_UP: Final = 4
_SOURCES: Final = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
_NOT_THERE: Final = re.compile(r"\b(?:404|410) Client Error|No such file or directory|Errno 2\b")
_CHUNK_BYTES: Final = 1024 * 1024


def main() -> None:
    """Answer what standard input asks."""
    os.nice(19)
    asked = json.load(sys.stdin)
    if asked["prefix"]:
        sys.prefix = asked["prefix"]  # where pip looks for the environment's own configuration
    Asker(asked["python"]).answer([(str(name), str(version)) for name, version in asked["wanted"]])


class Asker:
    """Asks for many distributions at once."""

    def __init__(self, python: str) -> None:
        from piptools.repositories import PyPIRepository

        self._repository: Any = PyPIRepository(["--no-input"], cache_dir=os.path.devnull)
        self._collector: Any = self._repository.finder._link_collector
        self._python = tuple(int(part) for part in python.split("."))
        self._trouble = _Trouble()
        self._speak = threading.Lock()
        self._failures = self._successes = 0

    def answer(self, wanted: list[tuple[str, str]]) -> None:
        """Write one line for each."""
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._answer_one, wanted):
                pass

    def _answer_one(self, wanted: tuple[str, str]) -> None:
        name, version = wanted
        answer: dict[str, Any] = {"name": name, "version": version, "index": None, "files": [], "trouble": None}
        if self._failures >= _FAILURES_TO_GIVE_UP and not self._successes:
            answer["trouble"] = "no index answered before"
        else:
            self._trouble.here.said = []
            try:
                answer["index"], answer["files"] = self._files(name, version)
            except Exception as error:  # noqa: BLE001 - pip raises what it likes; the others can still be asked for
                self._trouble.here.said.append(f"{type(error).__name__}: {error}")
            answer["trouble"] = next(iter(self._trouble.here.said), None)
        with self._speak:
            self._failures += bool(answer["trouble"])
            self._successes += not answer["trouble"]
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    def _files(self, name: str, version: str) -> tuple[str | None, list[dict[str, Any]]]:
        sources = self._collector.collect_sources(
            project_name=name, candidates_from_page=partial(self._from_page, name, version)
        )
        index, found = None, dict[str, dict[str, Any]]()
        for number, group in enumerate((sources.index_urls, sources.find_links)):
            for source in group:
                files = list(self._from_source(source, name, version)) if source is not None else []
                if files and number == 0 and index is None:
                    index = str(source.link.url_without_fragment).rstrip("/").rpartition("/")[0]
                for file in files:
                    key = f"{file['name']} {file['sha256']}"
                    if key not in found or found[key]["url"].startswith("file:"):
                        found[key] = file
        return index, [found[key] for key in sorted(found)]

    def _from_source(self, source: Any, name: str, version: str) -> Iterator[dict[str, Any]]:
        yield from source.page_candidates()
        for link in source.file_links():
            if matches(link.filename, name, version) and (file := self._file(link, {})):
                yield file

    def _from_page(self, name: str, version: str, page: Any) -> list[dict[str, Any]]:
        """Return the files of one version on a page. The argument is pip's, a `Link`; so is what calls this."""
        content = self._collector.fetch_response(page)
        if content is None:
            return []
        is_json = content.content_type.lower().startswith("application/vnd.pypi.simple.v1+json")
        links = _links_of_json if is_json else _links_of_html
        found = (self._file(link, about) for link, about in links(content, name, version))
        return [file for file in found if file]

    def _file(self, link: Any, about: dict[str, Any]) -> dict[str, Any] | None:
        known = getattr(link, "_hashes", None) or {}
        sha256 = known.get("sha256") or (link.hash if link.hash_name == "sha256" else None) or self._hash(link)
        if sha256 is None:
            return None
        size, uploaded = about.get("size"), about.get("upload-time")
        if size is None and link.is_file:
            size = Path(link.file_path).stat().st_size
        return {
            "name": link.filename,
            "url": link.url_without_fragment,
            "sha256": sha256,
            "size_bytes": size if isinstance(size, int) else None,
            "uploaded_at": uploaded if isinstance(uploaded, str) else None,
        }

    def _hash(self, link: Any) -> str | None:
        """Hash a file of which the index gives no SHA-256; of wheels only those that this Python could install."""
        from pip._internal.models.target_python import TargetPython
        from pip._internal.models.wheel import Wheel
        from piptools.repositories.pypi import open_local_or_remote_file

        tags = TargetPython(py_version_info=self._python).get_sorted_tags()
        if link.filename.endswith(".whl") and not link.is_file and not Wheel(link.filename).supported(tags):
            return None
        hasher = hashlib.sha256()
        with open_local_or_remote_file(link, self._repository.session) as file:
            while chunk := file.stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
        return hasher.hexdigest()


class _Trouble(logging.Handler):
    """What pip says, by thread, about an index that did not answer: pip itself skips such an index in silence."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.here = threading.local()
        logger = logging.getLogger("pip._internal.index.collector")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason, unless it is that the index does not have the project."""
        if str(record.msg).startswith("Could not fetch URL") and isinstance(record.args, tuple):
            reason = str(record.args[-1])
            if not _NOT_THERE.search(reason):
                self.here.said.append(reason)


def _links_of_json(content: Any, name: str, version: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    from pip._internal.models.link import Link

    for about in json.loads(content.content).get("files", []):
        if matches(str(about.get("filename", "")), name, version) and (link := Link.from_json(about, content.url)):
            yield link, about


def _links_of_html(content: Any, name: str, version: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    from pip._internal.index.collector import parse_links

    return ((link, {}) for link in parse_links(content) if matches(link.filename, name, version))


def matches(filename: str, name: str, version: str) -> bool:
    """Say whether a file is a wheel or a source archive of one version of a distribution (normalised, PEP 503)."""
    if filename.endswith(".whl"):
        parts = filename.split("-")
        return len(parts) >= 5 and _normal(parts[0]) == name and _same(parts[1].replace("_", "-"), version)
    stem = next((filename.removesuffix(ending) for ending in _SOURCES if filename.endswith(ending)), None)
    if stem is None:
        return False
    dashes = [found.start() for found in re.finditer("-", stem)]
    return any(_normal(stem[:at]) == name and _same(stem[at + 1 :], version) for at in dashes)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _same(found: str, version: str) -> bool:
    """Compare as PEP 440 does: `1.0` is `1.0.0`, and `2.0-rc1` is `2.0rc1`."""
    from pip._vendor.packaging.version import InvalidVersion, Version

    if found == version:
        return True
    try:
        return Version(found) == Version(version)
    except InvalidVersion:
        return False


if __name__ == "__main__":
    main()
