"""Input tokens of the default prompt against the original's, counted by the same rule.

    python benchmarks/teacher_tokens.py <folder of ScienceQA> <folder of the T5 tokenizer>

An image counts ceil(width x height / 750) tokens (here 1,000 x 1,000), text as the T5 tokenizer splits it, and no
caching is assumed. The baseline is the paper's scheme: k requests per question, each with the image. Both score
the same k = 4 rationales of each question.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from ares.data.scienceqa import read_scienceqa
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper
from ares.text.prompts import strip_solution
from ares.text.sentences import split_sentences
from ares.text.tokenizers import load_tokenizer
from ares.types import Problem

K = 4
IMAGE = math.ceil(1000 * 1000 / 750)
OUTPUTS = "test_outputs_llava_13b.json"


def main() -> None:
    """Prints the ratios for published solutions and, where the folder has them, a model's long outputs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer", type=Path)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    problems, splits = read_scienceqa(arguments.data)

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    print("rationales              image   paper    ours   paper/ours   with the schema")
    for name, pairs in sources(problems, splits, arguments.data):
        compare(name, pairs, count)


def sources(
    problems: dict[str, Problem], splits: dict[str, list[str]], data: Path
) -> Iterator[tuple[str, list[tuple[Problem, str]]]]:
    """Sets of questions, each with a rationale, by name."""
    for split in ("val", "train"):
        yield f"solutions, {split}", [(problems[pid], problems[pid].solution) for pid in splits[split]]
    if (data / OUTPUTS).exists():
        outputs = json.loads((data / OUTPUTS).read_text())["outputs"]
        yield (
            "LLaVA with lectures",
            [(problems[pid], text) for pid, text in outputs.items() if pid in problems],
        )


def compare(name: str, pairs: list[tuple[Problem, str]], count: Callable[[str], int]) -> None:
    """Prints the mean tokens per question of both schemes, and their ratio."""
    schema = count(json.dumps(prompts.SCORES))
    for image in (IMAGE, 0):
        theirs = ours = questions = 0
        for problem, text in pairs:
            sentences = strip_solution([text[s.start : s.end] for s in split_sentences(text)])
            if not sentences:
                continue
            questions += 1
            theirs += K * (image + count(paper.score(problem, [sentences], bool(image)).text))
            ours += image + count(prompts.score(problem, [sentences] * K, bool(image)).text)
        print(
            f"{name:22} {image:6} {theirs / questions:7.0f} {ours / questions:7.0f} {theirs / ours:12.2f}"
            f" {theirs / (ours + schema * questions):17.2f}"
        )


if __name__ == "__main__":
    main()
