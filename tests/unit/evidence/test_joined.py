"""Parts of a run on several nodes are merged purely: the same parts give the same rows, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from repro.errors import InconclusiveError, UsageError
from repro.evidence import joined, seal, tables
from repro.evidence.joined import Membership, NamedPart, Part
from repro.evidence.model import Fact, Gap, Record
from repro.evidence.store import Store


def part(record: Record, node: int, *, nodes: int = 2, join_id: str = "j", **changes) -> Part:
    member = Membership(join_id=join_id, node=node, nodes=nodes)
    run = replace(record.run, run_id=f"{node:012x}", **changes.pop("run", {}))
    facts = (*changes.pop("facts", record.facts), *member.facts())
    return Part(record=replace(record, run=run, facts=facts, **changes), manifest_digest=f"sha256:{node:064x}")


def merged(*parts: Part, **options) -> Record:
    return joined.merge(parts, "f" * 12, "1", **options)


def test_every_row_of_every_process_is_there_under_its_node(record) -> None:
    whole = merged(part(record, 0), part(record, 1))
    for table in tables.tables():
        rows = tables.rows_of(whole, table)
        if "process_key" in table.key or table.key == ("ordinal",):
            assert 2 * len(tables.rows_of(record, table)) == len(rows) > 0, table.name
            assert {"node0", "node1"} == {row.process_key.partition("/")[0] for row in rows}
        assert table.first_twice(table.sorted(rows)) is None
    keys = {process.process_key: process.parent_key for process in whole.processes}
    assert "node1/main" == keys["node1/main/fork.1"]
    assert None is keys["node0/main"]


def test_a_merged_record_can_be_sealed_and_names_its_parts(record, store: Store) -> None:
    directory = store.create_run()
    whole = joined.merge([part(record, 1), part(record, 0)], directory.run_id, "1")
    seal.seal_run(whole, directory, store)
    summary = store.summary(directory)
    assert ("j", 2, None) == (summary.join_id, summary.nodes, summary.node)
    named = [NamedPart(node=n, run_id=f"{n:012x}", manifest_digest=f"sha256:{n:064x}") for n in (0, 1)]
    assert tuple(named) == joined.named_parts(whole)
    assert None is joined.membership(whole)


def test_the_order_of_the_parts_bears_on_nothing(record) -> None:
    parts = part(record, 0), part(record, 1, gaps=())
    assert tables.digests(merged(*parts)) == tables.digests(merged(*reversed(parts)))


def test_facts_are_shared_or_told_apart(record) -> None:
    def named(host: str, *more: Fact) -> tuple[Fact, ...]:
        return (*record.facts, Fact(topic="hardware", name="hostname", value=host, source="observed"), *more)

    lock = Fact(topic="environment", name="wheels", value="3", source="observed")
    whole = merged(part(record, 0, facts=named("a")), part(record, 1, facts=named("b", lock)))
    assert ("a", "b") == tuple(whole.fact("hardware", f"node{node}/hostname") for node in (0, 1))
    assert (None, "3") == (whole.fact("environment", "wheels"), whole.fact("environment", "node1/wheels"))
    assert record.fact("environment", "python_version") == whole.fact("environment", "python_version")
    chains = [whole.fact("trace", f"chain.node{node}/main") for node in (0, 1)]
    assert [record.fact("trace", "chain.main")] * 2 == chains


def test_files_are_watched_as_well_as_on_the_worst_node(record) -> None:
    def watched(value: str) -> tuple[Fact, ...]:
        return (*record.facts, Fact(topic="data", name="lineage", value=value, source="observed"))

    found = {
        values: merged(*(part(record, n, facts=watched(v)) for n, v in enumerate(values))).fact("data", "lineage")
        for values in (("complete", "complete"), ("complete", "partial"), ("none", "complete"), ("none", "none"))
    }
    assert ["complete", "partial", "partial", "none"] == list(found.values())


def test_objects_that_one_node_alone_has_are_under_the_seal(record, store: Store) -> None:
    own = store.objects.put(b"what node 1 printed")
    facts = tuple(replace(f, value=own) if f.name == "stdout_sha256" else f for f in record.facts)
    directory = store.create_run()
    whole = joined.merge([part(record, 0), part(record, 1, facts=facts)], directory.run_id, "1")
    sealed = seal.run_statement(whole, "sha256:" + "0" * 64, tables.digests(whole), store)
    assert own in sealed["predicate"]["objects"]
    assert record.fact("stream", "stdout_sha256") in sealed["predicate"]["objects"]


def test_other_code_and_data_are_gaps_and_other_packages_facts(record) -> None:
    code = tuple(replace(row, sha256="sha256:" + "9" * 64) for row in record.code_files if row.path == "train.py")
    data = tuple(replace(r, digest="sha256:" + "8" * 64) for r in record.data_files if r.category == "data")
    packages = tuple(replace(row, version="2.14.0") for row in record.packages)
    whole = merged(part(record, 0), part(record, 1, code_files=code, data_files=data, packages=packages))
    told = {gap.subject: gap.reason for gap in whole.gaps if gap.topic == "join"}
    assert {"train.py", "best.pt", "data/train.npz"} == set(told)
    assert told["train.py"].endswith("on node 1 and on node 0")
    differs = json.loads(whole.fact("join", "node1/differs.package") or "")
    assert ["torch: another version (2.14.0 and 2.13.0+cpu) on node 1 and on node 0"] == differs


def test_gaps_of_all_nodes_are_kept(record) -> None:
    of_process = Gap(topic="trace", subject="main", reason="its chain breaks")
    own = Gap(topic="lineage", subject="kernel", reason="it was asleep")
    whole = merged(part(record, 0), part(record, 1, gaps=(*record.gaps, of_process, own)))
    assert {*record.gaps, replace(of_process, subject="node1/main"), replace(own, reason="it was asleep (node 1)")} == {
        *whole.gaps
    }


def test_the_run_is_as_long_as_all_and_fails_with_any(record) -> None:
    late = {"ended_at": "2026-03-01T09:01:00.000001Z", "status": "killed", "exit_code": None, "signal": "SIGKILL"}
    run = merged(part(record, 0), part(record, 1, run=late)).run
    assert ("killed", None, "SIGKILL", 60.0) == (run.status, run.exit_code, run.signal, run.wall_seconds)
    assert 2 * record.run.cpu_seconds == run.cpu_seconds


def test_a_missing_node_is_refused_or_a_gap(record) -> None:
    there = part(record, 0, nodes=3), part(record, 2, nodes=3)
    with pytest.raises(InconclusiveError, match="no part of node 1"):
        merged(*there)
    whole = merged(*there, absent="it never came")
    told = {gap.topic for gap in whole.gaps if (gap.subject, gap.reason) == ("node 1", "it never came")}
    assert {"join", "lineage"} == told, "what it read is not known either"


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([{"node": 0}], "are both node 0"),
        ([{"node": 1, "join_id": "k"}], "is a part of the join k"),
        ([{"node": 1, "nodes": 3}], "is one of 3 nodes"),
        ([{"node": 2}], "is node 2, and the join has the nodes 0 to 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(record, others, said) -> None:
    with pytest.raises(UsageError, match=said):
        merged(part(record, 0), *(part(record, **other) for other in others))


def test_neither_a_plain_run_nor_a_merged_one_is_a_part(record) -> None:
    plain = Part(record=record, manifest_digest="")
    whole = Part(record=merged(part(record, 0), part(record, 1)), manifest_digest="")
    for wrong, said in ((plain, "is no part of a join"), (whole, "is the merged run of a join")):
        with pytest.raises(UsageError, match=said):
            merged(wrong)
    with pytest.raises(UsageError, match="nothing to merge"):
        merged()


def test_the_sample_has_rows_in_every_table(record) -> None:
    assert all(getattr(record, each.name) for each in fields(record)), "else the tests above would see nothing"
