"""The order of a folder's names is told while recording, and given back on a replay where the names are the same."""

import os
import tempfile
from pathlib import Path

import pytest
from event_logs import entropy_document, of_kind

LISTS = """
import glob, os, pathlib, sys
folder = sys.argv[1]
print([
    os.listdir(folder), os.listdir(os.fsencode(folder)), [entry.name for entry in os.scandir(folder)],
    [names for _, _, names in os.walk(folder)], glob.glob(folder + '/*.x'),
    sorted(path.name for path in pathlib.Path(folder).iterdir()),
    [path.name for path in pathlib.Path(folder).iterdir()], [path.name for path in pathlib.Path(folder).glob('*')],
])
with os.scandir(folder) as entries: print(next(entries).name, len(list(entries)))
"""


@pytest.fixture
def two_folders():
    """Return two folders of the same names, which the system lists in different orders: one in memory, latest first."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as top:
        folders = [Path(top) / side / "data" for side in ("a", "b")]
        for folder, names in zip(folders, (range(40), reversed(range(40)))):
            folder.mkdir(parents=True)
            for name in names:
                (folder / f"{name}.x").touch()
        if os.listdir(folders[0]) == os.listdir(folders[1]):
            pytest.skip("this file system lists names in the same order, however they were made")
        yield folders


@pytest.mark.usefixtures("unmeasured_jobs")
def test_the_recorded_order_is_given_back(run_agent, python, two_folders):
    first, second = map(str, two_folders)
    recorded, original = run_agent(LISTS, python=python, arguments=(first,))
    _, bare = run_agent(LISTS, python=python, arguments=(first,), agent=False)
    _, other = run_agent(LISTS, python=python, arguments=(second,), agent=False)
    replayed, again = run_agent(LISTS, python=python, arguments=(second,), entropy=entropy_document(recorded))
    assert ("", "") == (original.stderr, again.stderr)
    assert bare.stdout == original.stdout, "recording changes nothing"
    assert other.stdout.replace(second, first) != original.stdout
    assert again.stdout.replace(second, first) == original.stdout
    assert [] == of_kind(recorded, "gap") + of_kind(replayed, "gap")
    listings = [event for event in of_kind(replayed, "entropy") if " " in event["stream"]]
    assert {"os.listdir data", "os.scandir data"} == {event["stream"] for event in listings}
    assert {True} == {event["substituted"] for event in listings}
    assert {"script.py"} == {event["site"].rpartition("/")[2].partition(":")[0] for event in listings}


@pytest.mark.usefixtures("unmeasured_jobs")
def test_other_names_are_left_as_they_are_and_said(run_agent, python, two_folders):
    first, second = map(str, two_folders)
    script = "import os, sys; print(os.listdir(sys.argv[1]))"
    recorded, _ = run_agent(script, python=python, arguments=(first,))
    (two_folders[1] / "more.x").touch()
    replayed, again = run_agent(script, python=python, arguments=(second,), entropy=entropy_document(recorded))
    _, bare = run_agent(script, python=python, arguments=(second,), agent=False)
    assert bare.stdout == again.stdout
    (gap,) = of_kind(replayed, "gap")
    assert ("randomness", "os.listdir data") == (gap["topic"], gap["subject"])
    assert "other names" in gap["reason"]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_recorded_order_that_is_none_is_a_gap(run_agent, python, two_folders):
    script = "import os, sys; print(sorted(os.listdir(sys.argv[1]))[:2])"
    recorded, original = run_agent(script, python=python, arguments=(str(two_folders[0]),))
    document = entropy_document(recorded)
    digest = document["main"]["os.listdir data"][0][:64]
    document["main"]["os.listdir data"] = [digest + "0000" * 40]
    replayed, again = run_agent(script, python=python, arguments=(str(two_folders[1]),), entropy=document)
    assert original.stdout == again.stdout
    assert ["ValueError: the recorded order is none of these names"] == [
        gap["reason"] for gap in of_kind(replayed, "gap")
    ]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_what_libraries_list_is_not_told(run_agent, python, tmp_path):
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "library.py").write_text("import os\ndef names(): return os.listdir('.')\n")
    script = (
        "import sys, tempfile, shutil; sys.path.insert(0, 'site-packages'); import library; library.names()\n"
        "folder = tempfile.mkdtemp(); open(folder + '/x', 'w').close(); shutil.rmtree(folder)\n"
        "import os; print(os.path.exists(folder)); os.listdir()"
    )
    events, finished = run_agent(script, python=python)
    assert ("False\n", "") == (finished.stdout, finished.stderr)
    assert ["os.listdir ."] == [event["stream"] for event in of_kind(events, "entropy") if "os." in event["stream"]]


AS_IT_WAS = """
import copy, inspect, os, pickle, shutil, warnings
warnings.simplefilter('error')
class Accessor: listdir = os.listdir; scandir = os.scandir
os.makedirs('empty', exist_ok=True)
print(Accessor().listdir('empty'), list(Accessor().scandir('empty')), os.listdir(path='empty'))
print(pickle.loads(pickle.dumps(os.listdir)) is os.listdir, copy.deepcopy(os.urandom) is os.urandom)
print(os.listdir, os.listdir.__name__, os.listdir.__doc__[:30], inspect.signature(os.listdir))
print(os.listdir in os.supports_fd, os.scandir in os.supports_fd, shutil.rmtree.avoids_symlink_attacks)
descriptor = os.open('empty', os.O_RDONLY)
print(os.listdir(descriptor), [entry.name for entry in os.scandir(descriptor)])
for call in (os.listdir, os.scandir, os.urandom):
    for argument in ('no such folder', 5.5):
        try: call(argument)
        except Exception as error: print(type(error).__name__, error)
scan = os.scandir('.'); scan.close(); print(list(scan), type(scan).__name__)
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_the_functions_are_as_they_were(run_agent, python):
    events, watched = run_agent(AS_IT_WAS, python=python)
    _, bare = run_agent(AS_IT_WAS, python=python, agent=False)
    assert (bare.stdout, bare.stderr) == (watched.stdout, watched.stderr)
    assert [] == of_kind(events, "gap")


def test_a_traceback_names_no_agent(run_agent):
    script = "import os\nos.listdir('no such folder')"
    _, watched = run_agent(script)
    _, bare = run_agent(script, agent=False)
    assert bare.stderr == watched.stderr
