"""How much a score depends on the rest of its request: |score grouped - score alone| on the sample.

    python benchmarks/teacher_grouping.py                                     # a simulated Teacher with a bias
    python benchmarks/teacher_grouping.py --model claude-haiku-5-5            # Claude: costs money
    python benchmarks/teacher_grouping.py --url http://localhost:8000/v1 --model <name>

Each question gets 4 rationales of true and false sentences. The baseline is the difference between two
runs of asking alone: 0 for a deterministic Teacher. Without `--model`, the Teacher is the loopback server's, which
moves a score by `--bias` times how much better its rationale is than the others: a check of the measure, not of a
language model.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any

from ares.data.sample.generator import generate
from ares.data.sample.kinds import KINDS
from ares.teachers.parsing import FeedbackError
from ares.teachers.services.anthropic import AnthropicTeacher
from ares.teachers.services.chat import ChatTeacher
from ares.teachers.services.openai import OpenAITeacher
from ares.text.sentences import sentences_of
from ares.types import Problem

SERVER = Path(__file__).resolve().parents[1] / "tests" / "support" / "loopback" / "server.py"
K = 4
Question = tuple[Problem, list[list[str]]]


def main() -> None:
    """Prints the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--model")
    parser.add_argument("--url")
    parser.add_argument("--bias", type=float, default=0.3)
    arguments = parser.parse_args()
    command = [sys.executable, str(SERVER), json.dumps({"bias": arguments.bias})]
    own = arguments.model is None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if own else nullcontext() as server:
        if server:
            assert server.stdout
            arguments.url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        questions = list(make_questions(arguments.questions))
        grouped = scores(teacher_of(arguments, "k"), questions)
        alone = scores(teacher_of(arguments, "1"), questions)
        again = scores(teacher_of(arguments, "1"), questions)
        if server:
            server.kill()
    report("grouped - alone", grouped, alone)
    report("alone - alone again", alone, again)
    report_places(teacher_of(arguments, "k"), questions, grouped, alone)


def make_questions(count: int) -> list[Question]:
    """Problems of the sample with rationales of 3 sentences each, of its own solution and of another."""
    draw = random.Random(0)
    problems = [item.problem for item in generate({"train": count + len(KINDS)})]
    found: list[Question] = []
    for problem, other in zip(problems, problems[len(KINDS) :], strict=False):  # another one of the same kind
        texts = [*sentences_of(problem.solution), *sentences_of(other.solution)]
        found.append((problem, [draw.sample(texts, 3) for _ in range(K)]))
    return found


def teacher_of(arguments: argparse.Namespace, group: str) -> ChatTeacher[Any]:
    """The Teacher without a ledger, so that repeated questions are sent again."""
    settings: dict[str, Any] = {"model": arguments.model or "loopback", "group": group}
    if arguments.url:
        return OpenAITeacher(base_url=arguments.url, options={"temperature": 0}, **settings)
    return AnthropicTeacher(options={"thinking": {"type": "disabled"}}, **settings)


def scores(teacher: ChatTeacher[Any], questions: list[Question]) -> dict[tuple[str, int, int], float]:
    """The readable scores by question, rationale and sentence."""

    async def ask() -> list[Any]:
        found = await asyncio.gather(*(teacher.score(*question) for question in questions))
        await teacher.close()
        return found

    return {
        (problem.pid, number, place): score
        for (problem, _), results in zip(questions, asyncio.run(ask()), strict=True)
        for number, result in enumerate(results)
        if not isinstance(result.scores, FeedbackError)
        for place, score in enumerate(result.scores)
    }


def report(name: str, one: dict[Any, float], other: dict[Any, float]) -> None:
    """Prints the mean difference, its 95 % quantile, and the number of sentences."""
    differences = sorted(abs(one[key] - other[key]) for key in one.keys() & other.keys())
    if not differences:
        raise SystemExit("No score could be read.")
    quantile = differences[int(0.95 * len(differences))]
    print(f"|{name}|: mean {fmean(differences):.3f}, 95 % below {quantile:.3f}, {len(differences)} sentences")


def report_places(
    teacher: ChatTeacher[Any], questions: list[Question], grouped: dict[Any, float], alone: dict[Any, float]
) -> None:
    """Prints the mean of grouped - alone by the rationale's position in its request."""
    places: list[list[float]] = [[] for _ in range(K)]
    for problem, rationales in questions:
        [order] = teacher.score_groups(problem, rationales)
        for place, number in enumerate(order):
            keys = [(problem.pid, number, sentence) for sentence in range(len(rationales[number]))]
            places[place] += [grouped[key] - alone[key] for key in keys if key in grouped and key in alone]
    means = ", ".join(f"{fmean(found):+.3f}" for found in places)
    print(f"grouped - alone, from the first to the last position in a request: {means}")


if __name__ == "__main__":
    main()
