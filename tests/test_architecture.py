"""The house stands as docs/how-it-works.md draws it: who imports whom, sizes, names, documents that must agree.

Each rule is a function from a parsed file to its violations. It is run over every file of `repro`, and over a snippet
that breaks it, so that no rule can pass by seeing nothing.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import repro
from repro.errors import ReproError
from repro.evidence import model

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "repro"

MAY_CALL = {
    "cli": {"replay", "audit", "record", "evidence", "errors", "plugs"},
    "replay": {"record", "evidence", "errors", "plugs"},
    "audit": {"evidence", "errors", "plugs"},
    "record": {"evidence", "errors", "plugs"},
    "evidence": {"errors", "plugs"},
    "plugs": {"errors"},
    "errors": set(),
    "agent": set(),
    "__main__": {"cli"},
    "": set(),  # repro/__init__.py: the version, and two functions that do nothing
}
IMPORTERS = {
    "duckdb": ("evidence/manifest.py",),
    "pyarrow": ("evidence/manifest.py",),
    "blake3": ("evidence/hashing.py",),
    "cryptography": ("evidence/keys.py", "evidence/seal.py", "evidence/trust.py"),
    "jsonschema": ("evidence/schema.py",),
    "referencing": ("evidence/schema.py",),
    "git": ("record/capture/code.py",),
    "pip": ("record/software/askindex.py",),
    "piptools": ("record/software/askindex.py",),
    "docker": ("replay/executors/docker.py",),
    "jinja2": ("audit/formats/html.py",),
    "rich": ("cli/",),
    "typer": ("cli/",),
}
PLUG_FOLDERS = ("agent/hooks", "record/capture", "replay/executors", "audit/formats")
EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "handler", "handlers"}
EXIT_CODES = {2, 3, 4, 5, 6, 70}
NOT_IN_PYTHON_39 = {"tomllib"}
NEWER_STANDARD = {"_sha2"}  # Python 3.12's name of what was _sha256
MAX_FUNCTION_LINES, MAX_FILE_LINES = 60, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One parsed file; `path` is relative to `repro/`."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def room(self) -> str:
        head = self.path.partition("/")[0].removesuffix(".py")
        return "" if head == "__init__" else head

    @property
    def dotted(self) -> str:
        return ".".join(("repro", *self.path.removesuffix(".py").split("/"))).removesuffix(".__init__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One module that a file asks for, anywhere in it."""

    name: str
    line: int
    at_top: bool
    """Run when the file is imported: neither in a function nor for types alone."""
    for_types: bool
    """Under TYPE_CHECKING: never run."""


@functools.cache
def modules() -> tuple[Module, ...]:
    files = sorted(PACKAGE.rglob("*.py"))
    return tuple(Module(path=file.relative_to(PACKAGE).as_posix(), text=file.read_text()) for file in files)


def imports(module: Module) -> list[Import]:
    return list(_imports_below(module.tree, at_top=True, for_types=False))


def _imports_below(node: ast.AST, *, at_top: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _asked_for(child):
            yield Import(name=name, line=child.lineno, at_top=at_top and not for_types, for_types=for_types)
        in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = for_types or _is_type_checking(child)
        yield from _imports_below(child, at_top=at_top and not in_function, for_types=typing_only)


def _asked_for(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        prefix = "." * node.level + (f"{node.module}." if node.module else "")
        return [prefix + alias.name for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"import_module", "__import__"}:
        return [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return []


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def rooms(module: Module) -> list[str]:
    """Imports go one way, audit and record never meet, and nothing imports the agent."""
    found = []
    for asked in imports(module):
        parts = asked.name.split(".")
        room = parts[1] if len(parts) > 1 and parts[0] == "repro" else ""
        forbidden = room in MAY_CALL and room not in {"", module.room} and room not in MAY_CALL.get(module.room, ())
        outside = parts[0] == "repro" and not (asked.for_types and room == "agent")
        if forbidden or (module.room == "agent" and outside):
            found.append(f"{module.path}:{asked.line} imports {asked.name}")
    return found


def plugs(module: Module) -> list[str]:
    """Plug files never import each other."""
    folder, _, name = module.path.rpartition("/")
    if folder not in PLUG_FOLDERS or name == "__init__.py":
        return []
    siblings = ("repro." + folder.replace("/", ".") + ".", "_repro_agent.hooks.", ".")
    own = Path(name).stem
    return [
        f"{module.path}:{asked.line} imports its sibling {asked.name}"
        for asked in imports(module)
        for prefix in siblings
        if asked.name.startswith(prefix)
        and asked.name.removeprefix(prefix).split(".")[0] in _plug_names(folder) - {own}
    ]


def _plug_names(folder: str) -> set[str]:
    return {file.stem for file in (PACKAGE / folder).glob("*.py")} - {"__init__"} | {"a_sibling"}


def third_parties(module: Module) -> list[str]:
    """Each dependency has its few importers; the agent has none at all."""
    found = []
    for asked in imports(module):
        top = asked.name.split(".")[0]
        if top in {"", "repro", "_repro_agent"} or _is_standard(top, module):
            continue
        if not any(module.path.startswith(importer) for importer in IMPORTERS.get(top, ())) or module.room == "agent":
            found.append(f"{module.path}:{asked.line} imports {top}")
    return found


def _is_standard(top: str, module: Module) -> bool:
    return top in sys.stdlib_module_names | NEWER_STANDARD and not (module.room == "agent" and top in NOT_IN_PYTHON_39)


def late_verbs(module: Module) -> list[str]:
    """A command imports its verb, and all that is slow to import, inside its function."""
    if module.room != "cli":
        return []
    return [
        f"{module.path}:{asked.line} imports {asked.name} at the top"
        for asked in imports(module)
        if asked.at_top and asked.name.split(".")[:2] in [["repro", room] for room in MAY_CALL["cli"] - {"errors"}]
    ]


def names(module: Module) -> list[str]:
    """A name says what a module is for."""
    words = set(module.path.removesuffix(".py").split("/"))
    return [f"{module.path}: {word} says nothing" for word in sorted(words & EMPTY_NAMES)]


def sizes(module: Module) -> list[str]:
    """What cannot be read at one sitting is split."""
    lines = module.text.count("\n")
    found = [f"{module.path}: {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{module.path}:{node.lineno} {node.name} has {length} lines")
    return found


def prints(module: Module) -> list[str]:
    """Only the command line prints and exits."""
    if module.room == "cli":
        return []
    speaks = {"print", "sys.exit", "exit", "quit"}
    return [
        f"{module.path}:{node.lineno} calls {ast.unparse(node.func)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in speaks
    ]


RULES = (rooms, plugs, third_parties, late_verbs, names, sizes, prints)

BROKEN: list[tuple[Callable[[Module], list[str]], str, str]] = [
    (rooms, "audit/diff.py", "from repro.record import recorder\n"),
    (rooms, "record/recorder.py", "def f():\n    import repro.audit.diff\n"),
    (rooms, "evidence/store.py", "from repro import record\n"),
    (rooms, "replay/plan.py", "from repro.audit.verdict import judge\n"),
    (rooms, "record/recorder.py", "import repro.agent\n"),
    (rooms, "cli/main.py", "import importlib\nimportlib.import_module('repro.agent.log')\n"),
    (rooms, "agent/log.py", "import repro\n"),
    (rooms, "agent/log.py", "from repro.agent import Agent\n"),
    (rooms, "errors.py", "import repro.plugs\n"),
    (plugs, "audit/formats/html.py", "from repro.audit.formats import a_sibling\n"),
    (plugs, "agent/hooks/torch.py", "from _repro_agent.hooks import a_sibling\n"),
    (plugs, "agent/hooks/torch.py", "from . import a_sibling\n"),
    (third_parties, "audit/report.py", "def f():\n    import duckdb\n"),
    (third_parties, "agent/hooks/torch.py", "import torch\n"),
    (third_parties, "agent/log.py", "import tomllib\n"),
    (third_parties, "record/data.py", "import requests.sessions\n"),
    (late_verbs, "cli/diff.py", "from repro.audit.diff import diff\n"),
    (late_verbs, "cli/diff.py", "import repro.evidence.store\n"),
    (names, "audit/utils.py", ""),
    (names, "record/helpers/process.py", ""),
    (sizes, "audit/diff.py", "def f():\n" + "    pass\n" * 60),
    (sizes, "audit/diff.py", "\n" * 401),
    (prints, "audit/diff.py", "print('x')\n"),
    (prints, "record/recorder.py", "import sys\nsys.exit(1)\n"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Callable[[Module], list[str]]) -> None:
    assert [] == [violation for module in modules() for violation in rule(module)]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN, ids=lambda part: getattr(part, "__name__", None))
def test_a_file_that_breaks_the_rule_is_seen(rule: Callable[[Module], list[str]], path: str, text: str) -> None:
    assert [path] == sorted({re.split("[: ]", found)[0] for found in rule(Module(path=path, text=text))})


def test_what_only_a_type_checker_imports_is_not_at_the_top() -> None:
    text = "if TYPE_CHECKING:\n    from repro.audit.diff import Diff\n    from repro.agent import Agent\n"
    assert [] == late_verbs(Module(path="cli/diff.py", text=text))
    assert ["cli/diff.py:3 imports repro.agent.Agent"] == rooms(Module(path="cli/diff.py", text=text))
    assert [] == rooms(Module(path="agent/log.py", text="if TYPE_CHECKING:\n    from repro.agent import Agent\n"))


def test_every_rule_has_a_snippet_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == {rule.__name__ for rule, _, _ in BROKEN}


def test_every_room_is_in_the_table() -> None:
    found = {module.room for module in modules()}
    assert set() == found - set(MAY_CALL)


def test_help_starts_without_what_is_slow_to_import() -> None:
    slow = sorted({name for name in IMPORTERS if name not in {"typer", "rich"}} | {"repro.record", "repro.replay"})
    code = f"import sys, repro.cli.main\nprint([name for name in {slow!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "[]" == finished.stdout.strip()


def errors() -> list[type[ReproError]]:
    """Return every error class of the package, wherever it is defined."""
    for found in pkgutil.walk_packages(repro.__path__, "repro."):
        if not found.name.startswith(("repro.agent", "repro.__main__")):
            importlib.import_module(found.name)
    classes, waiting = [], [ReproError]
    while waiting:
        classes.append(waiting.pop())
        waiting.extend(classes[-1].__subclasses__())
    return [each for each in classes if each.__module__.startswith("repro.")]


def test_every_error_has_a_slug_of_its_own_and_an_exit_code_from_the_table() -> None:
    found = errors()
    assert len(found) > 5
    assert len(found) == len({each.slug for each in found}), sorted(each.slug for each in found)
    assert set() == {each.exit_code for each in found} - EXIT_CODES


def test_every_error_has_a_paragraph_in_the_reference() -> None:
    headings = re.findall(r"^## `(.+)`", (ROOT / "docs/reference/errors.md").read_text(), re.MULTILINE)
    assert sorted(each.slug for each in errors()) == sorted(headings)


def test_the_model_and_the_tables_of_the_manifest_agree() -> None:
    declared = {name: [column_of(each) for each in fields_of(row)] for name, row in model.TABLES.items()}
    assert declared == {name: columns for name, columns in tables_of_ddl().items() if name in model.TABLES}
    assert {"manifest"} >= set(tables_of_ddl()) - set(model.TABLES)  # the schema's version is no row of the model


def test_the_fields_of_a_record_are_the_tables_in_their_order() -> None:
    hints = typing.get_type_hints(model.Record)
    rows = [next((arg for arg in typing.get_args(hint) if arg is not Ellipsis), hint) for hint in hints.values()]
    assert list(model.TABLES.values()) == rows


def test_a_column_that_may_be_missing_is_told_from_one_that_may_not() -> None:
    assert ("x", "BIGINT", True) == column_of(("x", int | None))
    assert ("x", "VARCHAR[]", False) == column_of(("x", tuple[str, ...]))


def fields_of(row: type) -> list[tuple[str, object]]:
    hints = typing.get_type_hints(row)
    return [(each.name, hints[each.name]) for each in fields(row)]


def column_of(declared: tuple[str, object]) -> tuple[str, str, bool]:
    """Return a field as (name, type in SQL, whether it may be NULL)."""
    name, hint = declared
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    (kind,) = (option for option in options if option is not type(None))
    sql = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", tuple[str, ...]: "VARCHAR[]"}
    return name, "VARCHAR" if typing.get_origin(kind) is typing.Literal else sql[kind], len(options) == 2


def tables_of_ddl() -> dict[str, list[tuple[str, str, bool]]]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute((ROOT / "schemas/manifest-1.sql").read_text())
        rows = connection.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY table_name, column_index"
        ).fetchall()
    return {
        table: [(name, kind, nullable) for owner, name, kind, nullable in rows if owner == table]
        for table in dict.fromkeys(row[0] for row in rows)
    }
