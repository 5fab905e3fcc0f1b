"""respond: the run's policy answers the questions of a benchmark, directly or with the help of a rationale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.evaluation.answers import chosen
from ares.evaluation.benchmarks.base import Item
from ares.evaluation.benchmarks.items import problem_of, prompt_of
from ares.ranks import is_first
from ares.steps.common.benchmarks import configured, folder_of, question_files, questions_of
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.features import making
from ares.steps.common.generation import check_engine, engine_of
from ares.steps.common.inputs import examples_of, policy_of
from ares.steps.common.parts import by_parts
from ares.storage.files import write_json, write_jsonl
from ares.text.prompts import LETTERS
from ares.types import Example, Problem, Rationale, Response

if TYPE_CHECKING:
    from ares.models.policy import Policy

SPEC = StepSpec(
    name="respond",
    reads=lambda config, place: (
        ("policy", "adapter") if config.benchmark.answer == "rationale" else ("policy",)
    ),
    writes=("responses",),
    settings=(
        *("text", "model._target_", "engine._target_", "features._target_", "features.arguments"),
        *("generate.batch_size", "generate.max_new_tokens", "lora.max_output_tokens"),
        *(
            "benchmark.answer",
            "benchmark.prompt",
            "benchmark.max_new_tokens",
            "benchmark.rotate",
            "benchmark.name",
        ),
    ),
    runs_on="device",
    folder_of=lambda config: f"{folder_of(config)}/responses",
    wanted=lambda config, place: not config.benchmark.score_only,
    files=question_files,
    check=check_engine,
)


def respond(config: Config, context: StepContext) -> StepResult:
    """Writes `responses.jsonl`: index, output, the rationale before it if there is one, and whether it was cut."""
    items = _questions(config, context)
    context = _with_features(config, context, items)
    policy = policy_of(config, context, context.inputs["policy"])
    if config.benchmark.answer == "rationale":
        rows = _with_rationales(config, context, policy, items)
    else:
        prompts = {item.index: _direct(item, config.benchmark.prompt) for item in items}
        written = _written(config, context, policy, prompts, "direct", config.benchmark.max_new_tokens)
        rows = [{"index": row.pid, "output": row.text, "truncated": row.truncated} for row in written]
    if not is_first():
        return StepResult({})
    path = context.folder / "responses.jsonl"
    write_jsonl(path, rows)
    cut = sum(bool(row["truncated"]) for row in rows) / max(1, len(rows))
    return StepResult({"responses": path}, {"questions": len(rows), "truncated": cut})


def _questions(config: Config, context: StepContext) -> list[Item]:
    """The questions with their images, which all runs decode once into one folder."""
    file, sha256 = question_files(config)["questions"]
    folder = Path(config.paths.runs).resolve() / "shared" / f"benchmark-{sha256[:16]}"
    with making(folder) as complete:
        items = questions_of(config, context.inputs["questions"], folder / "images")
        if not complete:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "prepared.json", {"file": str(file), "sha256": sha256})
    return items


def _with_features(config: Config, context: StepContext, items: Sequence[Item]) -> StepContext:
    """The context with the images' features, by the run's encoder, for a policy that does not read images itself."""
    if config.model.reads_images or config.features._target_ is None:
        return context
    from ares.vision.extraction import extract_features

    images = {item.index: item.images[0] for item in items if item.images}
    folder = context.checkpoints / "features"
    with making(folder) as complete:
        if not complete:
            block = config.features
            extract_features(
                images, block.build(), folder, batch_size=block.batch_size, workers=block.workers
            )
            write_json(folder / "prepared.json", {"images": len(images)})
    return replace(context, inputs={**context.inputs, "features": folder})


def _direct(item: Item, template: str) -> Example:
    text = prompt_of(item, template)
    return Example(text, "", item.index, item.images, text, verbatim=True)


def _with_rationales(
    config: Config, context: StepContext, policy: "Policy", items: Sequence[Item]
) -> list[dict[str, object]]:
    """The answers of the run's adapter given the policy's rationales: the letter, or yes or no, that each states."""
    from ares.engines.hf import greedy_responses

    yes_no = ("Yes", "No") if configured(config).yes_no else ()
    problems = {item.index: problem_of(item, item.choices or yes_no) for item in items}
    prompts = examples_of(problems, problems, "QCM-E", config)
    found = _written(config, context, policy, prompts, "rationales", config.generate.max_new_tokens)
    rationales = {row.pid: row.text for row in found}
    prompts = examples_of(problems, problems, "QCMG-A", config, rationales)
    answerer, size = policy.answerer(context.inputs["adapter"]), config.generate.batch_size

    def write(examples: Mapping[str, Example], label: str) -> list[Response]:
        tokens = config.lora.max_output_tokens
        return greedy_responses(answerer, examples, max_new_tokens=tokens, batch_size=size, label=label)

    answers = by_parts(context, prompts, write, split="answers", batch_size=size)
    return [
        {
            "index": item.index,
            "output": stated_choice(problems[row.pid], row.text, is_word=not item.choices),
            "rationale": rationales[row.pid],
            "truncated": row.truncated,
        }
        for item, row in zip(items, answers, strict=True)
    ]


def stated_choice(problem: Problem, output: str, *, is_word: bool) -> str:
    """The choice of an output as suites expect it: its letter, or the word yes or no; the output without a choice."""
    index = chosen(problem, output)
    return output if index is None else problem.choices[index] if is_word else LETTERS[index]


def _written(
    config: Config,
    context: StepContext,
    policy: "Policy",
    prompts: Mapping[str, Example],
    part: str,
    tokens: int,
) -> list[Rationale]:
    """The configured engine's greedy response to each prompt, in their order."""
    size = config.generate.batch_size
    with engine_of(config, context, policy, batch_size=size) as engine:

        def write(examples: Mapping[str, Example], label: str) -> list[Response]:
            return engine.greedy(examples, max_new_tokens=tokens, label=label)

        return by_parts(context, prompts, write, split=part, batch_size=size)
