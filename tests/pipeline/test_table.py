"""A sweep's table and picture."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

from ares.pipeline.manifest import StepEntry, write_entry
from ares.pipeline.sweeps.table import job_row, write_sweep
from ares.storage.files import read_json, write_json


def job(root: Path, shared: Path, supporting: float, requests: int) -> None:
    entry = StepEntry("0", {}, {}, {}, seconds=1.0)
    steps = {
        "round-1/score": replace(entry, seconds=50.0, shared=str(shared)),
        "round-1/ppo": replace(entry, requests=requests, metrics={"train/kl_k1": -0.02}),
        "rationale/assess": replace(entry, metrics={"supporting": 0.5, "repetition": 0.25}),
        "round-1/assess": replace(entry, metrics={"supporting": supporting, "repetition": 0.0}),
    }
    if requests == 0:
        steps["final/evaluate"] = replace(entry, metrics={"accuracy/AVG": 80.0})
    for key, step in steps.items():
        write_entry(root, key, step)


def test_table_of_jobs_by_metrics_and_teacher_requests(tmp_path: Path) -> None:
    shared = tmp_path / "shared" / "score-0"
    write_json(shared / "entry.json", StepEntry("0", {}, {}, {}, requests=40).to_json())
    job(tmp_path / "a", shared, 0.75, 0)
    job(tmp_path / "b", shared, 0.25, 3)
    rows = [job_row(n, {"rl.kl_coef": n}, tmp_path / n, failed=n == "c") for n in ("a", "b", "c")]
    text = write_sweep(tmp_path / "sweep", rows)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert lines[0] == [
        "job",
        "state",
        "supporting",
        "supporting before",
        "KL (-k1)",
        "repetition",
        "accuracy",
        "seconds",
    ]
    assert lines[2] == ["a", "done", "0.75", "0.5", "0.02", "0", "80", "4"]
    assert lines[3] == ["b", "done", "0.25", "0.5", "0.02", "0", "–", "3"]
    assert lines[4] == ["c", "failed", "–", "–", "–", "–", "–", "0"]
    assert "Teacher requests: 40 in 1 shared steps, once for all jobs; 3 in the 3 jobs themselves." in text
    assert read_json(tmp_path / "sweep/sweep.json")[1]["metrics"]["supporting"] == 0.25
    drawing = ElementTree.parse(tmp_path / "sweep/sweep.svg")
    assert {"a", "b", "c", "supporting", "0.75"} <= {element.text for element in drawing.iter()}
