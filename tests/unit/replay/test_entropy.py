import json
from typing import Any

from repro.evidence.model import Entropy, Seed, Setting
from repro.replay import entropy


def _entropy(ordinal: int, value: str, stream: str = "numpy.randbits", key: str = "main") -> Entropy:
    return Entropy(process_key=key, stream=stream, ordinal=ordinal, value=value, site="a.py:1")


def _setting(name: str, value: str, moment: Any = "import") -> Setting:
    return Setting(process_key="main", moment=moment, name=name, value=value)


def test_all_that_the_agent_puts_back(make: Any) -> None:
    record = make.record(
        entropy=(_entropy(1, "b"), _entropy(0, "a"), _entropy(0, "c", key="main/fork.1")),
        seeds=(Seed(process_key="main", ordinal=0, function="torch.manual_seed", argument="7", site="a.py:2"),),
        settings=(
            _setting("torch.num_threads", "2"),
            _setting("torch.num_threads", "9", "end"),
            _setting("torch.version", "2.13.0"),
            _setting("trace.every", "8", "import"),
            _setting("trace.every", "64", "first-step"),
            _setting("trace.budget", "0.01", "first-step"),
        ),
    )
    expected = {
        "main": {"numpy.randbits": ["a", "b"]},
        "main/fork.1": {"numpy.randbits": ["c"]},
        "seeds": {"main": {"torch.manual_seed": ["7"]}},
        "settings": {"main": {"torch.num_threads": "2", "trace.every": "64"}},
    }
    assert expected == json.loads(entropy.document(record))


def test_a_missing_ordinal_ends_a_list_since_later_values_belong_to_other_calls(make: Any) -> None:
    record = make.record(entropy=(_entropy(0, "a"), _entropy(2, "c")))
    assert {"numpy.randbits": ["a"]} == json.loads(entropy.document(record))["main"]


def test_nothing_to_put_back_is_still_a_document(make: Any) -> None:
    assert {"seeds": {}, "settings": {}} == json.loads(entropy.document(make.record()))


def test_inter_op_threads_are_those_that_the_training_had_in_the_end(make: Any) -> None:
    rows = [_setting("torch.num_interop_threads", value, moment) for value, moment in (("8", "import"), ("1", "end"))]
    found = json.loads(entropy.document(make.record(settings=tuple(rows))))["settings"]
    assert {"main": {"torch.num_interop_threads": "1"}} == found
    killed = json.loads(entropy.document(make.record(settings=(rows[0],))))["settings"]
    assert {"main": {"torch.num_interop_threads": "8"}} == killed
