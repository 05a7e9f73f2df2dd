"""Determinism under the agent: nothing is set unless asked for; who changes it, and what has no such way, is named."""

import json

import pytest
from event_logs import ROOT, of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

STATE = """
import os, sys, warnings
before = (list(warnings.filters), warnings._showwarnmsg, warnings._filters_mutated)
import torch
after = (list(warnings.filters), warnings._showwarnmsg, warnings._filters_mutated)
print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
print(torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_num_threads())
print([str(item) for item in after[0] if item not in before[0]], before[1:] == after[1:], sys.excepthook.__name__)
print(sorted(name for name in os.environ if 'DETERMIN' in name or name.startswith(('CUBLAS', 'NCCL', 'OMP', 'MKL'))))
"""


def test_off_sets_nothing(run_agent):
    events, watched = run_agent(STATE)
    _, bare = run_agent(STATE, agent=False)
    assert (0, "") == (watched.returncode, watched.stderr)
    assert bare.stdout == watched.stdout
    assert "False False\nFalse False" in watched.stdout
    assert [] == of_kind(events, "determinism")


RACE = """
import hashlib, torch
torch.manual_seed(3)
values, places = torch.randn(1_000_000), torch.randint(0, 1000, (1_000_000,))
torch.set_num_threads(2)
sums = {torch.zeros(1000).index_put_((places,), values, accumulate=True).numpy().tobytes() for _ in range(40)}
print(len(sums), hashlib.sha256(min(sums)).hexdigest())
"""


def test_strict_makes_a_racing_operation_repeat_itself(run_agent):
    _, off = run_agent(RACE)
    strict = [run_agent(RACE, env={"REPRO_DETERMINISM": "strict"})[1].stdout for _ in range(2)]
    assert 1 < int(off.stdout.split()[0]), "the operation does not race here: this test shows nothing"
    assert ["1", "1"] == [text.split()[0] for text in strict]
    assert strict[0] == strict[1]


OPERATIONS = """
import warnings
import torch
def put():
    torch.zeros(4).put_(torch.tensor([0, 1]), torch.rand(2))
for _ in range(3): put()
pool, unpool = torch.nn.MaxPool2d(2, return_indices=True), torch.nn.MaxUnpool2d(2)
image = torch.rand(1, 1, 4, 4)
unpool(*pool(image))
for _ in range(2): unpool(*pool(image))
with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    unpool(*pool(image))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    put(); put()
    warnings.warn('another')
print([str(warning.message)[:7] for warning in caught])
warnings.simplefilter('error')
try: put()
except UserWarning as error: print('raised', str(error)[:4])
"""


def _by_line(text, line):
    return [place + 1 for place, content in enumerate(text.splitlines()) if content == line]


def test_warn_names_each_operation_and_line_and_swallows_nothing(run_agent):
    """One line of torch's, which three lines of the script call, is told three times, and shown as Python shows it."""
    own = "import torch\ntorch.use_deterministic_algorithms(True, warn_only=True)"
    _, bare = run_agent(OPERATIONS.replace("import torch", own), agent=False)
    events, watched = run_agent(OPERATIONS, env={"REPRO_DETERMINISM": "warn"})
    assert (0, 0) == (bare.returncode, watched.returncode), watched.stderr
    assert bare.stdout == watched.stdout == "['put_ do', 'put_ do', 'another']\nraised put_\n"
    assert bare.stderr.count("UserWarning: ") == watched.stderr.count("UserWarning: ") == 2
    found = [(e["name"], int(e["site"].rpartition(":")[2]), e["value"]) for e in of_kind(events, "determinism")]
    put, again = _by_line(OPERATIONS, "    torch.zeros(4).put_(torch.tensor([0, 1]), torch.rand(2))")[0], "warned"
    unpools = [line for line, text in enumerate(OPERATIONS.splitlines(), 1) if "unpool(*pool" in text]
    assert 3 == len(unpools)
    assert [("put_", put, again), *(("max_unpooling2d_forward_out", line, again) for line in unpools)] == found
    assert [] == of_kind(events, "gap")


def test_strict_fails_with_torchs_own_message_and_names_the_operation(run_agent, tmp_path):
    own = "import torch\ntorch.use_deterministic_algorithms(True)"
    _, bare = run_agent(OPERATIONS.replace("import torch", own), agent=False)
    events, watched = run_agent(OPERATIONS, env={"REPRO_DETERMINISM": "strict"})
    assert 1 == bare.returncode == watched.returncode
    assert bare.stderr.splitlines()[-1] == watched.stderr.splitlines()[-1]
    assert "put_ does not have a deterministic implementation" in watched.stderr
    put = _by_line(OPERATIONS, "    torch.zeros(4).put_(torch.tensor([0, 1]), torch.rand(2))")[0]
    assert [("operation", "put_", "refused", f"{tmp_path}/script.py:{put}")] == [
        (event["kind"], event["name"], event["value"], event["site"]) for event in of_kind(events, "determinism")
    ]
    settings = {(event["moment"], event["name"]): event["value"] for event in of_kind(events, "setting")}
    assert "True" == settings["import", "torch.deterministic_algorithms"]
    assert "False" == settings["import", "torch.deterministic_algorithms_warn_only"]
    assert "True" == settings["import", "torch.backends.cudnn.deterministic"]
    assert "True" == settings["import", "torch.fill_uninitialized_memory"]


def test_an_error_behind_another_is_found(run_agent):
    script = """
import torch
try: torch.zeros(4).put_(torch.tensor([0]), torch.rand(1))
except RuntimeError as error: raise SystemError('the framework says so') from error
"""
    events, _ = run_agent(script, env={"REPRO_DETERMINISM": "strict"})
    assert [("put_", "3")] == [
        (event["name"], event["site"].rpartition(":")[2]) for event in of_kind(events, "determinism")
    ]


CHANGES = """
import pickle
import torch
torch.set_num_threads(1)
torch.set_num_threads(1)
torch.backends.cudnn.benchmark = True
with torch.backends.cudnn.flags(enabled=False, benchmark=True): pass
torch.set_float32_matmul_precision('medium')
for _ in range(3):
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_deterministic_debug_mode('default')
torch.backends.mkldnn.enabled = False
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
try: torch.set_num_threads('many')
except Exception as error:
    trace = error.__traceback__
    while trace.tb_next: trace = trace.tb_next
    print(type(error).__name__, trace.tb_frame.f_code.co_filename.rpartition('/')[2])
for function in (torch.set_num_threads, torch.use_deterministic_algorithms, torch.set_float32_matmul_precision):
    print(pickle.loads(pickle.dumps(function)) is function, function.__name__, (function.__doc__ or '')[:20])
loader = torch.utils.data.DataLoader(list(range(4)), num_workers=1, multiprocessing_context='fork')
print(sum(int(item) for item in loader), torch.get_num_threads(), torch.backends.cudnn.benchmark)
"""


@pytest.mark.parametrize("mode", ["", "strict"])
def test_each_change_is_told_with_its_line_and_stands(run_agent, mode):
    variables = {"REPRO_DETERMINISM": mode} if mode else {}
    events, watched = run_agent(CHANGES, env={**variables, "OMP_NUM_THREADS": "2"})
    _, bare = run_agent(CHANGES, agent=False, env={"OMP_NUM_THREADS": "2"})
    assert bare.stdout == watched.stdout
    assert bare.stderr == watched.stderr
    found = {
        (event["name"], event["before"], event["value"]): int(event["site"].rpartition(":")[2])
        for event in of_kind(events, "determinism")
    }
    lines = CHANGES.splitlines()
    expected = {
        ("torch.num_threads", "2", "1"): "torch.set_num_threads(1)",
        ("torch.backends.cudnn.benchmark", "False", "True"): "torch.backends.cudnn.benchmark = True",
        ("torch.backends.mkldnn.enabled", "True", "False"): "torch.backends.mkldnn.enabled = False",
        ("torch.deterministic_algorithms", "True", "False"): "    torch.set_deterministic_debug_mode('default')",
    }
    assert {key: lines[line - 1] for key, line in found.items() if key in expected} == expected
    flags = next(
        line for (name, _, value), line in found.items() if name.endswith("cudnn.enabled") and value == "False"
    )
    assert lines[flags - 1].startswith("with torch.backends.cudnn.flags")
    told = [tuple(event.values()) for event in of_kind(events, "determinism")]
    assert len(set(told)) == len(told), "each distinct change once"
    assert {"main"} == {event["process_key"] for event in of_kind(events, "determinism")}, "workers' own are torch's"
    settings = {(event["moment"], event["name"]): event["value"] for event in of_kind(events, "setting", "main")}
    assert "False" == settings["end", "torch.deterministic_algorithms"]
    assert [] == of_kind(events, "gap")


def test_inter_op_threads_that_the_training_sets_itself_can_be_restored(run_agent):
    """Torch lets them be set once: what was restored is not set again."""
    script = "import torch\ntorch.set_num_interop_threads(3)\nprint(torch.get_num_interop_threads())\n"
    document = {"seeds": {}, "settings": {"main": {"torch.num_interop_threads": "3"}}}
    events, replayed = run_agent(script, entropy=document)
    assert (0, "3\n", "") == (replayed.returncode, replayed.stdout, replayed.stderr)
    assert [] == [gap for gap in of_kind(events, "gap") if gap["topic"] == "trace"]


def test_events_are_as_the_schema_says(run_agent, tmp_path):
    import jsonschema

    run_agent(OPERATIONS + CHANGES, env={"REPRO_DETERMINISM": "warn"})
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    lines = [
        json.loads(line)
        for path in (tmp_path / "events.0").glob("*.jsonl")
        for line in path.read_bytes().rstrip(b"\0").splitlines()
    ]
    assert 3 < len([line for line in lines if line["event"] == "determinism"])
    assert [] == [error.message for line in lines for error in validator.iter_errors(line)]
