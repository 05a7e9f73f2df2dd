"""Every hook keeps the contract, and whatever a library's loader is, the user's import works."""

import subprocess

import pytest
from event_logs import AGENT, bare_environment, of_kind

HOOKS = sorted(path.stem for path in (AGENT / "hooks").glob("*.py") if path.stem != "__init__")

LOAD = """
import importlib.machinery, importlib.util, sys
sys.modules[{name!r}] = None
spec = importlib.util.spec_from_file_location(
    '_repro_agent', {package!r} + '/__init__.py', submodule_search_locations=[{package!r}])
sys.modules['_repro_agent'] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
hook = importlib.import_module('_repro_agent.hooks.' + {name!r})
print(type(hook.MODULES).__name__, callable(hook.install), *hook.MODULES)
"""


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_keeps_the_contract(name, python):
    """It loads where its library is not to be had, and is named like the library's top-level module."""
    script = LOAD.format(name=name, package=str(AGENT))
    told = subprocess.check_output([python, "-c", script], env=bare_environment(), text=True).split()
    assert ["tuple", "True"] == told[:2]
    assert {name} == {module.partition(".")[0] for module in told[2:]}


FOREIGN_LOADER = """
import importlib.machinery, sys
class Loader:
    __slots__ = ()
    def create_module(self, spec): return None
    def exec_module(self, module): module.answer = 42
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'uuid': return importlib.machinery.ModuleSpec(name, {loader})
sys.meta_path.insert(1, Finder())
import uuid
print(uuid.answer)
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_loader_that_cannot_be_followed_is_a_gap(run_agent, python):
    events, finished = run_agent(FOREIGN_LOADER.format(loader="Loader()"), python=python)
    assert ("42\n", "") == (finished.stdout, finished.stderr)
    assert [("agent", "uuid")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


def test_a_namespace_package_of_a_librarys_name_is_a_gap(run_agent, python, tmp_path):
    (tmp_path / "torch").mkdir()
    script = (
        "import sys; sys.path = [entry for entry in sys.path if 'site-packages' not in entry]\n"
        "import torch; print(bool(torch.__path__))"
    )
    events, finished = run_agent(script, python=python)
    assert ("True\n", "") == (finished.stdout, finished.stderr)
    assert {"agent"} == {gap["topic"] for gap in of_kind(events, "gap")}


SHARED_LOADER = """
import sys, zipfile
with zipfile.ZipFile('both.zip', 'w') as archive:
    archive.writestr('uuid.py', 'import beside\\n__version__ = "7"\\ndef uuid4(): return None\\n')
    archive.writestr('beside.py', '__version__ = "8"\\n')
sys.path.insert(0, 'both.zip')
import uuid, beside
loader = uuid.__loader__
print(uuid.__version__, beside.__version__, 'exec_module' in vars(loader), hasattr(loader, 'exec_module'))
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_loader_of_several_modules(run_agent, python):
    events, finished = run_agent(SHARED_LOADER, python=python)
    assert "" == finished.stderr
    if "7 8 False True\n" == finished.stdout:
        assert [("uuid", "7")] == [(event["name"], event["version"]) for event in of_kind(events, "library")]
    else:  # before Python 3.10, modules in archives are loaded in a way that cannot be followed
        assert "7 8 False False\n" == finished.stdout
        assert [("agent", "uuid")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_hook_that_does_not_load_is_a_gap(run_agent, python):
    script = "import sys; sys.modules['_repro_agent.hooks.uuid'] = None\nimport uuid; print(len(uuid.uuid4().hex))"
    events, finished = run_agent(script, python=python)
    assert ("32\n", "") == (finished.stdout, finished.stderr)
    assert [("agent", "hooks/uuid")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


RECURSIVE_FINDER = """
import importlib.util, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'uuid': return importlib.util.find_spec(name)
sys.meta_path.insert(1, Finder())
import uuid
print(len(uuid.uuid4().hex))
"""


def test_a_finder_that_asks_again(run_agent, python):
    events, finished = run_agent(RECURSIVE_FINDER, python=python)
    assert "RecursionError" in finished.stderr or "32\n" == finished.stdout
    _, bare = run_agent(RECURSIVE_FINDER, python=python, agent=False)
    assert ("RecursionError" in bare.stderr) == ("RecursionError" in finished.stderr)
    assert [] == of_kind(events, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_failing_import_is_followed_by_a_good_one(run_agent, python, tmp_path):
    (tmp_path / "uuid.py").write_text(
        "import os\nif not os.path.exists('ready'): raise OSError('not yet')\n__version__ = '3'\n"
    )
    script = (
        "try:\n    import uuid\nexcept OSError as error: print(error)\n"
        "open('ready', 'w').close()\nimport uuid; print(uuid.__version__)"
    )
    events, finished = run_agent(script, python=python)
    assert ("not yet\n3\n", "") == (finished.stdout, finished.stderr)
    assert ["uuid"] == [event["name"] for event in of_kind(events, "library")]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_warnings_name_the_users_line(run_agent, python, tmp_path):
    (tmp_path / "uuid.py").write_text("import warnings\nwarnings.warn('theirs', stacklevel=2)\ndef uuid4(): pass\n")
    _, watched = run_agent("import uuid", python=python)
    _, bare = run_agent("import uuid", python=python, agent=False)
    assert "script.py:1: UserWarning: theirs" in bare.stderr
    assert bare.stderr == watched.stderr
