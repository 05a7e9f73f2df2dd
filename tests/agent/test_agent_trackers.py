"""What a run logs through a tracker, or tells `repro` itself: kept exactly, and nothing changes in the tracker."""

import json
import re
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
from event_logs import INJECT, ROOT, Event, bare_environment, of_kind

TRACKERS = ROOT / "build" / "trackers"
"""What `requirements/trackers.txt` holds."""

needs_trackers = pytest.mark.skipif(
    not (TRACKERS / ".ready").exists(), reason="trackers: not installed (make build/trackers/.ready)"
)


@dataclass(frozen=True)
class Compared:
    """One script, run with the agent and without."""

    events: list[Event]
    watched: Any
    bare: Any

    def points(self) -> list[tuple[str, int, float, str]]:
        return points(self.events)

    def parameters(self) -> dict[str, str]:
        return {event["name"]: event["value"] for event in of_kind(self.events, "hyperparameter")}


def points(events: list[Event]) -> list[tuple[str, int, float, str]]:
    """Return the metrics as (name, step, value, dtype), in the order in which they were told."""
    return [(e["name"], e["step"], float.fromhex(e["value"]), e["dtype"]) for e in of_kind(events, "metric")]


def gaps(events: list[Event]) -> list[tuple[str, str]]:
    return [(event["subject"], event["reason"]) for event in of_kind(events, "gap")]


def compare(factory, script: str) -> Compared:
    from conftest import _run_agent

    folders = factory.mktemp("watched"), factory.mktemp("bare")
    offline = {"WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_SILENT": "true"}
    events, watched = _run_agent(folders[0], script, env={"PYTHONPATH": f"{INJECT}:{TRACKERS}", **offline})
    _, bare = _run_agent(folders[1], script, env={"PYTHONPATH": str(TRACKERS), **offline}, agent=False)
    assert (0, 0) == (watched.returncode, bare.returncode), watched.stderr
    return Compared(events, watched, bare)


READ_EVENT_FILES = """
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
for path in sorted(pathlib.Path().glob('**/*tfevents*'), key=lambda path: (str(path.parent), path.stat().st_mtime_ns)):
    for record in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(record)
        event.ClearField('wall_time')
        tags = [value.tag for value in event.summary.value]
        if not any(tag.startswith('_hparams_/session_') for tag in tags):  # they hold the time
            print(path.parent, tags, event.SerializeToString(deterministic=True).hex() if tags else '')
"""

TENSORBOARD = """
import pathlib
import numpy, torch
from torch.utils.tensorboard import SummaryWriter
one, two = SummaryWriter('one'), SummaryWriter(pathlib.Path('two'))
for step in range(3):
    one.add_scalar('loss', torch.tensor(0.1 * step, requires_grad=True), step)
    two.add_scalar(tag='loss', scalar_value=0.1 * step, global_step=step)
    one.add_scalars('pair', {'x': numpy.float32(0.1), 'y': 3}, step)
    one.add_histogram('weights', torch.arange(4.0), step)
one.add_scalar('lr', float('nan'))
one.add_scalar('lr', float('inf'))
one.add_scalar('again', torch.tensor([1.5], dtype=torch.bfloat16), 7)
one.add_scalar('again', torch.nn.Parameter(torch.tensor(2.5, dtype=torch.float64)), numpy.int64(7))
one.add_scalar('r\\u00e9call "@\\\\5"', 1.0, 2)
one.add_hparams({'rate': 0.25, 'kind': 'adam', 'deep': True}, {'final': 0.5}, run_name='last')
one.close(); two.close()
"""


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory):
    return compare(tmp_path_factory, TENSORBOARD + READ_EVENT_FILES)


@needs_trackers
@pytest.mark.torch
def test_tensorboard_is_told_as_it_was_given(tensorboard):
    tenth = float.fromhex("0x1.99999a0000000p-4")
    first, second, x, y = (
        [point for point in tensorboard.points() if point[0] == name]
        for name in ("tensorboard/loss", "tensorboard/loss#2", "pair/x", "pair/y")
    )
    assert [(step, value, "float32") for step, value in ((0, 0.0), (1, tenth), (2, 2 * tenth))] == [
        p[1:] for p in first
    ]
    assert [(step, 0.1 * step, "float64") for step in range(3)] == [point[1:] for point in second]
    assert [(step, tenth, "float32") for step in range(3)] == [point[1:] for point in x]
    assert [(step, 3.0, "int") for step in range(3)] == [point[1:] for point in y]
    assert ["lr", "lr", "again", "again#2", 'récall "@\\5"', "final"] == [
        point[0] for point in tensorboard.points()[12:]
    ]
    rest = tensorboard.points()[12:]
    assert "nan inf" == " ".join(str(point[2]) for point in rest[:2])
    assert [(7, 1.5, "bfloat16"), (7, 2.5, "float64"), (2, 1.0, "float64"), (0, 0.5, "float64")] == [
        point[1:] for point in rest[2:]
    ]


@needs_trackers
@pytest.mark.torch
def test_tensorboard_hyperparameters(tensorboard):
    assert {"rate": "0.25", "kind": "adam", "deep": "True"} == tensorboard.parameters()
    assert {"tensorboard"} == {event["source"] for event in of_kind(tensorboard.events, "hyperparameter")}
    (site,) = {event["site"] for event in of_kind(tensorboard.events, "hyperparameter")}
    line = 1 + TENSORBOARD.splitlines().index(next(line for line in TENSORBOARD.splitlines() if "add_hparams" in line))
    assert site.endswith(f"script.py:{line}")


@needs_trackers
@pytest.mark.torch
def test_event_files_are_the_same_bit_for_bit(tensorboard):
    assert (tensorboard.bare.stdout, tensorboard.bare.stderr) == (
        tensorboard.watched.stdout,
        tensorboard.watched.stderr,
    )
    assert 20 < tensorboard.bare.stdout.count("\n")
    assert [] == gaps(tensorboard.events)


TENSORBOARDX = """
import pathlib
import numpy
from tensorboardX import SummaryWriter
with SummaryWriter('one') as one:
    for step in range(3):
        one.add_scalar('accuracy', numpy.float64(step / 3), step)
        one.add_scalars('pair', {'x': step, 'y': numpy.float16(0.1)}, step)
    one.add_hparams({'rate': 0.25}, {'final': 0.5}, name='last', global_step=3)
"""


@needs_trackers
def test_tensorboardx(tmp_path_factory):
    found = compare(tmp_path_factory, TENSORBOARDX + READ_EVENT_FILES)
    tenth = float.fromhex("0x1.9980000000000p-4")
    expected = []
    for step in range(3):
        expected += [("accuracy", step, step / 3, "float64"), ("pair/x", step, float(step), "int")]
        expected += [("pair/y", step, tenth, "float16")]
    assert [*expected, ("final", 3, 0.5, "float64")] == found.points()
    assert {"rate": "0.25"} == found.parameters()
    assert (found.bare.stdout, found.bare.stderr) == (found.watched.stdout, found.watched.stderr)
    assert [] == gaps(found.events)


MLFLOW = """
import sqlite3, traceback
import mlflow, numpy
from mlflow.entities import Metric, Param
mlflow.set_tracking_uri('sqlite:///runs.db')
for attempt in range(2):
    with mlflow.start_run() as run:
        mlflow.log_metric('score', 0.5)
        mlflow.log_metric('score', value=0.25)
        mlflow.log_metrics({'score': 0.125, 'count': 3})
        mlflow.log_metric('stepped', numpy.float32(0.1), 7)
        mlflow.log_metrics({'stepped': numpy.float64(0.1), 'loss': -0.0}, step=8)
        mlflow.log_metric('loss', 0.75, step=0)
        mlflow.log_param('rate', 0.25)
        mlflow.log_params({'layers': [1, 2], 'kind': 'adam'})
        client = mlflow.MlflowClient()
        client.log_metric(run.info.run_id, 'direct', float('nan'))
        client.log_metric(run.info.run_id, 'direct', 1, step=-4)
        client.log_batch(run.info.run_id, [Metric('batch', 2.0, 5, 1), Metric('batch', 3.0, 5, 2)], [Param('p', 'q')])
        try:
            mlflow.log_metric('refused', 'text')
        except Exception as error:
            print(type(error).__name__, error.error_code, len(traceback.extract_tb(error.__traceback__)))
connection = sqlite3.connect('runs.db')
for table, columns in (('metrics', 'key, value, step, is_nan'), ('params', 'key, value')):
    print(sorted(connection.execute(f'SELECT {columns} FROM {table}').fetchall()))
"""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    return compare(tmp_path_factory, MLFLOW)


@needs_trackers
def test_mlflow_is_told_once_and_as_it_was_given(mlflow):
    first = [
        *(("score", 0, 0.5, "float64"), ("score", 1, 0.25, "float64"), ("score", 2, 0.125, "float64")),
        *(("count", 0, 3.0, "int"), ("stepped", 7, float.fromhex("0x1.99999a0000000p-4"), "float32")),
        *(("stepped", 8, 0.1, "float64"), ("mlflow/loss", 8, -0.0, "float64"), ("mlflow/loss#2", 0, 0.75, "float64")),
        *(("direct", 0, 1.0, "int"), ("batch", 1, 2.0, "float64"), ("batch", 2, 3.0, "float64")),
    ]
    told = [point for point in mlflow.points() if point[2] == point[2]]
    assert 2 * len(first) == len(told)
    assert str(first).replace("'direct', 0", "'direct', 1") == str(told[: len(first)])
    second = {"score#2", "count#2", "stepped#2", "mlflow/loss#3", "mlflow/loss#4", "direct#2", "batch#2"}
    assert second == {point[0] for point in told[len(first) :]}
    assert [point[2] for point in first] == [point[2] for point in told[len(first) :]]
    nan = [point for point in mlflow.points() if point[2] != point[2]]
    assert [("direct", 0), ("direct#2", 0)] == [point[:2] for point in nan]


@needs_trackers
def test_mlflow_parameters(mlflow):
    assert {"rate": "0.25", "layers": "[1, 2]", "kind": "adam", "p": "q"} == mlflow.parameters()


@needs_trackers
def test_the_store_of_mlflow_is_the_same(mlflow):
    assert mlflow.bare.stdout == mlflow.watched.stdout
    assert 4 == mlflow.bare.stdout.count("\n")
    counted_on = "a step that is no count from 0 was logged: counted on instead"
    assert [("metric direct", counted_on)] == gaps(mlflow.events)


WANDB = """
import glob, json
import numpy, wandb
for mode in ('offline', 'disabled'):
    run = wandb.init(mode=mode, dir='.', project='p', config={'rate': 0.25, 'net': {'depth': 3}})
    run.config.update({'sizes': [1, 2]})
    wandb.config.epochs = 4
    wandb.log({'score': 1, 'val': {'loss': 2.5, 'deep': {'er': numpy.float32(0.1)}}})
    wandb.log({'score': 2.0}, commit=False)
    wandb.log({'other': 3.0, 'note': 'text', 'curve': wandb.Histogram([1, 2])})
    run.log({'score': 4.0}, step=9)
    run.log({'score': 5.0})
    run.log({'score': 6.0})
    try:
        run.log([1])
    except Exception as error:
        print(type(error).__name__, error)
    run.finish()
wandb.teardown()  # the service writes the file, and may still be at it
from wandb.proto import wandb_internal_pb2
def records(data):  # LevelDB's log: blocks of 32 KiB, records with checksum, length and whether they go on
    place, parts = 7, []
    while place + 7 <= len(data):
        if place % 32768 > 32768 - 7:
            place += 32768 - place % 32768
        length, kind = int.from_bytes(data[place + 4 : place + 6], 'little'), data[place + 6]
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(b''.join(parts))
            parts = []
(path,) = glob.glob('wandb/offline-run-*/run-*.wandb')
for record in records(open(path, 'rb').read()):
    if record.WhichOneof('record_type') == 'history':
        items = {item.key or '.'.join(item.nested_key): item.value_json for item in record.history.item}
        print(sorted((key, value) for key, value in items.items() if key not in ('_timestamp', '_runtime')))
    elif record.WhichOneof('record_type') == 'config':
        print(sorted((item.key, item.value_json) for item in record.config.update if item.key != '_wandb'))
"""


@pytest.fixture(scope="module")
def wandb(tmp_path_factory):
    return compare(tmp_path_factory, WANDB)


@needs_trackers
def test_wandb_is_told_at_the_steps_of_its_own(wandb):
    tenth = float.fromhex("0x1.99999a0000000p-4")
    run = [
        *(("score", 0, 1.0, "int"), ("val.loss", 0, 2.5, "float64"), ("val.deep.er", 0, tenth, "float32")),
        *(("score", 1, 2.0, "float64"), ("other", 1, 3.0, "float64")),
        *(("score", 9, 4.0, "float64"), ("score#2", 9, 5.0, "float64"), ("score#2", 10, 6.0, "float64")),
    ]
    assert run == wandb.points()[: len(run)]
    assert [point[1:] for point in run[:6]] == [point[1:] for point in wandb.points()[len(run) : len(run) + 6]]
    assert 2 * len(run) == len(wandb.points())


@needs_trackers
def test_wandb_configuration(wandb):
    assert {"rate": "0.25", "net.depth": "3", "sizes": "[1, 2]", "epochs": "4"} == wandb.parameters()


@needs_trackers
def test_the_file_of_wandb_is_the_same(wandb):
    assert wandb.bare.stdout == wandb.watched.stdout
    assert 5 < wandb.bare.stdout.count("\n")
    assert [("wandb", "metrics in a list, not a dictionary, are not read")] == gaps(wandb.events)


REFUSED = """
import traceback
import mlflow, wandb
from torch.utils.tensorboard import SummaryWriter
run = wandb.init(mode='offline', dir='.', config={'rate': 1})
writer = SummaryWriter('one')
def lock(): run.config.rate = 2
for refused in (
    lambda: writer.add_scalar('x'), lambda: writer.add_scalar('x', object(), 0), lambda: writer.add_hparams([], {}),
    lambda: mlflow.log_metric(), lambda: run.log({7: 1.0}), lambda: run.log(), lock,
):
    try:
        refused()
    except Exception:
        traceback.print_exc()
writer.close()
run.finish()
"""


@needs_trackers
@pytest.mark.torch
def test_errors_are_the_libraries_own(tmp_path_factory):
    found = compare(tmp_path_factory, REFUSED)
    watched, bare = (
        re.sub(r"/(watched|bare)\d+/|0x[0-9a-f]+|run_id='\w+'|.*INFO.*\n", "", text)
        for text in (found.watched.stderr, found.bare.stderr)
    )
    assert 7 == bare.count("Traceback (most recent call last)")
    assert bare == watched
    assert found.bare.stdout == found.watched.stdout


SAME_NAME = """
import repro
from tensorboardX import SummaryWriter
with SummaryWriter('one') as writer:
    for step in range(2):
        writer.add_scalar('accuracy', step, step)
        repro.log_metric('accuracy', step, step)
        repro.log_metric('learning_rate.0', step, step)
        repro.log_metric('optimizer.1.learning_rate.0', step, step)
"""


@needs_trackers
def test_two_sources_with_one_name_are_told_apart(run_agent):
    events, finished = run_agent(SAME_NAME, env={"PYTHONPATH": f"{INJECT}:{TRACKERS}:{ROOT}"})
    assert 0 == finished.returncode, finished.stderr
    names = ("accuracy", "repro/accuracy", "repro/learning_rate.0", "repro/optimizer.1.learning_rate.0")
    assert [(name, step, float(step), "int") for step in range(2) for name in names] == points(events)


TOLD_BY_THE_SCRIPT = """
import repro
from repro import log_metric, log_param
log_metric('loss', 0.5)
repro.log_metric('accuracy', 1, step=3)
log_metric('accuracy', True)
log_metric(name='accuracy', value=2 ** 53 + 1, step=3)
log_metric('accuracy', -0.0, 5.0)
log_metric('never', 'text'); log_metric('never', None); log_metric('never', [1.0])
log_metric('odd', 1j); log_metric(7, 1.0); log_metric('large', 10 ** 400)
class Hostile(float):
    __float__ = __eq__ = __gt__ = __abs__ = None
log_metric('hostile', Hostile(0.25)); log_metric('hostile', 0.5, step='x'); log_metric('hostile', 0.75, step=2 ** 64)
log_param('rate', 0.25); log_param('net', {'depth': 3, 'kind': 'x'})
print(repro.log_metric.__name__, log_metric.__doc__[:16], repro.log_param('rate', 0.25))
"""


def in_checkout(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": f"{INJECT}:{ROOT}", **more}


def test_what_a_script_tells_repro(run_agent, python):
    events, finished = run_agent(TOLD_BY_THE_SCRIPT, python=python, env=in_checkout())
    assert ("log_metric Tell of a number None\n", "") == (finished.stdout, finished.stderr)
    assert [
        *(("repro/loss", 0, 0.5, "float64"), ("accuracy", 3, 1.0, "int"), ("accuracy", 4, 1.0, "bool")),
        *(("accuracy#2", 3, 2.0**53, "int"), ("accuracy#2", 5, -0.0, "float64"), ("hostile", 0, 0.25, "float64")),
        *(("hostile", 1, 0.5, "float64"), ("hostile", 2, 0.75, "float64")),
    ] == points(events)
    assert [
        ("metric accuracy", "a number that float64 cannot hold was rounded to it"),
        ("metric odd", "a number of type builtins.complex is not read"),
        ("metrics", "a name that is no text was logged: the value is not kept"),
        ("metric large", "OverflowError: int too large to convert to float"),
        ("metric hostile", "a step that is no count from 0 was logged: counted on instead"),
    ] == gaps(events)
    assert [
        ("repro.log_param", "rate", "0.25"),
        ("repro.log_param", "net.depth", "3"),
        ("repro.log_param", "net.kind", "x"),
    ] == [(event["source"], event["name"], event["value"]) for event in of_kind(events, "hyperparameter")]


def test_nothing_is_done_where_nobody_records(run_agent, python):
    _, finished = run_agent(TOLD_BY_THE_SCRIPT, python=python, env={"PYTHONPATH": str(ROOT)}, agent=False)
    assert ("log_metric Tell of a number None\n", "") == (finished.stdout, finished.stderr)


@pytest.mark.usefixtures("unmeasured_jobs")
def test_importing_repro_imports_nothing_else(python):
    script = "import sys; before = set(sys.modules); import repro; print(sorted(set(sys.modules) - before))"
    environment = dict(bare_environment(), PYTHONPATH=str(ROOT))
    assert "['__future__', 'repro']\n" == subprocess.check_output([python, "-c", script], env=environment, text=True)


def test_names_and_values_come_back_as_they_were(run_agent, python):
    names = [
        "",
        '"',
        "\\",
        '\\"}',
        "a\nb\x00\x7f",
        "naïve/名前 🙂",
        "\udcff",
        "{name}",
        "%s",
        "x" * 3000,
        "#2",
        "a#2",
        "a",
    ]
    values = [0.1, 5e-324, -1.7976931348623157e308, float("inf"), float("nan")]
    script = f"import repro, math\nfrom math import inf, nan\nfor name in {names!r}:\n    for value in {values!r}: "
    events, finished = run_agent(script + "repro.log_metric(name, value)", python=python, env=in_checkout())
    assert "" == finished.stderr
    told = points(events)
    assert [name.replace("\udcff", "\\udcff") for name in names for _ in values] == [point[0] for point in told]
    assert str(values * len(names)) == str([point[2] for point in told])
    assert list(range(len(values))) * len(names) == [point[1] for point in told]


def test_a_step_told_again_loses_no_value(run_agent, python):
    script = """
import repro
for attempt in range(3):
    for step in range(4): repro.log_metric('a', 4 * attempt + step, step)
for again in range(300): repro.log_metric('b', again, 0)
repro.log_metric('a#2', -1.0, 1)
"""
    events, _ = run_agent(script, python=python, env=in_checkout())
    told = points(events)
    keys = [(name, step) for name, step, _, _ in told]
    assert 313 == len(set(keys)) == len(keys)
    assert [("a", 0), ("a#2", 0), ("a#3", 0), ("b", 0), ("b#300", 0), ("repro/a#2", 1)][:5] == [
        keys[place] for place in (0, 4, 8, 12, 311)
    ]
    assert ("a#2#2", 1) == keys[-1]
    assert [float(number) for number in (*range(12), *range(300))] == [point[2] for point in told[:-1]]


def test_a_script_with_too_many_names_is_told_of(run_agent, python):
    script = "import repro\nfor number in range(20_010): repro.log_metric(f'name {number}', 1.0)"
    events, _ = run_agent(script, python=python, env=in_checkout())
    assert 20_000 == len(points(events))
    assert [("metrics", "more than 20000 series were logged; the rest is not kept")] == gaps(events)


def test_threads_forks_and_signals(run_agent, python):
    script = """
import os, signal, threading, repro
signal.signal(signal.SIGALRM, lambda *_: repro.log_metric('signal', 1.0))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work():
    for step in range(2000): repro.log_metric('shared', 0.5)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
if os.fork() == 0:
    signal.setitimer(signal.ITIMER_REAL, 0)
    for step in range(3): repro.log_metric('shared', step, step)
    raise SystemExit(0)
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
os.wait()
"""
    events, finished = run_agent(script, python=python, env=in_checkout())
    assert ("", 0) == (finished.stderr, finished.returncode)
    parent = [event for event in events if event["process_key"] == "main"]
    child = [event for event in events if event["process_key"] == "main/fork.1"]
    assert list(range(8000)) == [step for name, step, _, _ in points(parent) if name == "shared"]
    signals = [step for name, step, _, _ in points(parent) if name == "signal"]
    assert list(range(len(signals))) == sorted(signals)
    assert [("shared", step, float(step), "int") for step in range(3)] == points(child)


@pytest.mark.torch
def test_events_are_as_the_schema_says(run_agent, tmp_path):
    import jsonschema

    script = (
        "import numpy, torch\n"
        + TOLD_BY_THE_SCRIPT
        + "log_metric('t', torch.tensor(0.5)); log_metric('n', numpy.int8(3))"
    )
    run_agent(script, env=in_checkout())
    lines = [
        json.loads(line)
        for path in (tmp_path / "events.0").glob("*.jsonl")
        for line in path.read_bytes().rstrip(b"\0").splitlines()
    ]
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    ours = [line for line in lines if line["event"] in ("metric", "series", "hyperparameter", "gap")]
    assert 12 < len(ours)
    assert [] == [str(error.message) for line in ours for error in validator.iter_errors(line)]


UNREADABLE = """
import decimal, numpy, torch, repro
class Mine(torch.Tensor): pass
class Ours:
    def __float__(self): raise SystemExit('called')
for value in (
    torch.tensor(1.0, device='meta'), torch.tensor(1j), torch.ones(1).as_subclass(Mine), numpy.complex64(1j), Ours(),
    decimal.Decimal(1), numpy.datetime64('2026-01-01'), torch.ones(2), numpy.ones(2), 'text', Ours,
):
    repro.log_metric('x', value)
repro.log_metric('x', numpy.longdouble('0.1'))
repro.log_metric('x', 1.0, step=torch.tensor(5))
repro.log_metric('x', 2.0, step=torch.tensor(9, device='meta'))
"""


@pytest.mark.torch
def test_numbers_that_are_not_read_are_gaps(run_agent):
    events, finished = run_agent(UNREADABLE, env=in_checkout())
    assert ("", 0) == (finished.stderr, finished.returncode)
    kinds = ["torch.Tensor", "__main__.Mine", "numpy.complex64", "__main__.Ours", "decimal.Decimal"]
    assert [
        "a value on meta, or inside a CUDA graph, is not read",
        *(f"a number of type {kind} is not read" for kind in kinds),
        "a number that float64 cannot hold was rounded to it",
        "a step that is no count from 0 was logged: counted on instead",
    ] == [reason for subject, reason in gaps(events) if subject == "metric x"]
    assert [(0, 0.1, "float128"), (5, 1.0, "float64"), (6, 2.0, "float64")] == [point[1:] for point in points(events)]


@pytest.mark.gpu
@pytest.mark.torch
def test_a_value_on_a_gpu_is_not_waited_for(run_agent):
    script = """
import repro, torch
heavy = torch.randn(8192, 8192, device='cuda')
for step in range(100): repro.log_metric('far', torch.tensor(step / 3, device='cuda'), step)
torch.cuda.synchronize()
busy = heavy @ heavy
for _ in range(20): busy = busy @ heavy
behind = torch.cuda.Event(); behind.record()
repro.log_metric('free', busy.sum())
print(behind.query())
"""
    events, finished = run_agent(script, env=in_checkout())
    assert "False\n" == finished.stdout, finished.stderr
    far = [point for point in points(events) if point[0] == "far"]
    assert list(range(100)) == [point[1] for point in far]
    assert {"float32"} == {point[3] for point in far}
    assert 1 == sum(point[0] == "free" for point in points(events))
