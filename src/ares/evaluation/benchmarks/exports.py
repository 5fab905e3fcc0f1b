"""Outputs in the forms in which VLMEvalKit and lmms-eval score them again."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase as LETTERS

from ares.evaluation.benchmarks.base import Item
from ares.storage.files import atomic_path, write_jsonl


def write_vlmevalkit(
    folder: Path, run: str, name: str, items: Sequence[Item], outputs: Mapping[str, str]
) -> Path:
    """Writes `<run>_<name>.tsv`: the columns of the file of questions without images, and `prediction`; returns its path.

    VLMEvalKit's `name` of a benchmark is that of its TSV.
    """
    path = folder / f"{run.replace('/', '-')}_{name}.tsv"
    rows = [
        {
            **item.fields,
            "index": item.index,
            "question": item.question,
            **dict(zip(LETTERS, item.choices, strict=False)),
            "answer": item.answer,
            "prediction": outputs[item.index],
        }
        for item in items
    ]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "file"))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_lmms_eval(folder: Path, name: str, items: Sequence[Item], outputs: Mapping[str, str]) -> Path:
    """Writes `samples_<name>.jsonl`: doc_id, doc, target, resps and filtered_resps per question; returns its path."""
    path = folder / f"samples_{name}.jsonl"
    rows = (
        {
            "doc_id": number,
            "doc": {key: value for key, value in item.fields.items() if key != "file"},
            "target": item.answer,
            "resps": [[outputs[item.index]]],
            "filtered_resps": [outputs[item.index]],
        }
        for number, item in enumerate(items)
    )
    write_jsonl(path, rows)
    return path
