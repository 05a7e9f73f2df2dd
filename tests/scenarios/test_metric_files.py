"""What a script writes to files and logs is in the record with no change to its code; times decide nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TRAIN = """
import csv, json, os, random, sys, time
import repro
random.seed(1)
os.makedirs("runs/one", exist_ok=True)
loss = 2.0
with open("runs/one/metrics.csv", "w", newline="") as table, open("log.jsonl", "a") as log:
    rows = csv.writer(table)
    rows.writerow(["epoch", "train/loss", "epoch_seconds"])
    for epoch in range(4):
        began = time.perf_counter()
        loss *= random.random()
        rows.writerow([epoch, loss, time.perf_counter() - began])
        log.write(json.dumps({"epoch": epoch + 10, "accuracy": 1 - loss}) + "\\n")
        repro.log_metric("accuracy", 1 - loss, step=epoch)
        repro.log_metric("step_seconds", time.perf_counter())
json.dump({"score": loss, "trained_at": time.time(), "train_seconds": time.perf_counter()}, open("results.json", "w"))
json.dump({"lr": 0.1}, open("config.json", "w"))
with open("predictions.csv", "w") as table:
    table.write("id,score\\n" + "".join(f"{n},{random.random()}\\n" for n in range(50)))
if os.fork() == 0:
    with open("both.jsonl", "a") as log:
        log.write(json.dumps({"step": 1, "loss": 0.5}) + "\\n")
    sys.exit()
os.wait()
with open("both.jsonl", "a") as log:
    log.write(json.dumps({"step": 1, "loss": 0.25}) + "\\n")
"""


def series(record: Any) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics of a record: name to steps and values."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in record["metrics"]:
        found.setdefault(row["name"], []).append((row["step"], row["value"]))
    return found


def test_files_of_metrics_are_read_and_times_in_them_decide_nothing(repro, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "log.jsonl").write_text('{"epoch": 3, "accuracy": 0.125}\n')  # an earlier run's
    run = repro("record", "--unjudged", "step_*", "--lock-timeout", "0", "--", sys.executable, "train.py", cwd=folder)
    assert 0 == run.exit_status, run.err
    record = repro("show", "@last", "--json", cwd=folder).answer
    found = series(record)
    with (folder / "runs/one/metrics.csv").open() as table:
        rows = [line.strip().split(",") for line in table.readlines()[1:]]
    assert [(int(epoch), float(loss)) for epoch, loss, _ in rows] == found["metrics.csv:train/loss"]
    told = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()[1:]]
    # repro.log_metric was told the same numbers by the same name: the file is no second witness
    assert "log.jsonl:accuracy" not in found
    assert [row["accuracy"] for row in told] == [value for _, value in found["accuracy"]]
    assert [(0, json.loads((folder / "results.json").read_text())["score"])] == found["results.json:score"]
    assert not any(name.startswith(("config.json", "predictions.csv", "both.jsonl")) for name in found)
    facts = {fact["name"]: json.loads(fact["value"]) for fact in record["facts"] if fact["topic"] == "metrics"}
    assert {"log.jsonl", "results.json", "runs/one/metrics.csv"} == {path for path, _, _ in facts["files"]}
    passed_over = dict(facts["files_passed_over"])
    assert {"both.jsonl", "predictions.csv"} == set(passed_over)
    assert "2 processes wrote it" in passed_over["both.jsonl"]
    declared = {row["metric"] for row in record["tolerances"]}
    assert {"step_*", "metrics.csv:epoch_seconds", "results.json:train_seconds"} <= declared

    again = repro("replay", "@last", "--executor", "host", "--json", cwd=folder)
    verdict = again.answer["verdict"]
    assert "MATCHED-EXACTLY" == verdict["word"], verdict["sentence"]
    assert {"metrics.csv:epoch_seconds", "results.json:train_seconds", "step_seconds"} <= set(verdict["unjudged"])
    assert "step_seconds of main differs from step 0 on (declared unjudged)" in verdict["differences"]
    page = repro("report", record["run"]["run_id"], "--format", "text", "--out", tmp_path / "report", cwd=folder)
    assert 0 == page.exit_status, page.err
    text = " ".join((tmp_path / "report" / "report.txt").read_text().split())
    assert "declared unjudged when the run was recorded: no replay is judged by them" in text
