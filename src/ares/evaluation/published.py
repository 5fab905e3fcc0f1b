"""The files in which Multimodal-CoT and the original ARES pass on what a model wrote: `predictions_ans_*.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.store import read_json, write_json
from ares.types import AresError

FILES = {
    "train": "predictions_ans_train.json",
    "val": "predictions_ans_eval.json",
    "test": "predictions_ans_test.json",
}


def read_published(folder: Path | str, split: str, pids: Sequence[str]) -> dict[str, str]:
    """What a model wrote about the problems of a split, by pid; the file has it in the split's order.

    Raises AresError where the file is missing, is no such file, or has another number of texts.
    """
    path = Path(folder) / FILES[split]
    if not path.is_file():
        raise AresError(f"{path} is missing; put the predictions of the {split} split there.")
    content = read_json(path)
    texts = content.get("preds") if isinstance(content, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise AresError(f'{path} has no list of texts under "preds"; it is not a file of predictions.')
    if len(texts) != len(pids):
        raise AresError(
            f"{path} has {len(texts)} predictions and the {split} split {len(pids)} problems; they belong to other data."
        )
    return dict(zip(pids, texts, strict=True))


def write_published(
    folder: Path | str,
    split: str,
    texts: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    pids: Sequence[str],
    scores: Mapping[str, Any] | None = None,
    failed: int = 0,
) -> Path:
    """Writes a split's file: `preds` and `labels` in the split's order, `scores`, and `num_fail` without an answer.

    Raises AresError for a problem without a text: the order could not be kept.
    """
    missing = [pid for pid in pids if pid not in texts]
    if missing:
        raise AresError(
            f"{len(missing)} problems of the {split} split have no prediction ({missing[0]}, ...); predict the whole split first."
        )
    path = Path(folder) / FILES[split]
    content = {
        "num_fail": failed,
        "scores": dict(scores or {}),
        "preds": [texts[pid] for pid in pids],
        "labels": [labels[pid] for pid in pids],
    }
    write_json(path, content)
    return path
