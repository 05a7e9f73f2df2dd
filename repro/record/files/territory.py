"""Whose a file is: the project's, the environment's, the system's, nobody's for long, or ours.

Code and libraries of the environment and the system have no rows of their own: distributions with their RECORD, system
packages and mapped libraries tell of them, and `import torch` alone would be thousands of rows. Data that lie among
them do have rows.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from pathlib import Path
from typing import Final, Literal

from repro.evidence.canonical import decode_path, encode_path
from repro.record.capture import Context
from repro.record.eventlog import Open, Start
from repro.record.injection import INJECT
from repro.record.kernel.log import Opened

Category = Literal["data", "code", "environment", "system", "temporary"]
_SYSTEM: Final = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/var/lib", "/run")
_CODE_SUFFIXES: Final = (".py", ".pyi", ".pyc", ".ipynb", ".sh")
_ENVIRONMENT_SUFFIXES: Final = (".py", ".pyi", ".pyc", ".pth", "/pyvenv.cfg", "._pth")
_LIBRARY: Final = re.compile(r"\.so(\.[0-9]+)*$")
_PYTHON_LIBRARY: Final = re.compile(r"/lib(64)?/python3(\.[0-9]+)?/|/(site|dist)-packages/")
_TOOLS: Final = re.compile(
    r"/\.(asdf|cargo|conda|mamba|mise|npm|nvm|pyenv|rbenv|rustup|sdkman|ssh|uv)/|/\.local/(bin|lib)/"
)
"""What manages interpreters and programs in a home, which many commands go through: a shim of pyenv reads 15 files."""
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - files in memory: of processes for each other, or a staged data set
_COMPILED: Final = re.compile(r"/\.triton/cache/|/\.nv/ComputeCache/|/\.cache/torch_extensions/")
_COMPILED_BY: Final = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")
"""Variables that move such a cache."""
_INDUCTOR: Final = "torchinductor_"
"""How PyTorch's compiler begins the name of its cache among temporary files; the user's name follows."""
_OF_LOADER: Final = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/ld.so.nohwcap")


class Territory:
    """Knows the folders of one run.

    Args:
        context: What the recorder knows of it.
    """

    def __init__(self, context: Context) -> None:
        self.root = _folder(context.root)
        self._ours = _folder(context.home)
        self._agent = _folder(INJECT.parent)
        self._entropy = None if context.entropy is None else encode_path(context.entropy)
        self._packages = environment_folders(context.interpreter)
        self._user = _folder(context.environment.get("HOME") or "/nonexistent")
        chosen = filter(None, map(context.environment.get, _COMPILED_BY))
        self._compiler = tuple(_folder(Path(path).absolute()) for path in chosen)
        self._temporary = tuple(
            _folder(Path(path).absolute())
            for path in {tempfile.gettempdir(), context.environment.get("TMPDIR") or "/tmp", _SHARED_MEMORY}  # noqa: S108
        )

    def relative(self, path: str) -> str:
        """Return a path as the manifest has it: relative to the root if it is inside."""
        return path[len(self.root) :] if path.startswith(self.root) else path

    def is_ours(self, path: str) -> bool:
        """Say whether a file belongs to the store or the agent; environments that replays run in do not."""
        if path.startswith(self._agent) or path == self._entropy:
            return True
        return path.startswith(self._ours) and not path.startswith((self.root, *self._packages))

    def is_temporary(self, path: str) -> bool:
        """Say whether a file lies where nothing stays for long."""
        return path.startswith(self._temporary) and not path.startswith(self.root)

    def is_environment(self, path: str) -> bool:
        """Say whether a file belongs to the recorded Python, or to another one."""
        return path.startswith(self._packages) or _PYTHON_LIBRARY.search(path) is not None

    def is_covered(self, path: str) -> bool:
        """Say whether other tables tell of a file: code of the environment, libraries, what finds them."""
        if path in _OF_LOADER or "/__pycache__/" in path:
            return True
        if self.is_environment(path):
            return path.endswith(_ENVIRONMENT_SUFFIXES) or _LIBRARY.search(path) is not None
        return not path.startswith(self.root) and _LIBRARY.search(path) is not None

    def category(self, path: str, *, gone: bool = False) -> Category:
        """Return the category of a file."""
        if path.startswith(self._packages) or "/site-packages/" in path or "/dist-packages/" in path:
            return "environment"
        if (gone and path.startswith(self._temporary)) or self._is_compiled(path):
            return "temporary"
        is_code = path.endswith(_CODE_SUFFIXES) or _LIBRARY.search(path) is not None
        if path.startswith(self.root):
            return "environment" if path.startswith(self.root + ".git/") else "code" if is_code else "data"
        is_system = any(path == prefix or path.startswith(prefix + "/") for prefix in _SYSTEM)
        if is_system and not path.startswith(_SHARED_MEMORY + "/"):
            return "system"
        return "environment" if _TOOLS.search(path) or self._is_configuration(path) else "code" if is_code else "data"

    def _is_compiled(self, path: str) -> bool:
        """Say whether a file lies in the cache of a compiler, which makes it anew when it is dropped."""
        if path.startswith(self._compiler) or _COMPILED.search(path):
            return True
        return any(path.startswith(folder + _INDUCTOR) for folder in self._temporary)

    def _is_configuration(self, path: str) -> bool:
        """Say whether a file is the user's own settings: `~/.NAME`, `~/.config`; caches and data sets are not."""
        inside = path[len(self._user) :] if path.startswith(self._user) else ""
        return inside.startswith(".config/") or (inside.startswith(".") and "/" not in inside)

    def stand_in(self, event: Open | Opened) -> str | None:
        """Return the path to tell of when a file is opened; `None` for what has no row.

        The source stands for its cached byte code, since that is what the run is made of.
        """
        path = event.path
        if self.is_ours(path) or (event.mode == "write" and path.endswith(".pyc")):
            return None
        if path.endswith(".pyc") and not self.is_environment(path):
            return _source(path) or path
        if isinstance(event, Opened) and self.is_covered(path):
            return None
        return path


def environment_folders(interpreter: Start | None) -> tuple[str, ...]:
    """Return the folders that belong to the recorded Python: its own, its packages, its standard library."""
    if interpreter is None:
        return ()
    minor = ".".join(interpreter.python_version.split(".")[:2])
    shared = ("/", "/usr", "/usr/local", "")
    own = {prefix for prefix in (interpreter.prefix, interpreter.base_prefix) if prefix not in shared}
    libraries = {f"{interpreter.base_prefix.rstrip('/')}/{lib}/python{minor}" for lib in ("lib", "lib64")}
    return tuple(path.rstrip("/") + "/" for path in own | libraries)


def _folder(path: Path | str) -> str:
    return encode_path(path).rstrip("/") + "/"


def _source(path: str) -> str | None:
    try:
        source = importlib.util.source_from_cache(os.fsdecode(decode_path(path)))
        return encode_path(source) if Path(source).is_file() else None
    except (ValueError, NotImplementedError, OSError):
        return None
