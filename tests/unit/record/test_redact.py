from __future__ import annotations

import pytest

from repro.record import redact


@pytest.mark.parametrize(
    ("given", "expected", "positions"),
    [
        (("--password", "hunter2"), ("--password", "<redacted>"), (1,)),
        (("--api-key=hunter2",), ("--api-key=<redacted>",), (0,)),
        (("--hf_token", "hunter2", "x"), ("--hf_token", "<redacted>", "x"), (1,)),
        (("WANDB_API_KEY=hunter2", "python"), ("WANDB_API_KEY=<redacted>", "python"), (0,)),
        (("+model.private_key=hunter2",), ("+model.private_key=<redacted>",), (0,)),
        (("--verbose-token", "--lr", "1"), ("--verbose-token", "--lr", "1"), ()),
        (("https://me:hunter2@host/x",), ("https://host/x",), (0,)),
        (("https://host/x?token=hunter2&a=1",), ("https://host/x?token=<redacted>&a=1",), (0,)),
        (("bash", "-c", "train --secret hunter2 --lr 1"), ("bash", "-c", "train --secret <redacted> --lr 1"), (2,)),
        (("-c", "API_TOKEN='hunter2 b' ./x"), ("-c", "API_TOKEN=<redacted>"), (1,)),
        (("-c", "A=1; API_TOKEN='hunter2 b' ./x"), ("-c", "A=1; API_TOKEN=<redacted> ./x"), (1,)),
        (('{"api_key": "hunter2", "lr": 1}',), ('{"api_key": <redacted>, "lr": 1}',), (0,)),
        (("--max-tokens", "128"), ("--max-tokens", "128"), ()),
        (("--max_new_tokens=128", "--tokenizer", "bpe"), ("--max_new_tokens=128", "--tokenizer", "bpe"), ()),
        (("--lr=0.1", "a=b", "", "-"), ("--lr=0.1", "a=b", "", "-"), ()),
        (("--token=",), ("--token=",), ()),
    ],
)
def test_a_command_line_loses_its_secrets_and_nothing_else(given, expected, positions) -> None:
    assert redact.argv(given) == (expected, positions)


def test_url_keeps_what_is_no_credential() -> None:
    assert redact.url("git@host:x/y.git ssh://host/x") == "git@host:x/y.git ssh://host/x"
    assert redact.url("ssh://git@host/x") == "ssh://host/x"


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GOOGLE_CREDENTIALS", "X_AUTH"])
def test_a_variable_is_secret_by_its_name(name: str) -> None:
    assert redact.is_secret_variable(name)


def test_a_variable_may_be_told() -> None:
    assert not redact.is_secret_variable("OMP_NUM_THREADS")
