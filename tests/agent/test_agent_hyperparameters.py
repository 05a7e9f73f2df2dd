"""What a run was configured with is told once, as text, with where it was asked for; and nothing of it is changed."""

import os
from pathlib import Path

import pytest
from event_logs import ROOT, of_kind
from frameworks import FRAMEWORKS, gaps, run_beside, told


@pytest.fixture
def run_both(run_agent):
    """Return a function that runs a script with and without the agent, and returns the events."""
    return lambda script, *arguments, **options: run_beside(run_agent, script, *arguments, **options)[0]


ARGPARSE = """
import argparse, dataclasses, enum, pathlib, sys
class Color(enum.Enum): RED = 1
class Mode(str, enum.Enum): FAST = "fast"
class Loud:
    def __repr__(self): sys.exit("called")
    __str__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = __repr__
    __hash__ = None
class Proxy(Loud): __class__ = property(Loud.__repr__)
class LoudInt(int):
    def __repr__(self): sys.exit("called")
    __str__ = __repr__
@dataclasses.dataclass
class Data:
    folder: str = "d"
    options: dict = dataclasses.field(default_factory=lambda: {"z": [1, "a"], "proxy": Proxy()})
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
for name, value in dict(
    tiny=1e-300, count=LoudInt(3), color=Color.RED, mode=Mode.FAST, out=pathlib.Path("o"), loud=Loud(), data=Data(),
    names={"b", "a"}, blocks=[{"k": 1}, 2], none=None, yes=True, text="a b", kind=Loud, betas=(0.9, 0.999), empty={},
).items():
    parser.add_argument("--" + name, default=value)
commands = parser.add_subparsers(dest="command")
fit = commands.add_parser("fit")
fit.add_argument("--epochs", type=int)
fit.set_defaults(run=print)
"""


def test_a_command_line_that_argparse_parses(run_both, python, tmp_path):
    script = ARGPARSE + "parser.parse_args()\nparser.parse_args()\n"
    events = run_both(script, "--lr", "0.25", "fit", "--epochs", "3", python=python)
    assert told(events, "argparse") == {
        "lr": "0.25",
        "tiny": "1e-300",
        "count": "3",
        "color": "Color.RED",
        "mode": "fast",
        "out": "o",
        "loud": "<__main__.Loud>",
        "data.folder": "d",
        "data.options.z": "[1, 'a']",
        "data.options.proxy": "<__main__.Proxy>",
        "names": "{'a', 'b'}",
        "blocks.0.k": "1",
        "blocks.1": "2",
        "none": "None",
        "yes": "True",
        "text": "a b",
        "kind": "__main__.Loud",
        "betas": "(0.9, 0.999)",
        "empty": "{}",
        "command": "fit",
        "epochs": "3",
        "run": "builtins.print",
    }
    line = script.count("\n") - 1
    sites = {os.path.basename(event["site"]) for event in of_kind(events, "hyperparameter")}
    assert {f"script.py:{line}"} == sites


def test_only_what_has_changed_is_told_again(run_both, python):
    calls = "parser.parse_known_args([])\nparser.parse_args(['--lr', '3'])\nparser.parse_args(['--lr', '3'])\n"
    events = run_both(ARGPARSE + calls, python=python)
    names = [event["name"] for event in of_kind(events, "hyperparameter")]
    assert ["lr"] == [name for name in names if names.count(name) > 1][:1]
    assert ["lr", "command", "lr"] == [name for name in names if name in ("lr", "command")]
    assert "3.0" == told(events, "argparse")["lr"]


def test_a_command_line_that_is_wrong_ends_as_ever(run_both, python):
    events = run_both(ARGPARSE + "parser.parse_args()", "--lr", "much", python=python, status=2)
    assert {} == told(events, "argparse")


def test_a_forked_child_tells_its_own(run_both, python):
    script = (
        ARGPARSE + "parser.parse_args([])\nimport os\nif not os.fork(): parser.parse_args([]); os._exit(0)\nos.wait()"
    )
    events = run_both(script, python=python)
    lines = [
        (event["process_key"], event["value"]) for event in of_kind(events, "hyperparameter") if event["name"] == "lr"
    ]
    assert [("main", "0.1"), ("main/fork.1", "0.1")] == sorted(lines)


def test_a_subclass_of_a_library_is_not_the_caller(run_both, python, tmp_path):
    """A parser's own methods are passed over, so the site is the user's."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "typed.py").write_text(
        "import argparse\nclass Parser(argparse.ArgumentParser):\n"
        "    def parse(self): return self.parse_args(['--lr', '2'])\n"
    )
    script = (
        "import sys; sys.path.append('site-packages')\nimport typed\n"
        "p = typed.Parser()\np.add_argument('--lr')\np.parse()"
    )
    events = run_both(script, python=python)
    assert [("lr", "2", "script.py:5")] == [
        (event["name"], event["value"], os.path.basename(event["site"])) for event in of_kind(events, "hyperparameter")
    ]


INSTALLED = """
import argparse
def inner(): return argparse.ArgumentParser().parse_args([])
def options():
    parser = argparse.ArgumentParser()
    parser.add_argument('--lr', default=1)
    return parser.parse_args()
def internal():
    parser = argparse.ArgumentParser()
    parser.add_argument('--internal', default=1)
    return parser.parse_args(['--internal', '3'])
"""


@pytest.mark.parametrize("package", ["trainers", "deepspeed"])
@pytest.mark.parametrize("mark", ["site-packages", "target"])
def test_whose_parser_it_is(run_both, tmp_path, package, mark):
    """An installed package counts where it parses the process's command line, unless it is a known launcher."""
    folder = tmp_path / mark
    folder.mkdir()
    (folder / f"{package}.py").write_text(INSTALLED)
    (folder / f"{package}-1.dist-info").mkdir()
    script = (
        f"import sys; sys.path.append({str(folder)!r})\nimport {package}\n{package}.internal(); {package}.options()"
    )
    events = run_both(script, "--lr", "3")
    assert told(events, "argparse") == ({} if package == "deepspeed" else {"lr": "3"})


@pytest.mark.torch
def test_the_launchers_own_parser_is_noise(run_agent):
    worker = "import argparse; p = argparse.ArgumentParser(); p.add_argument('--lr'); p.parse_args()"
    launch = (
        "import sys, runpy, os\nfrom pathlib import Path\n"
        f"Path('worker.py').write_text({worker!r})\n"
        "sys.argv = ['torchrun', '--standalone', '--nproc-per-node', '1', 'worker.py', '--lr', '3']\n"
        "runpy.run_module('torch.distributed.run', run_name='__main__')\n"
    )
    events, finished = run_agent(launch)
    assert 0 == finished.returncode, finished.stderr
    rows = [(event["process_key"], event["name"], event["value"]) for event in of_kind(events, "hyperparameter")]
    assert [("main/rank0", "lr", "3")] == rows


def test_long_and_many_values_are_cut(run_both, python):
    script = (
        "import argparse; p = argparse.ArgumentParser()\np.add_argument('--long', default='x' * 600)\n"
        "p.add_argument('--deep', default={'a': [[[{'b': 1}]]]})\n"
        "p.add_argument('--list', default=list(range(10 ** 6)))\np.add_argument('--set', default=set(range(10 ** 6)))\n"
        "p.add_argument('--number', default=1 << 99999)\np.parse_args([])"
    )
    found = told(run_both(script, python=python), "argparse")
    assert (500, "x" * 480) == (len(found["long"]), found["long"][:480])
    assert found["long"].endswith("xx … (600 characters)")
    assert "[[[{'b': 1}]]]" == found["deep.a"]
    assert found["list"].startswith("[1000000 items, 0, 1, 2, ")
    assert "{1000000 items}" == found["set"]
    assert ("0x8000", "0 … (25002 characters)") == (found["number"][:6], found["number"][-22:])


def test_more_values_than_are_kept_is_a_gap(run_agent, python):
    script = (
        "import argparse; p = argparse.ArgumentParser()\n"
        "p.add_argument('--table', default={str(i): i for i in range(6000)})\nloop = {}\nloop['loop'] = loop\n"
        "q = argparse.ArgumentParser(); q.add_argument('--loop', default=loop)\nq.parse_args([]); p.parse_args([])"
    )
    events, finished = run_agent(script, python=python)
    assert (0, "") == (finished.returncode, finished.stderr)
    assert [("hyperparameters", "more than 5000 names were read; the rest is not kept")] == gaps(events)
    assert 5000 == len(of_kind(events, "hyperparameter"))


CLICK = """
import click
@click.group()
@click.option("--seed", default=3)
@click.option("--password", prompt=True, hide_input=True)
def main(seed, password): pass
@main.command()
@click.option("--lr", default=0.1)
@click.argument("data", type=click.Path())
@click.option("--log", type=click.File("w"), default="log.txt")
def fit(lr, data, log): print(lr, data)
main()
"""


def test_commands_of_click(run_both):
    events = run_both(CLICK, "--password=canary", "--seed", "4", "fit", "--lr", "3", "d")
    expected = {"seed": "4", "password": "(hidden)", "fit.lr": "3.0", "fit.data": "d", "fit.log": "log.txt"}
    assert expected == told(events, "click")
    assert {"script.py:12"} == {os.path.basename(event["site"]) for event in of_kind(events, "hyperparameter")}
    assert "canary" not in str(of_kind(events, "hyperparameter"))


def test_a_command_of_typer(run_both):
    script = "import typer\ndef main(data: str, lr: float = 0.1): print(data, lr)\ntyper.run(main)"
    events = run_both(script, "d", "--lr", "3")
    assert {"data": "d", "lr": "3.0"} == {**told(events, "typer"), **told(events, "click")}


HYDRA = """
import hydra
from omegaconf import OmegaConf
OmegaConf.register_new_resolver("draw", lambda: print("resolved"))
@hydra.main(config_path="conf", config_name="config", version_base=None)
def main(config): print(config.lr, config.model.rate)
main()
"""
CONFIG = """
hydra: {output_subdir: null, run: {dir: .}, sweep: {dir: ., subdir: .}}
lr: 0.1
model: {rate: "${lr}", layers: [1, 2], blocks: [{k: 3}]}
token: ${oc.env:TOKEN}
drawn: ${draw:}
missing: ???
"""


@pytest.mark.parametrize("arguments", [("lr=4",), ("-m", "lr=3,4")], ids=["run", "sweep"])
def test_a_configuration_of_hydra(run_both, tmp_path, arguments):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").write_text(CONFIG)
    events = run_both(HYDRA, *arguments, library="hydra", env={"TOKEN": "canary"})
    expected = {"lr": "4", "model.rate": "${lr}", "model.layers": "[1, 2]", "model.blocks.0.k": "3"}
    expected |= {"token": "${oc.env:TOKEN}", "drawn": "${draw:}", "missing": "???"}
    assert expected == told(events, "hydra")
    rates = [event["value"] for event in of_kind(events, "hyperparameter") if event["name"] == "lr"]
    assert (["3", "4"] if "-m" in arguments else ["4"]) == rates
    assert {"script.py:7"} == {os.path.basename(event["site"]) for event in of_kind(events, "hyperparameter")}
    assert {} == told(events, "argparse")


def test_a_configuration_that_is_composed(run_both, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").write_text("lr: 0.1\n")
    script = (
        "import hydra\nwith hydra.initialize('conf', version_base=None):\n    print(hydra.compose('config', ['+wd=2']))"
    )
    assert {"lr": "0.1", "wd": "2"} == told(run_both(script, library="hydra"), "hydra")


def test_a_configuration_of_omegaconf(run_both, tmp_path):
    (tmp_path / "base.yaml").write_text("lr: 0.1\nmodel: {rate: '${lr}'}\n")
    script = "from omegaconf import OmegaConf as O\nc = O.merge(O.load('base.yaml'), O.from_cli())\nprint(c.lr)"
    events = run_both(script, "lr=3", library="omegaconf")
    assert {"lr": "3", "model.rate": "${lr}"} == told(events, "omegaconf")


def test_a_command_line_that_jsonargparse_parses(run_both, tmp_path):
    (tmp_path / "config.yaml").write_text("opt: {momentum: 0.5}\n")
    script = (
        "import jsonargparse\ndef main(lr: float = 0.1, opt: dict = {}): print(lr, opt)\njsonargparse.auto_cli(main)"
    )
    events = run_both(script, "--config", "config.yaml", "--lr", "3", library="jsonargparse")
    found = told(events, "jsonargparse")
    assert {"lr": "3.0", "opt.momentum": "0.5"} == {name: found[name] for name in ("lr", "opt.momentum")}
    assert {} == told(events, "argparse")


HF_ARGUMENTS = """
import dataclasses
from transformers import HfArgumentParser
@dataclasses.dataclass
class Arguments:
    lr: float = 0.1
    name: str = "x"
print(HfArgumentParser(Arguments).parse_args_into_dataclasses())
"""


@pytest.mark.torch
def test_arguments_that_transformers_parses(run_both):
    events = run_both(HF_ARGUMENTS, "--lr", "3", library="transformers")
    assert {"lr": "3.0", "name": "x"} == told(events, "argparse")
    assert {"script.py:8"} == {os.path.basename(event["site"]) for event in of_kind(events, "hyperparameter")}


LIGHTNING_CLI = """
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI
class Model(LightningModule):
    def __init__(self, lr: float = 0.1): super().__init__()
cli = LightningCLI(Model, run=False, save_config_callback=None, trainer_defaults={"logger": False})
"""


@pytest.mark.torch
def test_the_command_line_of_lightning(run_both):
    events = run_both(LIGHTNING_CLI, "--model.lr", "0.5", library="lightning")
    found = told(events, "lightning.cli")
    assert ("0.5", "auto", "False") == (found["model.lr"], found["trainer.strategy"], found["trainer.logger"])
    assert ({}, {}) == (told(events, "argparse"), told(events, "jsonargparse"))


def test_the_frameworks_are_where_the_makefile_puts_them():
    assert f"{FRAMEWORKS.relative_to(ROOT)}/.ready" in Path(ROOT / "Makefile").read_text()
