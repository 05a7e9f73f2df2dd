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
