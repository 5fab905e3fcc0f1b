"""Settings of stage=benchmark."""

from dataclasses import dataclass

from ares.config.fields import bounded, choice, text_with


@dataclass
class BenchmarkConfig:
    """A benchmark (docs/benchmarks.md): benchmark=<name> sets all but `file`."""

    name: str = ""
    file: str | None = None  # of questions: TSV, parquet, JSON or JSONL, or a folder of such files
    images: str | None = None  # the folder of images that the file names
    rule: str = ""  # the suite whose rule of scoring is followed
    answer: str = choice("direct", "rationale")  # directly, or with a rationale by the adapter that answers
    prompt: str = text_with("{question}", default="{question}")  # of a direct answer
    max_new_tokens: int = bounded(64, at_least=1)  # of a direct answer
    rotate: bool = False  # MMBench's circular evaluation: every question once per option
    score_only: bool = False  # without a policy
    predictions: str | None = None  # file to score (score_only), null: the run's own
