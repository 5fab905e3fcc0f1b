"""LLaVA-Bench in its original files: questions, descriptions of the images, reference answers and the judge's rules."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ares.storage.files import read_jsonl, read_object
from ares.types import AresError

_QUESTIONS, _CONTEXT, _ANSWERS = "questions.jsonl", "context.jsonl", "answers_gpt4.jsonl"
_RULE = "rule.json"  # of LLaVA's own folder; its prompts replace ours


def original_files(folder: Path) -> list[Path]:
    """The files of LLaVA-Bench in a folder, none in any other folder. Raises AresError where one is missing."""
    if not (folder / _QUESTIONS).is_file() or not (folder / _ANSWERS).is_file():
        return []
    if not (folder / _CONTEXT).is_file():
        raise AresError(f"{folder} has no {_CONTEXT}, which describes the images; fetch LLaVA-Bench again.")
    files = [folder / name for name in (_QUESTIONS, _CONTEXT, _ANSWERS, _RULE)]
    return [file for file in files if file.is_file()]


def read_originals(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The questions, each with the caption of its image, GPT-4's answer and, where there is one, the rule of its category.

    Questions and answers belong together by question_id, images by name. Raises AresError where one is missing.
    """
    captions = {row.get("image"): row.get("caption") for row in read_jsonl(folder / _CONTEXT)}
    answers = {row.get("question_id"): row.get("text") for row in read_jsonl(folder / _ANSWERS)}
    rules: Mapping[str, Any] = read_object(folder / _RULE) if (folder / _RULE).is_file() else {}
    for number, row in enumerate(read_jsonl(folder / _QUESTIONS), start=1):
        place, index = f"{folder / _QUESTIONS}: row {number}", row.get("question_id")
        caption, answer = captions.get(row.get("image")), answers.get(index)
        if not caption or not answer:
            missing = f"answer in {_ANSWERS}" if caption else f"image in {_CONTEXT}"
            raise AresError(f"{place}, question {index} has no {missing}; fetch LLaVA-Bench again.")
        rule = rules.get(f"llava_bench_{row.get('category')}", {}).get("prompt", "")
        further = {
            "index": index,
            "caption": caption,
            "gpt_answer": answer,
            "rule": rule,
            "file": folder.name,
        }
        yield place, {**row, **further}
