"""Seeds and entropy are told while recording, and put back on a replay: an unseeded script repeats itself."""

import json
import sys

import pytest
from event_logs import entropy_document, of_kind

UNSEEDED = """
import os, random, tempfile, time, uuid
print(random.random(), random.gauss(0, 1), random.Random().random(), random.Random(None).random(),
    uuid.uuid4(), tempfile.mktemp())
random.seed(); print(random.random())
random.seed(time.time()); print(random.random())
random.seed(int.from_bytes(os.urandom(16), 'little')); print(random.random())
if os.fork() == 0:
    print('child', random.random(), random.Random().random(), uuid.uuid4(), flush=True); raise SystemExit
os.wait()
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_an_unseeded_script_repeats_itself(run_agent, python):
    recorded, first = run_agent(UNSEEDED, python=python)
    replayed, second = run_agent(UNSEEDED, python=python, entropy=entropy_document(recorded))
    _, other = run_agent(UNSEEDED, python=python)
    assert ("", "") == (first.stderr, second.stderr)
    assert first.stdout == second.stdout
    assert not set(other.stdout.splitlines()) & set(first.stdout.splitlines())
    assert of_kind(recorded, "gap") == of_kind(replayed, "gap") == []
    assert {False} == {event["substituted"] for event in of_kind(recorded, "entropy") + of_kind(recorded, "seed")}
    assert {True} == {event["substituted"] for event in of_kind(replayed, "entropy")}
    assert [True, True] == [event["replaying"] for event in of_kind(replayed, "start")]
    for kind, names in (
        ("entropy", ("stream", "ordinal", "value", "site")),
        ("seed", ("function", "argument")),
        ("generator", ("moment", "sha256")),
    ):
        assert [[event[name] for name in names] for event in of_kind(recorded, kind)] == [
            [event[name] for name in names] for event in of_kind(replayed, kind)
        ]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_seeds_are_told_with_their_site(run_agent, python, tmp_path):
    script = (
        "import random\ndef begin():\n    random.seed(2**70)\nbegin()\nrandom.seed('text')\n"
        "random.seed(a=7)\nrandom.Random(5)\nrandom.Random(-3)\nrandom.SystemRandom(4)\n"
    )
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    told = [
        (event["function"], event["ordinal"], event["argument"], event["site"].rpartition("/")[2])
        for event in of_kind(events, "seed")
    ]
    assert [
        ("random.seed", 0, str(2**70), "script.py:3"),
        ("random.seed", 1, "'text'", "script.py:5"),
        ("random.seed", 2, "7", "script.py:6"),
        ("random.Random.seed", 0, "5", "script.py:7"),
        ("random.Random.seed", 1, "-3", "script.py:8"),
    ] == told
    assert of_kind(events, "seed")[0]["site"] == f"{tmp_path}/script.py:3" or python != sys.executable


def test_only_the_recorded_process_is_put_back(run_agent, python):
    document = {"other": {"random.global": ["00"]}, "seeds": {"other": {"random.seed": ["1"]}}}
    events, finished = run_agent(
        "import random; random.seed(5); print(random.random())", python=python, entropy=document
    )
    _, bare = run_agent("import random; random.seed(5); print(random.random())", python=python, agent=False)
    assert bare.stdout == finished.stdout
    assert {
        ("randomness", "random.global"),
        ("randomness", "random.seed"),
    } == {(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")}


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_seed_is_substituted_and_said(run_agent, python):
    document = {"seeds": {"main": {"random.seed": ["123", "0.25", "77"]}}}
    script = (
        "import random\nrandom.seed(5); print(random.random()); random.seed(9.5); "
        "print(random.random()); random.seed('kept'); print(random.random())"
    )
    events, finished = run_agent(script, python=python, entropy=document)
    _, bare = run_agent(
        "import random\nfor seed in (123, 0.25, 'kept'): random.seed(seed); print(random.random())",
        python=python,
        agent=False,
    )
    assert bare.stdout == finished.stdout
    assert [
        ("123", True),
        ("0.25", True),
        ("'kept'", False),
    ] == [(event["argument"], event["substituted"]) for event in of_kind(events, "seed")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"main": 7, "seeds": [], "settings": null}',
        '{"main": {"random.global": ["zz"]}}',
        '{"main": {"random.global": [5]}}',
    ],
)
def test_a_broken_entropy_file_is_a_gap(run_agent, python, tmp_path, text):
    (tmp_path / "broken.json").write_text(text)
    events, finished = run_agent(
        "import random; print(len(str(random.random())) > 3)",
        python=python,
        env={"REPRO_ENTROPY": str(tmp_path / "broken.json")},
    )
    assert ("True\n", "") == (finished.stdout, finished.stderr)
    assert of_kind(events, "gap")


def test_too_many_values_are_one_gap(run_agent, python):
    events, _ = run_agent("import uuid\nfor _ in range(1010): uuid.uuid4()", python=python)
    assert list(range(1000)) == [
        event["ordinal"] for event in of_kind(events, "entropy") if event["stream"] == "uuid.uuid4"
    ]
    assert [("randomness", "uuid.uuid4")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_drawing_more_than_was_recorded_is_a_gap(run_agent, python):
    recorded, first = run_agent("import uuid; print(uuid.uuid4())", python=python)
    replayed, second = run_agent(
        "import uuid; print(uuid.uuid4()); print(uuid.uuid4())", python=python, entropy=entropy_document(recorded)
    )
    assert first.stdout.strip() == second.stdout.splitlines()[0]
    assert "replay drew more than the 1 values" in of_kind(replayed, "gap")[0]["reason"]


def test_recording_sets_nothing(run_agent, python):
    script = """
import pickle, random, inspect, uuid
random.seed(42); state = random.getstate()
generator = pickle.loads(pickle.dumps(random.Random(3))); print(generator.random(), random.getstate() == state)
class Mine(random.Random):
    def seed(self, *args): super().seed(11)
print(Mine().random(), Mine(5).random(), random.SystemRandom().getrandbits(8) < 256)
class Odd(random.Random):
    def getstate(self): raise NotImplementedError
    def random(self): return 0.5
print(Odd().random(), inspect.signature(random.Random.seed),
    random.seed.__doc__ == random.Random.seed.__doc__, random.Random.seed.__qualname__, uuid.uuid4.__module__)
for bad in ([1], {}, object):
    try: random.seed(bad)
    except TypeError as error: print(type(error).__name__)
    else: print('taken')
"""
    events, watched = run_agent(script, python=python)
    _, bare = run_agent(script, python=python, agent=False)
    assert (bare.stdout, bare.stderr) == (watched.stdout, watched.stderr)
    assert ["NotImplementedError: "] == [gap["reason"] for gap in of_kind(events, "gap")]


def test_generators_are_digested_at_import_and_end(run_agent, python):
    import hashlib
    import random

    events, _ = run_agent("import random; random.seed(7)", python=python)
    words = random.Random(7).getstate()[1]
    expected = hashlib.sha256(b"".join(word.to_bytes(4, "little") for word in words)).hexdigest()
    assert [
        ("import", "random.global"),
        ("end", "random.global"),
    ] == [(event["moment"], event["generator"]) for event in of_kind(events, "generator")]
    assert f"sha256:{expected}" == of_kind(events, "generator")[1]["sha256"]


NUMPY = """
import os, time
import numpy as np
print(np.random.rand(), np.random.default_rng().random(), np.random.SeedSequence().entropy,
    np.random.MT19937().random_raw(), np.random.RandomState().rand())
np.random.seed(None); print(np.random.rand())
np.random.seed(int(time.time() * 1e6) % 2**32); print(np.random.rand())
print(np.random.default_rng(time.time_ns()).random(), np.random.default_rng(seed=time.time_ns()).random())
"""


def test_numpy_unseeded(run_agent):
    recorded, first = run_agent(NUMPY)
    replayed, second = run_agent(NUMPY, entropy=entropy_document(recorded))
    _, other = run_agent(NUMPY)
    assert ("", "") == (first.stderr, second.stderr)
    assert first.stdout == second.stdout
    assert not set(other.stdout.split()) & set(first.stdout.split())
    assert 6 == sum(event["stream"] == "numpy.randbits" for event in of_kind(recorded, "entropy"))
    assert [
        "numpy.random.seed",
        "numpy.random.default_rng",
        "numpy.random.default_rng",
    ] == [event["function"] for event in of_kind(replayed, "seed")]
    assert of_kind(recorded, "gap") == of_kind(replayed, "gap") == []


def test_numpy_is_as_it_was(run_agent):
    script = """
import pickle, warnings
warnings.simplefilter('error')
import numpy as np
np.random.seed(0); print(np.random.rand(3), np.random.default_rng(5).random(), np.random.default_rng([1, 2]).random())
generator = np.random.default_rng(3)
print(np.random.default_rng(generator) is generator, isinstance(generator, np.random.Generator),
    isinstance(np.random.SeedSequence(4), np.random.SeedSequence))
print(pickle.loads(pickle.dumps(np.random.seed)) is np.random.seed,
    pickle.loads(pickle.dumps(np.random.default_rng)) is np.random.default_rng)
print(pickle.loads(pickle.dumps(generator)).random(), np.random.seed.__doc__[:20], np.random.default_rng.__name__)
for wrong in (-1, 'x', 2**40):
    try: np.random.seed(wrong)
    except Exception as error: print(type(error).__name__, error)
"""
    events, watched = run_agent(script)
    _, bare = run_agent(script, agent=False)
    assert (bare.stdout, bare.stderr) == (watched.stdout, watched.stderr)
    assert [] == of_kind(events, "gap")
    assert ["0", "5", "[1, 2]", "3"] == [event["argument"] for event in of_kind(events, "seed")][:4]
    assert not [event for event in of_kind(events, "seed") if " at 0x" in event["argument"]]
    assert [__import__("numpy").__version__] == [event["version"] for event in of_kind(events, "library")]


def test_settings_of_this_process_are_read(run_agent, python):
    script = (
        "import gc\nagent = next(o for o in gc.get_objects() if type(o).__name__ == 'Agent')\nprint(agent.settings)"
    )
    _, finished = run_agent(script, python=python, entropy={"settings": {"main": {"torch.num_threads": "1"}}})
    assert {"torch.num_threads": "1"} == json.loads(finished.stdout.replace("'", '"'))


NUMPY_CLASSES = """
import time
import numpy as np
def now(): return time.time_ns()
print(np.random.RandomState(now() % 2**32).rand(), np.random.RandomState(seed=[now() % 2**32, 5]).rand())
sequence = np.random.SeedSequence(now())
print(sequence.entropy, sequence.spawn(2)[1].generate_state(1), np.random.SeedSequence(entropy=(now(), 7)).entropy)
for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM):
    print(np.random.Generator(kind(now())).random(), np.random.Generator(kind(seed=now())).random())
state = np.random.RandomState(1); state.seed(now() % 2**32); print(state.rand())
state.seed(seed=now() % 2**32); print(state.rand())
np.random.seed(np.array([now() % 2**32, 3])); print(np.random.rand())
print(np.random.default_rng([now(), 3]).random(), np.random.default_rng(np.array([now(), 3])).random())
"""


def test_numpy_classes_seeded_by_the_time(run_agent):
    recorded, first = run_agent(NUMPY_CLASSES)
    replayed, second = run_agent(NUMPY_CLASSES, entropy=entropy_document(recorded))
    _, other = run_agent(NUMPY_CLASSES)
    assert ("", "") == (first.stderr, second.stderr)
    assert first.stdout == second.stdout
    assert not set(other.stdout.split()) & set(first.stdout.split()) - {"7)", "5]"}
    assert of_kind(recorded, "gap") == of_kind(replayed, "gap") == []
    assert {False} == {event["substituted"] for event in of_kind(recorded, "seed")}
    assert 19 == sum(event["substituted"] for event in of_kind(replayed, "seed"))


def test_numpy_classes_are_as_they_were(run_agent):
    script = """
import copy, functools, inspect, pickle, warnings
warnings.simplefilter('error')
import numpy as np
rng = np.random.RandomState(5)
print(isinstance(rng, np.random.RandomState), isinstance(np.random.mtrand._rand, np.random.RandomState),
    isinstance(5, np.random.RandomState), issubclass(type(rng), np.random.RandomState), np.random.RandomState,
    np.random.RandomState.__name__, np.random.RandomState.__doc__[:30], inspect.signature(np.random.RandomState))
print(rng.rand(), np.random.RandomState(np.random.MT19937(3)).rand(), np.random.RandomState().rand() < 1)
for thing in (rng, np.random.PCG64(3), np.random.SeedSequence(3), np.random.default_rng(3)):
    again = pickle.loads(pickle.dumps(thing))
    print(type(again) is type(thing), type(copy.deepcopy(thing)) is type(thing), type(thing))
for name in ('RandomState', 'PCG64', 'SeedSequence'):
    print(pickle.loads(pickle.dumps(getattr(np.random, name))) is getattr(np.random, name))
class Mine(np.random.RandomState):
    def __init__(self, extra): super().__init__(extra); self.extra = extra
mine = Mine(4)
print(mine.rand(), mine.extra, isinstance(mine, Mine), isinstance(mine, np.random.RandomState), isinstance(rng, Mine),
    inspect.signature(Mine), Mine)
@functools.singledispatch
def kind(value): return 'other'
@kind.register(np.random.RandomState)
def _(value): return 'state'
print(kind(rng), kind(mine), kind(5))
print(np.random.Generator(np.random.PCG64(np.random.SeedSequence(9))).random())
print(rng.seed.__name__, rng.seed(3), rng.rand())
for bad in ('x', -1, 1.5, object):
    for call in (np.random.RandomState, np.random.PCG64, np.random.SeedSequence, rng.seed):
        try: call(bad)
        except Exception as error: print(type(error).__name__, str(error).partition(' at 0x')[0])
        else: print('taken')
"""
    events, watched = run_agent(script)
    _, bare = run_agent(script, agent=False)
    assert (bare.stdout, bare.stderr) == (watched.stdout, watched.stderr)
    assert [] == of_kind(events, "gap")


THREADS = """
import random, sys, threading, time, uuid
from concurrent.futures import ThreadPoolExecutor
def seeded(number):
    time.sleep(random.SystemRandom().random() / 50)
    return random.Random(number).random()
def unseeded(): found.append((random.Random().random(), uuid.uuid4(), random.Random(time.time_ns()).random()))
with ThreadPoolExecutor(4) as pool: print(list(pool.map(seeded, range(20))))
for name in 'ab':
    found = []
    thread = threading.Thread(target=unseeded, name=name)
    thread.start(); print(random.Random().random()); thread.join()
    print(found, uuid.uuid4())
print(len(threading.enumerate()))
"""


@pytest.mark.usefixtures("unmeasured_jobs")
def test_threads_draw_from_streams_of_their_own(run_agent, python):
    recorded, first = run_agent(THREADS, python=python)
    replayed, second = run_agent(THREADS, python=python, entropy=entropy_document(recorded))
    assert ("", "") == (first.stderr, second.stderr)
    assert first.stdout == second.stdout
    assert [] == of_kind(recorded, "gap") + of_kind(replayed, "gap")
    assert {"uuid.uuid4", "uuid.uuid4@a", "uuid.uuid4@b"} <= {event["stream"] for event in of_kind(replayed, "entropy")}


@pytest.mark.usefixtures("unmeasured_jobs")
@pytest.mark.parametrize("call", ["str(now)", "str(now).encode()", "now", "now / 7", "Indexed(now)"])
def test_a_seed_of_any_kind_is_put_back(run_agent, python, call):
    script = f"""
import random, time
class Indexed(int):
    __slots__ = ()
now = time.time_ns()
random.seed({call}); print(random.random(), random.Random({call}).random())
"""
    recorded, first = run_agent(script, python=python)
    replayed, second = run_agent(script, python=python, entropy=entropy_document(recorded))
    assert first.stdout == second.stdout
    assert [True, True] == [event["substituted"] for event in of_kind(replayed, "seed")]
    assert [] == of_kind(replayed, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_recorded_seed_of_another_kind_is_a_gap(run_agent, python):
    document = {"seeds": {"main": {"random.seed": ["'text'", "5"]}}}
    script = "import random\nrandom.seed(5); print(random.random()); random.seed('x'); print(random.random())"
    events, finished = run_agent(script, python=python, entropy=document)
    _, bare = run_agent(script, python=python, agent=False)
    assert bare.stdout == finished.stdout
    assert ["random.seed"] == [gap["subject"] for gap in of_kind(events, "gap") if "another kind" in gap["reason"]]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_uuid_made_from_the_time_is_put_back(run_agent, python):
    script = "import uuid; drawn = uuid.uuid1(); print(drawn, uuid.uuid1(node=5, clock_seq=3), drawn.is_safe)"
    recorded, first = run_agent(script, python=python)
    replayed, second = run_agent(script, python=python, entropy=entropy_document(recorded))
    assert "" == first.stderr == second.stderr
    assert first.stdout == second.stdout
    assert [] == of_kind(replayed, "gap")


FOREST = """
import concurrent.futures, numpy as np
np.random  # imported when it is first asked for
def tree(seed):
    return np.random.RandomState(seed).rand()
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(sum(pool.map(tree, range(400))))
try: np.random.RandomState(-1)
except ValueError: print(np.random.default_rng().random() < 1)
np.random.RandomState()
"""


def test_a_state_made_of_a_seed_draws_nothing_that_counts(run_agent):
    """It draws entropy before its seed is set: that of threads which share out the work would shift on a replay."""
    pytest.importorskip("numpy")
    events, finished = run_agent(FOREST)
    assert (0, "True") == (finished.returncode, finished.stdout.split()[1])
    drawn = [event["ordinal"] for event in of_kind(events, "entropy") if event["stream"].startswith("numpy.randbits")]
    assert [0, 1, 2] == drawn  # of the global state, of `default_rng`, and of the state without a seed
