"""Which files of a run are read for metrics: by whom they were written, and what stood in them before."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from repro.evidence import judging
from repro.evidence.model import CodeFile, DataFile, Metric
from repro.record.capture import Findings
from repro.record.capture.metricfiles import MOST_FILES, after
from repro.record.eventlog import Events, Open
from repro.record.kernel.log import KernelEvents, Opened
from repro.record.settings import Settings


def row(path: str, **changes: Any) -> DataFile:
    known: dict[str, Any] = {
        "path": path,
        "role": "output",
        "category": "data",
        "dataset": None,
        "size_bytes": None,
        "digest": None,
        "modified_at": None,
        "process_key": "main",
        "library": "python",
        "seen_by": "agent",
        "changed_during_run": False,
    }
    return DataFile(**{**known, **changes})


def opened(path: Path, key: str = "main", at: float = 1.0, size: int | None = None) -> Open:
    return Open(
        process_key=key,
        path=str(path),
        mode="write",
        library="python",
        at=at,
        size_bytes=size,
        mtime_ns=None,
        inode=None,
        existed=size is not None,
    )


def written(path: Path, size: int | None = None, before: str | None = None) -> KernelEvents:
    event = Opened(
        pid=1,
        path=str(path),
        mode="write",
        existed=size is not None,
        size_bytes=size,
        mtime_ns=None,
        ctime_ns=None,
        inode=None,
        device=None,
        before=before,
        at=1.0,
    )
    return KernelEvents(layer="seccomp", opens=[event])


def sha(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def look(context, tmp_path: Path):
    """Return a function that reads the files of metrics of a run that wrote some files."""

    def run(
        files: dict[str, str],
        *opens: Open,
        metrics: tuple[Metric, ...] = (),
        code=(),
        patterns=None,
        change=None,
        **more: Any,
    ):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        if change is not None:
            change()
        events = Events()
        events.opens += opens or [opened(tmp_path / name) for name in files]
        events.ended_at["main"] = 2.0
        events.metrics += metrics
        findings = Findings(data_files=tuple(map(row, files)), code_files=code)
        return after(
            context(tmp_path, events=events, findings=findings, settings=Settings(metric_files=patterns), **more)
        )

    return run


def points(found: Findings) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for metric in found.metrics:
        series.setdefault(metric.name, []).append((metric.step, metric.value))
    return series


def passed_over(found: Findings) -> dict[str, str]:
    return dict(json.loads(found.fact("metrics", "files_passed_over") or "[]"))


LOG = "epoch,loss\n0,0.5\n1,0.25\n"


def test_a_log_is_read(look) -> None:
    found = look({"out/log.csv": LOG, "config.json": '{"lr": 1}'})
    assert {"log.csv:loss": [(0, 0.5), (1, 0.25)]} == points(found)
    assert '[["out/log.csv", 2, 1]]' == found.fact("metrics", "files")
    assert () == found.gaps
    assert {"main"} == {metric.process_key for metric in found.metrics}


def test_types_are_those_of_the_text(look) -> None:
    found = look({"metrics.json": '{"a": 1, "b": 1.0, "c": true, "d": 1e400, "e": 9007199254740993}'})
    assert {
        "metrics.json:" + n: t for n, t in zip("abcde", ("int", "float64", "bool", "float64", "int"), strict=True)
    } == {metric.name: metric.dtype for metric in found.metrics}
    assert ["an integer that float64 may not hold was rounded to it, or left out"] == [g.reason for g in found.gaps]


def test_times_in_files_are_sealed_as_unjudged(look) -> None:
    found = look({"log[1].csv": "epoch,loss,epoch_seconds\n0,0.5,1.5\n"})
    names = {metric.name: judging.is_unjudged(metric.name, found.tolerances) for metric in found.metrics}
    assert {"log[1].csv:loss": False, "log[1].csv:epoch_seconds": True} == names


@pytest.mark.parametrize("layer", ["kernel", "code"])
def test_rows_that_were_there_before_are_not_the_runs(look, tmp_path: Path, layer: str) -> None:
    path = tmp_path / "log.csv"
    code = CodeFile(path="log.csv", kind="file", mode=0o644, size_bytes=len(LOG), sha256=sha(LOG), state="untracked")
    more = {"kernel": written(path, len(LOG), sha(LOG))} if layer == "kernel" else {"code": (code,)}
    found = look({"log.csv": LOG + "2,0.125\n"}, opened(path, size=len(LOG)), **more)
    assert {"log.csv:loss": [(2, 0.125)]} == points(found)


def test_a_file_that_was_written_anew_is_read_whole(look, tmp_path: Path) -> None:
    path, old = tmp_path / "log.csv", "epoch,loss\n7,1.5\n"
    everything = {"log.csv:loss": [(0, 0.5), (1, 0.25)]}
    assert everything == points(look({"log.csv": LOG}, opened(path, size=9), kernel=written(path, 9)))
    assert everything == points(look({"log.csv": LOG}, opened(path, size=9), kernel=written(path, 9, sha(old[:9]))))
    assert everything == points(look({"log.csv": LOG}, opened(path, size=len(LOG) + 1)))


def test_where_nobody_saw_what_was_there_before_nothing_is_read(look, tmp_path: Path) -> None:
    found = look({"log.csv": LOG}, opened(tmp_path / "log.csv", size=9))
    assert {} == points(found)
    assert "whether it was written anew was not seen" in passed_over(found)["log.csv"]


def test_files_of_several_processes(look, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    both = (opened(path, "main/rank1"), opened(path, "main/rank0"))
    rows = [{"epoch": 1, "rank": rank, "loss": rank / 2} for rank in (1, 0)]
    found = look({"log.jsonl": "".join(f"{json.dumps(each)}\n" for each in rows)}, *both)
    assert {"log.jsonl:loss{rank=0}": [(1, 0.0)], "log.jsonl:loss{rank=1}": [(1, 0.5)]} == points(found)
    assert {"main/rank0"} == {metric.process_key for metric in found.metrics}
    found = look({"log.jsonl": '{"epoch": 1, "loss": 0.5}\n'}, *both)
    assert "2 processes wrote it" in passed_over(found)["log.jsonl"]


def test_a_file_that_no_python_process_wrote(look, tmp_path: Path) -> None:
    found = look({"log.csv": LOG}, opened(tmp_path / "other.csv"))
    assert "no Python process was seen to write it" in passed_over(found)["log.csv"]


def test_the_last_line_of_a_writer_that_was_killed(look, tmp_path: Path) -> None:
    found = look({"log.csv": LOG + "2,0.12"}, opened(tmp_path / "log.csv", "main/rank0"))
    assert [(0, 0.5), (1, 0.25)] == points(found)["log.csv:loss"]


@pytest.mark.parametrize(("values", "kept"), [((0.5, 0.25), False), ((0.5, 0.25, 0.125), False), ((0.5, 1.0), True)])
def test_what_a_tracker_was_told_is_not_kept_twice(look, values: tuple[float, ...], kept: bool) -> None:
    told = tuple(
        Metric(process_key="main", name="lightning/loss", step=9 * n, value=v, dtype="float32", at_seconds=0.0)
        for n, v in enumerate(values)
    )
    assert kept == bool(points(look({"log.csv": LOG}, metrics=told)))


def test_the_settings_choose_files_whatever_they_look_like(look) -> None:
    files = {"data.csv": "id,x\n1,0.5\n2,1.5\n", "log.csv": LOG, "bad.csv": "1,2\n"}
    found = look(files, patterns=("data.csv", "bad.csv"))
    assert {"data.csv:id": [(0, 1.0), (1, 2.0)], "data.csv:x": [(0, 0.5), (1, 1.5)]} == points(found)
    assert [("bad.csv", True)] == [(gap.subject, "the settings name it" in gap.reason) for gap in found.gaps]
    assert Findings() == look(files, patterns=())


def test_what_can_no_longer_be_read(look, tmp_path: Path) -> None:
    def replaced() -> None:
        for path in (tmp_path / "gone.csv", tmp_path / "pipe.csv"):
            path.unlink()
        os.mkfifo(tmp_path / "pipe.csv")

    found = look({"gone.csv": LOG, "pipe.csv": LOG}, change=replaced)
    assert {} == points(found)
    assert {"gone.csv": "it cannot be opened: No such file or directory", "pipe.csv": "it is no regular file"} == (
        passed_over(found)
    )


def test_lines_that_cannot_be_read_and_too_many_files_are_gaps(look) -> None:
    found = look({"log.jsonl": '{"epoch": 1, "loss": 0.5}\n?\n'})
    assert [("metrics", "log.jsonl", "1 lines of it could not be read")] == [
        (gap.topic, gap.subject, gap.reason) for gap in found.gaps
    ]
    found = look({f"{n}/log.csv": LOG for n in range(MOST_FILES + 1)})
    assert MOST_FILES == len(points(found))
    assert f"{MOST_FILES + 1} files may hold metrics" in found.gaps[0].reason
