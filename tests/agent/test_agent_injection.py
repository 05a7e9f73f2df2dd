"""The agent wakes in every Python process, hides nobody's sitecustomize, and shows nowhere."""

import os
import subprocess
import sys

import pytest
from event_logs import INJECT, bare_environment, of_kind, read_events


@pytest.mark.usefixtures("unmeasured_jobs")
def test_start_and_end_are_told(run_agent, python):
    events, finished = run_agent("print('hello')", python=python)
    assert ("hello\n", "", 0) == (finished.stdout, finished.stderr, finished.returncode)
    assert ["start", "canary", "mapped", "end"] == [event["event"] for event in events if event["event"] != "open"]
    start = events[0]
    assert "main" == start["process_key"]
    assert start["parent_key"] is None
    assert [python, "script.py"] == start["argv"]
    assert (
        subprocess.check_output([python, "-c", "import platform;print(platform.python_version())"], text=True).strip()
        == start["python_version"]
    )


ASLEEP = """
import sys
print([name for name in sys.modules if name.startswith('_repro_agent.')])
print([finder for finder in sys.meta_path if '_repro' in type(finder).__module__])
"""


def test_sleeps_without_a_folder_for_events(run_agent, python):
    events, finished = run_agent(ASLEEP, python=python, env={"REPRO_EVENTS": ""})
    assert [] == events
    assert ("[]\n[]\n", "") == (finished.stdout, finished.stderr)


SURFACE = """
import sys, os
print([p for p in sys.path if 'inject' in p], 'repro' in sys.modules, 'sitecustomize' in sys.modules)
print(os.environ['PYTHONPATH'].split(os.pathsep)[0].endswith('inject'))
try:
    import sitecustomize
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_only_the_environment_shows_it(run_agent, python):
    _, finished = run_agent(SURFACE, python=python)
    assert [
        "[] False False",
        "True",
        "ModuleNotFoundError No module named 'sitecustomize'",
    ] == finished.stdout.splitlines()
    assert "" == finished.stderr


def test_sys_path_is_what_it_would_have_been(run_agent, python):
    show = "import sys; print(sys.path)"
    _, bare = run_agent(show, python=python, agent=False)
    _, watched = run_agent(show, python=python)
    assert bare.stdout == watched.stdout


@pytest.fixture
def users_sitecustomize(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder / "sitecustomize.py"


def run_beside(run_agent, python, path, script):
    _, bare = run_agent(script, python=python, agent=False, env={"PYTHONPATH": str(path.parent)})
    events, watched = run_agent(script, python=python, env={"PYTHONPATH": f"{INJECT}{os.pathsep}{path.parent}"})
    return events, bare, watched


def test_users_sitecustomize_runs(run_agent, python, users_sitecustomize):
    users_sitecustomize.write_text(
        "import sys\nmark = __name__, __spec__.name, sys.modules[__name__].__file__ == __file__\n"
    )
    script = "import sitecustomize; print(sitecustomize.mark, sitecustomize.__file__)"
    events, bare, watched = run_beside(run_agent, python, users_sitecustomize, script)
    assert bare.stdout == watched.stdout
    assert "('sitecustomize', 'sitecustomize', True)" in watched.stdout
    assert of_kind(events, "start")


@pytest.mark.parametrize(
    "body", ["raise ValueError('theirs')", "import no_such_module", "raise ImportError('no name')"]
)
def test_users_sitecustomize_raises_as_it_would_have(run_agent, python, users_sitecustomize, body):
    users_sitecustomize.write_text(body)
    events, bare, watched = run_beside(run_agent, python, users_sitecustomize, "print('on')")
    assert bare.stderr == watched.stderr
    assert watched.stdout == bare.stdout == "on\n"
    assert of_kind(events, "start")


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_isolated_interpreters_drop_it(option, tmp_path):
    environment = dict(bare_environment(), REPRO_EVENTS=str(tmp_path), PYTHONPATH=str(INJECT))
    finished = subprocess.run(
        [sys.executable, option, "-c", "print(1)"], env=environment, capture_output=True, text=True, check=True
    )
    assert ("1\n", "") == (finished.stdout, finished.stderr)
    assert [] == read_events(tmp_path)


def test_a_folder_that_cannot_be_written_stops_nothing(run_agent, python):
    _, finished = run_agent("print(open('script.py').read()[:5])", python=python, env={"REPRO_EVENTS": "/proc/nowhere"})
    assert ("print\n", "", 0) == (finished.stdout, finished.stderr, finished.returncode)


def test_an_environment_that_never_heard_of_repro(tmp_path, python):
    import venv

    if python != sys.executable:
        subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    else:
        venv.create(tmp_path / "env", with_pip=False)
    events = tmp_path / "events"
    events.mkdir()
    environment = dict(bare_environment(), REPRO_EVENTS=str(events), PYTHONPATH=str(INJECT))
    interpreter = tmp_path / "env/bin/python"
    finished = subprocess.run(
        [interpreter, "-c", "import random; print(1)"], env=environment, capture_output=True, text=True, check=True
    )
    assert ("1\n", "") == (finished.stdout, finished.stderr)
    start = of_kind(read_events(events), "start")[0]
    assert str(tmp_path / "env") == start["prefix"]
    assert start["base_prefix"] != start["prefix"]


USER_ERROR = """
import random
def fail():
    random.seed(None, version=object())
    raise RuntimeError("theirs")
fail()
"""


def test_tracebacks_of_the_user_are_untouched(run_agent, python):
    _, bare = run_agent(USER_ERROR, python=python, agent=False)
    _, watched = run_agent(USER_ERROR, python=python)
    assert bare.stderr == watched.stderr
    assert watched.returncode == bare.returncode == 1


def test_import_errors_look_as_they_would_have(run_agent, tmp_path):
    (tmp_path / "torch.py").write_text("import no_such_module\n")
    _, bare = run_agent("import torch", agent=False)
    events, watched = run_agent("import torch")
    assert bare.stderr == watched.stderr
    assert "no_such_module" in watched.stderr
    assert [] == of_kind(events, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_library_of_another_shape_is_a_gap(run_agent, tmp_path, python):
    (tmp_path / "uuid.py").write_text("__version__ = '9'\n")
    events, finished = run_agent("import uuid; print(uuid.__version__)", python=python)
    assert "9\n" == finished.stdout
    assert "9" == of_kind(events, "library")[0]["version"]
    assert [("agent", "hooks/uuid")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


LOADERS = """
import importlib.util, importlib.machinery, sys
spec = importlib.util.find_spec('uuid')
print(type(spec.loader).__name__, spec.loader.name, spec.origin == spec.loader.path)
import uuid, random
print(type(uuid.__loader__).__name__, uuid.__spec__.loader is uuid.__loader__, 'exec_module' in vars(uuid.__loader__))
import importlib
importlib.reload(uuid); importlib.reload(random)
print(isinstance(random.random(), float), len(uuid.uuid4().hex))
print([name for name in sys.modules if name.startswith('repro')])
"""


def test_loaders_keep_their_type(run_agent, python):
    events, finished = run_agent(LOADERS, python=python)
    assert [
        "SourceFileLoader uuid True",
        "SourceFileLoader True False",
        "True 32",
        "[]",
    ] == finished.stdout.splitlines()
    assert [] == of_kind(events, "gap")
