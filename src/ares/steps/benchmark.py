"""benchmark: the score of a benchmark's outputs, offline, by the rule of a suite; and the outputs for other suites."""

from ares.config.schema import Config
from ares.evaluation.benchmarks.base import Scores
from ares.evaluation.benchmarks.exports import write_lmms_eval, write_vlmevalkit
from ares.steps.common.benchmarks import (
    check_benchmark,
    configured,
    folder_of,
    is_judged,
    output_files,
    questions_of,
    read_outputs,
)
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.storage.files import read_jsonl, write_json
from ares.types import AresError


def _reads(config: Config) -> tuple[str, ...]:
    outputs = () if config.benchmark.score_only else ("responses",)
    return (*outputs, "grades") if is_judged(config) else outputs


SPEC = StepSpec(
    name="benchmark",
    reads=lambda config, place: _reads(config),
    writes=("benchmark_scores", "vlmevalkit", "lmms_eval"),
    settings=("benchmark.name", "benchmark.rule", "benchmark.rotate"),
    folder_of=folder_of,
    headline=("score", "failed"),
    files=output_files,
    check=check_benchmark,
)


def benchmark(config: Config, context: StepContext) -> StepResult:
    """Writes `scores.json` and the outputs in the forms of VLMEvalKit and lmms-eval.

    Raises AresError where the file withholds the answers.
    """
    found = configured(config)
    items = questions_of(config, context.inputs["questions"])
    outputs = read_outputs(context.inputs["responses"], items)
    if withheld := [item.index for item in items if not item.answer]:
        raise AresError(
            f"{context.inputs['questions']} withholds the answer of question {withheld[0]}; its outputs are in "
            f"{context.inputs['responses']}, to be scored where the answers are known."
        )
    if found.score is not None:
        scores: Scores = found.score(items, outputs, config.benchmark.rule)
    else:
        assert found.score_grades is not None
        rows = read_jsonl(context.inputs["grades"])
        scores = found.score_grades(items, {row["index"]: row["grades"] for row in rows})
    name = context.inputs["questions"].stem
    files = {"benchmark_scores": context.folder / "scores.json"}
    block = config.benchmark
    write_json(
        files["benchmark_scores"],
        {
            "benchmark": block.name,
            "rule": block.rule,
            "questions": len(items),
            "failed": scores.failed,
            "metrics": scores.metrics,
            "hash": context.hash,
        },
    )
    files["vlmevalkit"] = write_vlmevalkit(context.folder, config.run, name, items, outputs)
    files["lmms_eval"] = write_lmms_eval(context.folder, block.name, items, outputs)
    return StepResult(files, {**scores.metrics, "failed": scores.failed})
