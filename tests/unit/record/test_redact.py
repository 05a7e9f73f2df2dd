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
        (("--env=API_KEY=hunter2",), ("--env=API_KEY=<redacted>",), (0,)),
        (("docker", "-e", "DB_PASS=hunter2"), ("docker", "-e", "DB_PASS=<redacted>"), (2,)),
        (("x --env API_KEY=hunter2 y",), ("x --env API_KEY=<redacted> y",), (0,)),
        (("-c", "cd /x; PGPASSWORD='a'\"b c\" psql"), ("-c", "cd /x; PGPASSWORD=<redacted> psql"), (1,)),
        (("curl", "-u", "me:hunter2", "h"), ("curl", "-u", "<redacted>", "h"), (2,)),
        (("-c", "curl -s -u me:hunter2 h"), ("-c", "curl -s -u <redacted> h"), (1,)),
        (("mysql", "-phunter2"), ("mysql", "-p<redacted>"), (1,)),
        (("sshpass", "-p", "hunter2", "ssh"), ("sshpass", "-p", "<redacted>", "ssh"), (2,)),
        (("mkdir", "-p", "a"), ("mkdir", "-p", "a"), ()),
        (("-H", "Authorization: Bearer hunter2"), ("-H", "Authorization: Bearer <redacted>"), (1,)),
        (("-H", "X-Api-Key: hunter2"), ("-H", "X-Api-Key: <redacted>"), (1,)),
        (("Endpoint=sb://h/;SharedAccessKey=hunter2",), ("Endpoint=sb://h/;SharedAccessKey=<redacted>",), (0,)),
        (("https://me:p@ss?#word@host/x",), ("https://host/x",), (0,)),
        (("https://host:80/?mail=a@b",), ("https://host:80/?mail=a@b",), ()),
        (
            ("https://host/x?X-Amz-Signature=hunter2&sig=x",),
            ("https://host/x?X-Amz-Signature=<redacted>&sig=<redacted>",),
            (0,),
        ),
        (("--train-tokens", "1e9", "total_tokens=300B"), ("--train-tokens", "1e9", "total_tokens=300B"), ()),
        (("--use-auth-token", "true", "--token", "5"), ("--use-auth-token", "true", "--token", "<redacted>"), (3,)),
        (("-c", "train --tokens 5 --use_auth_token=False"), ("-c", "train --tokens 5 --use_auth_token=False"), ()),
        (("--tokens", "hunter2"), ("--tokens", "<redacted>"), (1,)),
        (("--stop_token_id", "5", "--first-pass", "3"), ("--stop_token_id", "5", "--first-pass", "3"), ()),
        (("-c", "token = get(); sk-learn-contrib"), ("-c", "token = get(); sk-learn-contrib"), ()),
        (("hydra.run.dir=outputs/a,b", "seed=1,2"), ("hydra.run.dir=outputs/a,b", "seed=1,2"), ()),
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


TOKENS = [
    "AKIA" + "Z7" * 8,
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2" * 9,
    "hf_" + "a1B2" * 9,
    "sk-" + "a1B2" * 9,
    "sk-proj-" + "a1B2" * 9,
    "glpat-" + "a1B2" * 5,
    "xoxb-" + "12" * 9,
    "npm_" + "a1B2" * 9,
    "AIza" + "a1B2c" * 7,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\ncut off",
]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:12])
def test_a_token_is_known_by_its_shape(token: str) -> None:
    assert redact.has_token(f"it failed: {token}")
    assert "it failed: <redacted>" == redact.tokens(f"it failed: {token}") == redact.text(f"it failed: {token}")
    assert (("<redacted>",), (0,)) == redact.argv((token,))


@pytest.mark.parametrize(
    "text",
    ["task-0123456789-ABCDEFGHIJKL", "sha256:" + "0a" * 32, "self.token = tokens[0]", "hf_hub_download", "risk-free"],
)
def test_what_has_no_such_shape_stays(text: str) -> None:
    assert not redact.has_token(text)
    assert text == redact.tokens(text)


def test_a_message_loses_the_secrets_in_it() -> None:
    text = "fatal: Authentication failed for 'https://me:hunter2@host/x.git' (password: hunter2, --token hunter2)"
    assert "hunter2" not in redact.text(text)
    assert "Authentication failed for 'https://host/x.git'" in redact.text(text)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "x/.env.local",
        "a/key.pem",
        b"id_rsa",
        "credentials.json",
        ".netrc",
        ".pypirc",
        "aws/credentials",
        "secrets.yaml",
    ],
)
def test_a_store_of_secrets_is_known_by_its_name(path: str | bytes) -> None:
    assert redact.is_secret_file(path)


@pytest.mark.parametrize(
    "path", [".env.example", "id_rsa.pub", "train.py", "keys.py", "environment.yml", "tokenizer.json"]
)
def test_another_file_is_none(path: str) -> None:
    assert not redact.is_secret_file(path)


@pytest.mark.parametrize(
    "piece",
    ["a", "a-", "a:", "a=", "://", "://a:", "--a ", "'", '"', "eyJ", "Bearer ", "-----BEGIN PRIVATE KEY-----", "curl "],
)
def test_a_long_hostile_text_comes_to_an_end(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    redact.text(text)
    redact.argv((text,))
