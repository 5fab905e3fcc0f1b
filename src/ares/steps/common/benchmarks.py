"""The benchmark of a run: its questions, outputs and files, and what is wrong with its settings."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ares.config.schema import Config
from ares.evaluation.benchmarks.base import NAMES, Benchmark, Item, benchmark_of
from ares.evaluation.benchmarks.files import files_of
from ares.evaluation.benchmarks.items import read_items
from ares.evaluation.benchmarks.pictures import Pictures
from ares.storage.files import hash_of, read_jsonl, sha256_file
from ares.types import AresError

_INDEX = ("index", "question_id", "id")
_OUTPUT = ("output", "prediction", "text", "answer")


def configured(config: Config) -> Benchmark:
    """The configured benchmark. Raises AresError for none, an unknown one, and a rule that it does not have."""
    block = config.benchmark
    if block.name not in NAMES:
        raise AresError(f"stage=benchmark needs a benchmark: benchmark={'|'.join(NAMES)}.")
    found = benchmark_of(block.name)
    if block.rule not in found.rules:
        raise AresError(f"benchmark.rule={block.rule}: {block.name} has {', '.join(found.rules)}.")
    return found


def is_judged(config: Config) -> bool:
    """Whether the Teacher grades the configured benchmark."""
    return config.benchmark.name in NAMES and benchmark_of(config.benchmark.name).grading is not None


def check_benchmark(config: Config) -> tuple[str, ...]:
    """Raises AresError for settings of the benchmark that cannot work; no warnings."""
    configured(config)
    if not config.benchmark.file:
        raise AresError(
            "benchmark.file is not set; give the file of questions (docs/benchmarks.md says which to get)."
        )
    if config.benchmark.predictions and not config.benchmark.score_only:
        raise AresError("benchmark.predictions is for benchmark.score_only=true; add it.")
    return ()


def question_files(config: Config) -> dict[str, tuple[Path, str]]:
    """The file or folder of questions with the hash of its contents, as `StepSpec.files` has it."""
    check_benchmark(config)
    path = Path(config.benchmark.file or "")
    contents = [[file.name, sha256_file(file)] for file in files_of(path)]
    return {"questions": (path, hash_of(contents))}


def output_files(config: Config) -> dict[str, tuple[Path, str]]:
    """The questions and, with score_only, the file of outputs. Raises AresError where that is missing."""
    found = question_files(config)
    if not config.benchmark.score_only:
        return found
    run = Path(config.paths.runs) / config.run / "final" / folder_of(config) / "responses" / "responses.jsonl"
    path = Path(config.benchmark.predictions or run)
    if not path.is_file():
        raise AresError(
            f"There are no outputs to score in {path}; give their file with benchmark.predictions=<file>, or leave out "
            "benchmark.score_only to write them."
        )
    return found | {"responses": (path, sha256_file(path))}


def folder_of(config: Config) -> str:
    """The folder of the configured benchmark, in that of a run's final steps."""
    return f"benchmark-{config.benchmark.name or 'none'}"


def questions_of(config: Config, file: Path, store: Path | None = None) -> list[Item]:
    """The questions in a file, rotated if so configured; with a `store` for decoded images they have theirs."""
    images = Path(config.benchmark.images) if config.benchmark.images else None
    items = read_items(file, Pictures(store, images) if store else None)
    if not items:
        raise AresError(f"{file} holds no questions; fetch the file again.")
    if config.benchmark.rotate:
        from ares.evaluation.benchmarks.rotations import rotated

        items = rotated(items)
    return items


def read_outputs(path: Path, items: Sequence[Item]) -> dict[str, str]:
    """The output for each question: our JSONL, JSONL of others (id, prediction or text), or VLMEvalKit's TSV.

    Raises AresError where a question has none.
    """
    if path.suffix == ".tsv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: list[Mapping[str, object]] = list(csv.DictReader(file, delimiter="\t"))
    else:
        rows = list(read_jsonl(path))
    found = {str(_of(row, _INDEX, path)): str(_of(row, _OUTPUT, path)) for row in rows}
    missing = [item.index for item in items if item.index not in found]
    if missing:
        raise AresError(
            f"{path} has no output for {len(missing)} of {len(items)} questions, such as {missing[0]}; a score needs all."
        )
    return {item.index: found[item.index] for item in items}


def _of(row: Mapping[str, object], names: Sequence[str], path: Path) -> object:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise AresError(f"{path} has rows without {' or '.join(names)}; give a file of outputs.")
    return row[name]
