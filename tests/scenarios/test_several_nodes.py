"""A training on two nodes with addresses of their own: two parts, one run, and the truth about what is missing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.conftest import Ran, shown

TRAIN = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    loss = ((model(torch.randn(8, 4)) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.barrier()
dist.destroy_process_group()
"""
SMALL = "import random, sys; print(random.random()); open(f'out{sys.argv[1]}', 'w').write(sys.argv[1])"


@pytest.fixture
def nodes() -> Iterator[tuple[str, str]]:
    """Yield the names of two network namespaces, 10.87.0.1 and 10.87.0.2, that see each other and nothing else."""
    names = tuple(f"repro{os.getpid()}n{number}" for number in (0, 1))
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "nodes0", "netns", names[0], "type", "veth", "peer", "name", "nodes0", "netns", names[1])
        for number, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.87.0.{number + 1}/24", "dev", "nodes0")
            ip("-n", name, "link", "set", "nodes0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def on_nodes(nodes: tuple[str, str], repro_home: Path) -> Callable[..., list[Ran]]:
    """Return a function that runs one command on each node at once."""

    def run(arguments: list[list[str]], cwd: Path) -> list[Ran]:
        variables = {"REPRO_HOME": str(repro_home), "GLOO_SOCKET_IFNAME": "nodes0"}
        started = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-m", "repro", *words],
                cwd=cwd,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, words in zip(nodes, arguments, strict=True)
        ]
        return [Ran(exit_status=p.returncode, out=out, err=err) for p in started for out, err in [p.communicate()]]

    return run


def launched(node: int, script: str = "train.py") -> list[str]:
    """Return the command of a node, as a user gives it."""
    rendezvous = ["--nnodes", "2", "--node-rank", str(node), "--master-addr", "10.87.0.1", "--master-port", "29431"]
    return [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc-per-node", "1", script]


def joined(name: str, *options: str) -> list[str]:
    return ["record", "--lock-timeout", "0", "--join", name, *options, "--"]


def facts(seen: Any, topic: str) -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in seen["facts"] if fact["topic"] == topic}


def parts(repro: Any, cwd: Path) -> dict[str, str]:
    """Return the sealed parts of every join: node to run id."""
    found = repro("runs", "--json", cwd=cwd).answer
    return {str(run["node"]): run["run_id"] for run in found if run["node"] is not None}


@pytest.mark.torch
@pytest.mark.netns
def test_two_nodes_are_one_run(repro, on_nodes, tmp_path: Path, repro_home: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    ran = on_nodes([[*joined("job-1"), *launched(node)] for node in (0, 1)], tmp_path)
    assert [0, 0] == [each.exit_status for each in ran], "\n".join(each.err for each in ran)
    assert 1 == sum("all parts are merged to run" in each.err for each in ran)
    whole = next(run for run in repro("runs", "--json", cwd=tmp_path).answer if run["join_id"] and run["node"] is None)
    seen = shown(repro, whole["run_id"], tmp_path)
    ranks = {p["process_key"]: (p["rank"], p["world_size"]) for p in seen["processes"] if p["rank"] is not None}
    assert {"node0/main/rank0": (0, 2), "node1/main/rank1": (1, 2)} == ranks
    own = {node: shown(repro, run, tmp_path) for node, run in parts(repro, tmp_path).items()}
    for node, part in own.items():
        told = [f for f in seen["fingerprints"] if f["process_key"].startswith(f"node{node}/")]
        assert [f["words"] for f in part["fingerprints"]] == [f["words"] for f in told] != []
        chains = facts(part, "trace").items()
        assert {f"chain.node{node}/{key.removeprefix('chain.')}": link for key, link in chains}.items() <= facts(
            seen, "trace"
        ).items()
    assert "job-1" == facts(seen, "join")["id"]
    verified = repro("verify", whole["run_id"], cwd=tmp_path)
    assert (0, 2) == (verified.exit_status, verified.out.count("as it was merged")), verified.out
    assert "job-1, all 2" in repro("runs", cwd=tmp_path).out
    alone = repro("replay", own["0"]["run"]["run_id"], "--executor", "host", cwd=tmp_path)
    assert (5, True) == (alone.exit_status, "would wait for the others" in alone.err)
    replayed = repro("replay", whole["run_id"], "--executor", "host", "--json", cwd=tmp_path)
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.err
    again = shown(repro, replayed.answer["replay_id"], tmp_path)
    assert whole["run_id"] == again["run"]["replay_of"]
    assert {key: rank for key, (rank, _) in ranks.items()} == {
        p["process_key"]: p["rank"] for p in again["processes"] if p["rank"] is not None
    }
    altered = RunFiles(repro_home, own["1"]["run"]["run_id"])
    altered.spoil()
    verified = repro("verify", whole["run_id"], cwd=tmp_path)
    assert (3, 1) == (verified.exit_status, verified.out.count("as it was merged")), verified.out


class RunFiles:
    """The files of a run, to be spoilt."""

    def __init__(self, home: Path, run_id: str) -> None:
        self.manifest = home / "runs" / run_id / "manifest.duckdb"

    def spoil(self) -> None:
        content = bytearray(self.manifest.read_bytes())
        content[len(content) // 2] ^= 1
        self.manifest.chmod(0o644)
        self.manifest.write_bytes(content)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "small.py").write_text(SMALL)
    return folder


def command(node: int) -> list[str]:
    return [sys.executable, "small.py", str(node)]


def test_a_node_that_never_comes_is_missing_until_that_is_accepted(repro, small: Path) -> None:
    first = repro(*joined("j", "--nodes", "3", "--node", "0"), *command(0), cwd=small)
    assert first.exit_status == 0
    assert "not sealed yet: 1, 2" in first.err
    assert repro(*joined("j", "--nodes", "3", "--node", "2"), *command(2), cwd=small).exit_status == 0
    refused = repro("merge", "j", "--wait", "0.2", cwd=small)
    assert (5, True) == (refused.exit_status, "has no part of node 1" in refused.err), refused.err
    merged = repro("merge", "j", "--incomplete", "--json", cwd=small)
    seen = shown(repro, merged.answer["run_id"], small)
    gaps = [(gap["subject"], gap["reason"]) for gap in seen["gaps"] if gap["topic"] == "join"]
    assert ["node 1"] == [subject for subject, _ in gaps]
    assert "nothing of this node was observed" in gaps[0][1]
    again = repro("merge", "j", "--incomplete", cwd=small)
    assert "as they were before" in again.out
    # It comes after all: now the parts are complete, and the last one merges them.
    late = repro(*joined("j", "--nodes", "3", "--node", "1"), *command(1), cwd=small)
    assert "all parts are merged to run" in late.err
    whole = shown(repro, repro("merge", "j", "--json", cwd=small).answer["run_id"], small)
    assert [] == [gap for gap in whole["gaps"] if gap["topic"] == "join"]
    assert {"node0/main", "node1/main", "node2/main"} == {p["process_key"] for p in whole["processes"]}
    assert {"out0", "out1", "out2"} <= {f["path"] for f in whole["data_files"] if f["role"] == "output"}


def test_what_does_not_belong_together_is_not_merged(repro, small: Path, repro_home: Path) -> None:
    runs = {}
    for name, node in (("a", "0"), ("b", "1"), ("c", "0")):
        ran = repro(*joined(name, "--nodes", "2", "--node", node)[:-1], "--json", "--", *command(0), cwd=small)
        runs[name] = json.loads(ran.err.splitlines()[-1])["run_id"]
    taken = repro(*joined("a", "--nodes", "2", "--node", "0"), *command(0), cwd=small)
    assert (2, True) == (taken.exit_status, "node 0 of the join a is there already" in taken.err)
    unknown = repro(*joined("d"), *command(0), cwd=small)
    assert (2, True) == (unknown.exit_status, "needs the number of nodes" in unknown.err)
    alone = repro("record", "--lock-timeout", "0", "--json", "--", *command(0), cwd=small)
    plain = json.loads(alone.err.splitlines()[-1])["run_id"]
    for others, said in ((("a", "b"), "is a part of the join b"), (("a", "a"), "are both node 0")):
        refused = repro("merge", *(runs[name] for name in others), cwd=small)
        assert (2, True) == (refused.exit_status, said in refused.err), refused.err
    refused = repro("merge", plain, cwd=small)
    assert (2, True) == (refused.exit_status, "is no part of a join" in refused.err)
    RunFiles(repro_home, runs["c"]).spoil()
    assert 3 == repro("merge", runs["c"], "--incomplete", cwd=small).exit_status
    (repro_home / "runs" / runs["b"] / "statement.dsse.json").unlink()
    assert 4 == repro("merge", runs["b"], "--incomplete", cwd=small).exit_status


def test_parts_of_other_stores_are_brought_in_and_what_differs_is_told(repro, small: Path, tmp_path: Path) -> None:
    homes = [tmp_path / "store0", tmp_path / "store1"]
    for node, home in enumerate(homes):
        (small / "small.py").write_text(SMALL + f"\n# as on node {node}\n")
        ran = repro(
            *joined("far", "--nodes", "2", "--node", str(node)),
            *command(node),
            cwd=small,
            variables={"REPRO_HOME": str(home)},
        )
        assert ran.exit_status == 0, ran.err
    folders = list(itertools.chain.from_iterable((home / "runs").iterdir() for home in homes))
    assert 4 == repro("merge", *folders, cwd=small).exit_status, "nobody here trusts their keys"
    keys = [shutil.copy(home / "keys" / "signing.pub", tmp_path / f"{home.name}.pub") for home in homes]
    trust = [word for key in keys for word in ("--trust", key)]
    merged = repro("merge", *folders, *trust, "--json", cwd=small)
    assert merged.exit_status == 0, merged.err
    for home in homes:
        shutil.rmtree(home)
    seen = shown(repro, merged.answer["run_id"], small)
    told = [gap for gap in seen["gaps"] if gap["topic"] == "join"]
    assert ["small.py"] == [gap["subject"] for gap in told]
    assert "another sha256" in told[0]["reason"]
    seeds = {name: value for name, value in facts(seen, "randomness").items() if name.endswith("hash_seed")}
    assert {"node0/hash_seed", "node1/hash_seed"} == set(seeds)
    verified = repro("verify", merged.answer["run_id"], *trust, cwd=small)
    assert (0, 2) == (verified.exit_status, verified.out.count("as it was merged")), verified.out
