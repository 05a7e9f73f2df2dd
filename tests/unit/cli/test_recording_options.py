"""The plain command line of `repro record` is read without typer, and must mean what typer would make of it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import typer

from repro.cli import recording
from repro.cli.main import app
from repro.cli.recording import Options, parse


def test_the_options_are_those_that_typer_documents() -> None:
    command = typer.main.get_command(app).commands["record"]  # type: ignore[attr-defined]
    documented = {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
    assert documented - {"--help"} == {
        *recording.FLAGS,
        *recording.REPEATED,
        *recording.NUMBERS,
        *recording.CHOICES,
        *recording.TEXTS,
    }


def test_the_defaults_are_those_of_typer() -> None:
    from repro.cli.record import record

    defaults = {name: p.default for name, p in inspect.signature(record).parameters.items() if name != "command"}
    assert {
        name: value or () if name in recording.REPEATED.values() else value for name, value in defaults.items()
    } == {name: getattr(Options(), name) for name in defaults}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-- python train.py", Options(command=("python", "train.py"))),
        ("python train.py --lr 0.1 --help", Options(command=("python", "train.py", "--lr", "0.1", "--help"))),
        ("--strict --json -- a", Options(command=("a",), strict=True, json=True)),
        ("--trace-every 16 --trace-budget 2.5 -- a", Options(command=("a",), trace_every=16, trace_budget=2.5)),
        ("--trace-every 0 -- a", Options(command=("a",), trace_every=0)),
        ("--lock-timeout 0.5 -- a -- b", Options(command=("a", "--", "b"), lock_timeout=0.5)),
        ("--data a --no-trace --data b -- x", Options(command=("x",), data=("a", "b"), no_trace=True)),
        ("--determinism strict -- x", Options(command=("x",), determinism="strict")),
        ("--join j-1 --nodes 2 --node 0 -- x", Options(command=("x",), join="j-1", nodes=2, node=0)),
        ("--wheelhouse -- x", Options(command=("x",), wheelhouse=True)),
        ("--unjudged *_ms --unjudged t -- a", Options(command=("a",), unjudged=("*_ms", "t"))),
        ("--tolerance loss=1 --tolerance x=2 -- a", Options(command=("a",), tolerance=("loss=1", "x=2"))),
    ],
)
def test_a_plain_line(line: str, expected: Options) -> None:
    assert expected == parse(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--",
        "--help",
        "--strict",
        "--no-such -- a",
        "--lock-timeout x -- a",
        "--determinism on -- a",
        "--trace-every 1.5 -- a",
        "--trace-every -1 -- a",
        "--trace-budget 1% -- a",
        "--tolerance",
        "--join",
        "--nodes -1 -- a",
        "--strict=1 -- a",
    ],
)
def test_what_typer_has_to_answer(line: str) -> None:
    assert parse(line.split()) is None


def test_both_ways_do_the_same(repro_home, tmp_path) -> None:
    """`--lock-timeout=0` goes the long way; the same option in two words the short one."""
    for option in (["--lock-timeout=0"], ["--lock-timeout", "0"]):
        argv = [sys.executable, "-m", "repro", "record", *option, "--strict", "--", "echo", "hello"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ("hello\n", 125) == (done.stdout, done.returncode)


def test_record_imports_neither_typer_nor_rich(repro_home, tmp_path) -> None:
    code = (
        "import sys, repro.cli.entry as entry\n"
        "sys.argv = ['repro', 'record', '--lock-timeout', '0', '--', 'true']\n"
        "try:\n    entry.main()\n"
        "finally:\n    print(sorted({'typer', 'rich', 'pydantic', 'jsonschema', 'git'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "nowhere"), "nowhere do not exist"),
        (("--wheelhouse", "--no-wheelhouse"), "contradict each other"),
        (("--trace-budget", "0"), "trace-budget is 0.0"),
        (("--trace-every", "-1"), "trace-every is -1"),
    ],
)
def test_options_that_cannot_be_followed(options: tuple[str, ...], said: str, repro_home, tmp_path) -> None:
    argv = [sys.executable, "-m", "repro", "record", *options, "--", "echo", "hello"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert said in done.stderr


@pytest.mark.parametrize("text", ["loss", "=1", "loss=", "loss=-1", "loss=nan", "loss=inf", "loss=x"])
def test_a_tolerance_that_cannot_be_read(text: str, repro_home, tmp_path) -> None:
    argv = [sys.executable, "-m", "repro", "record", "--tolerance", text, "--", "echo", "hello"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (2, "") == (done.returncode, done.stdout)
    assert "--tolerance" in done.stderr


def test_what_is_said_arrives_although_the_process_is_not_taken_down(repro_home, tmp_path) -> None:
    argv = [sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", "sh", "-c", "echo hello; exit 3"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ("hello\n", 3) == (done.stdout, done.returncode)
    assert "sealed" in done.stderr
    with open("/dev/full", "w") as full:
        done = subprocess.run([*argv[:-2], "-c", "exit 4"], cwd=tmp_path, stderr=full, check=False)
    assert done.returncode != 0
