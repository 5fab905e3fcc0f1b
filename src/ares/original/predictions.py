"""The files in which Multimodal-CoT and the original ARES store model outputs: `predictions_ans_*.json`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.evaluation.answers import chosen, extract_answer, letter_to_index
from ares.storage.files import hash_of, read_json, sha256_file, write_json
from ares.types import AresError, Problem

FILES = {
    "train": "predictions_ans_train.json",
    "val": "predictions_ans_eval.json",
    "test": "predictions_ans_test.json",
}


def read_published(folder: Path | str, split: str, pids: Sequence[str]) -> dict[str, str]:
    """Reads a model's outputs for the problems of a split, by pid; the file lists them in the split's order.

    Raises AresError if the file is missing, is not such a file, or has another number of texts.
    """
    return dict(zip(pids, _texts(Path(folder) / FILES[split], "preds", split, pids), strict=True))


def read_published_answers(
    folder: Path | str, split: str, problems: Sequence[Problem]
) -> dict[str, int | None]:
    """Reads the choices (index, None if the output states none) in a split's file of answers, by pid.

    Raises AresError as `read_published` does, and if the file's gold answers (`labels`) differ from those of the
    problems in the split's order: it was written for another order or other data.
    """
    path, pids = Path(folder) / FILES[split], [problem.pid for problem in problems]
    outputs = read_published(folder, split, pids)
    for problem, label in zip(problems, _texts(path, "labels", split, pids), strict=True):
        if problem.answer is not None and letter_to_index(extract_answer(label)) != problem.answer:
            raise AresError(
                f"{path} has {label!r} as the answer of problem {problem.pid}, which differs; the file does not hold "
                "answers, or belongs to other data or another order."
            )
    return {problem.pid: chosen(problem, outputs[problem.pid]) for problem in problems}


def read_published_rationales(folder: Path | str, split: str, problems: Sequence[Problem]) -> dict[str, str]:
    """Reads the rationales in a split's file, by pid.

    Raises AresError as `read_published` does, and if fewer than half of the file's gold rationales (`labels`, if
    present) begin like the problems' own. They need not be equal: a tokenizer has changed them.
    """
    path, pids = Path(folder) / FILES[split], [problem.pid for problem in problems]
    rationales = read_published(folder, split, pids)
    if not read_json(path).get("labels"):
        return rationales
    labels = _texts(path, "labels", split, pids)
    other = [p.pid for p, label in zip(problems, labels, strict=True) if not _is_gold(label, p)]
    if 2 * len(other) > len(problems):
        raise AresError(
            f"{path} has other gold rationales than {len(other)} of {len(problems)} problems of the {split} split "
            f"({other[0]}, ...); it belongs to other data or another order of them."
        )
    return rationales


def _is_gold(label: str, problem: Problem) -> bool:
    """Whether a problem has this gold rationale, or none. A lecture may precede it, and a tokenizer has changed it,
    so only the letters and digits at its beginning are compared."""
    gold = [text for text in (problem.solution, *problem.rationales) if text.strip()]
    return not gold or any(_letters(text.strip().splitlines()[0])[:40] in _letters(label) for text in gold)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def published_files(folder: Path | str | None) -> dict[str, tuple[Path, str]]:
    """A folder of predictions as the input `published` of a step, with its hash; none without a folder."""
    return {"published": (Path(folder), published_hash(folder))} if folder else {}


def published_hash(folder: Path | str) -> str:
    """Hashes the prediction files that exist in a folder; raises AresError if there are none."""
    found = [path for name in FILES.values() if (path := Path(folder) / name).is_file()]
    if not found:
        raise AresError(f"{folder} has none of {', '.join(FILES.values())}; give the folder they are in.")
    return hash_of([[path.name, sha256_file(path)] for path in found])


def _texts(path: Path, name: str, split: str, pids: Sequence[str]) -> list[str]:
    if not path.is_file():
        raise AresError(f"{path} is missing; put the predictions of the {split} split there.")
    content = read_json(path)
    texts = content.get(name) if isinstance(content, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise AresError(f'{path} has no list of texts under "{name}"; it is not a file of predictions.')
    if len(texts) != len(pids):
        raise AresError(
            f"{path} has {len(texts)} {name} and the {split} split {len(pids)} problems; they belong to other data."
        )
    return texts


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
    """Writes a split's file: `preds` and `labels` in the split's order, `scores`, and `num_fail` unreadable answers.

    Raises AresError for a problem without a text.
    """
    missing = [pid for pid in pids if pid not in texts]
    if missing:
        raise AresError(
            f"{len(missing)} problems of the {split} split have no prediction ({missing[0]}, ...); predict the full split first."
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
