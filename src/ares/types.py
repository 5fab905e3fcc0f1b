"""The frozen carriers that travel between steps, and the typed configuration blocks that steps take.

Nothing here imports anything of the project, torch or transformers: every other module may import it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLITS = ("train", "val", "test")


class AresError(Exception):
    """A mistake in configuration or data, told to the user in one sentence; `train.py` exits with code 2."""


# --------------------------------------------------------------------------------------------------
# Carriers
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A multiple-choice question with what its source says about it.

    `answer` is the index of the right choice, None where the source withholds it. `image` is the expected
    path whenever the source names an image, present on disk or not. `rationales`, `direct_answers` and
    `difficult` are A-OKVQA's.
    """

    pid: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    hint: str
    caption: str
    lecture: str
    solution: str
    image: Path | None
    split: str
    subject: str
    topic: str
    category: str
    skill: str
    grade: str
    task: str
    rationales: tuple[str, ...] = ()
    direct_answers: tuple[str, ...] = ()
    difficult: bool = False


@dataclass(frozen=True)
class Example:
    """What a model reads (`prompt`) and is to write (`target`)."""

    prompt: str
    target: str


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text."""

    start: int
    end: int


@dataclass(frozen=True)
class Rationale:
    """A greedy rationale; `token_ids` holds EOS if it was emitted, no decoder start, no pads."""

    pid: str
    text: str
    token_ids: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True)
class Rollout:
    """A sampled rationale, its sentences and the log-probabilities (nats) of its tokens.

    `token_ids`, `logprobs` and `ref_logprobs` have one entry a response token, EOS included; `spans` are
    characters of `text`, `token_ends[i]` is the index of the last token of sentence i.
    """

    row_id: str
    pid: str
    sample: int
    text: str
    token_ids: tuple[int, ...]
    truncated: bool
    spans: tuple[Span, ...]
    token_ends: tuple[int, ...]
    logprobs: tuple[float, ...]
    ref_logprobs: tuple[float, ...]

    @property
    def sentences(self) -> list[str]:
        """The sentences of the rationale, in order."""
        return [self.text[span.start : span.end] for span in self.spans]


@dataclass(frozen=True)
class Feedback:
    """The Teacher's scores in [0, 1], one a sentence; `status` is ok, quarantined (scores None) or empty."""

    row_id: str
    scores: tuple[float, ...] | None
    status: str
    reason: str = ""
    request_hash: str = ""


@dataclass(frozen=True)
class Correction:
    """A greedy rationale, without its repeated sentences, and the Teacher's repair of it."""

    pid: str
    rationale: str
    deduplicated: str
    corrected: str | None
    status: str
    reason: str = ""
    request_hash: str = ""


@dataclass(frozen=True)
class Verdict:
    """Which rationale of a question is better, a or b: the winner is a, b or tie, None without two usable
    replies. The orders are a, b, tie or quarantined, with a shown first and with b shown first."""

    pid: str
    winner: str | None
    first_order: str
    second_order: str
    request_hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """An answer given with a rationale; `answer` is a choice index, None where none could be extracted."""

    pid: str
    rationale: str
    output: str
    answer: int | None
    correct: bool


# --------------------------------------------------------------------------------------------------
# Configuration blocks, one a step
# --------------------------------------------------------------------------------------------------


@dataclass
class PathsConfig:
    runs: str = "runs"
    ledger: str = "${paths.runs}/ledger.sqlite"


@dataclass
class TextConfig:
    """How a problem becomes a prompt. `newline=escape` reproduces the original's literal backslash-n."""

    newline: str = "space"
    use_caption: bool = True
    max_input_tokens: int = 512


@dataclass
class TokenizerConfig:
    """`path`: a folder or hub id, null for the model's own; `vocab_size` where one is trained."""

    path: str | None = None
    vocab_size: int = 4096


@dataclass
class FitConfig:
    """A supervised fine-tuning (rationale, sft). Batch sizes: global, and per device and step."""

    epochs: int = 20
    lr: float = 8e-5
    global_batch_size: int = 8
    micro_batch_size: int = 8
    warmup_fraction: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    gradient_clip: float | None = 1.0
    dropout: float = 0.1
    max_output_tokens: int = 512
    eval_questions: int = 200
    eval_every_epochs: int = 1


@dataclass
class GenerateConfig:
    """`predictions`: a folder of the original's predictions_ans_{train,eval,test}.json to read instead of generating."""

    max_new_tokens: int = 512
    batch_size: int = 32
    predictions: str | None = None


@dataclass
class RlLoraConfig:
    """PPO on an adapter of rank `r`, which is merged afterwards; 0: on all weights."""

    r: int = 0
    alpha: int = 128
    targets: str = "all"


@dataclass
class RlConfig:
    """Rollout and PPO. Defaults: design §6; the paper's values are in experiment/paper_*."""

    # rollout; `questions`: how many train questions, from the first, a round samples (null: all)
    questions: int | None = None
    k: int = 4
    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0
    max_new_tokens: int = 512
    questions_per_part: int = 64
    generation_batch: int = 16
    reference: str = "initial"
    # rewards
    neutral: float = 0.5
    kl_in: str = "loss"
    kl_coef: float = 0.01
    # objective
    objective: str = "ppo"
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True
    clip_range: float = 0.2
    value_clip_range: float | None = None
    vf_coef: float = 1.0
    log_ratio_clamp: float | None = 20.0
    target_kl: float | None = None
    # optimisation
    ppo_epochs: int = 4
    recompute: bool = True
    value_warmup_epochs: int = 1
    value_lr: float | None = None  # the value model's learning rate, null: lr
    lr: float = 2e-5
    warmup_fraction: float = 0.05
    decay: str = "linear"
    weight_decay: float = 0.01
    adam_eps: float = 1e-5
    gradient_clip: float | None = 1.0
    global_batch_size: int = 256
    micro_batch_size: int = 8
    holdout: float = 0.05
    eval_questions: int = 200
    # memory (docs/memory.md)
    share_trunk: bool = False
    lora: RlLoraConfig = field(default_factory=RlLoraConfig)


@dataclass
class CorrectConfig:
    """`on_quarantine`: drop the problem from sft, or keep the model's own rationale. Never the gold one."""

    on_quarantine: str = "drop"


@dataclass
class LoraConfig:
    r: int = 64
    alpha: int = 128
    dropout: float = 0.05
    targets: str = "all"
    epochs: int = 20
    lr: float = 8e-5
    global_batch_size: int = 16
    micro_batch_size: int = 16
    warmup_fraction: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.01
    adam_beta2: float = 0.999
    gradient_clip: float | None = 1.0
    max_output_tokens: int = 64
    eval_questions: int = 200
    eval_every_epochs: int = 1


@dataclass
class EvaluateConfig:
    """`split` is answered and scored; `similarity_model`: a sentence encoder's folder or hub id, or null.

    `predictions`: a folder of the original's predictions_ans_{train,eval,test}.json with answers to score, for
    stage=evaluate alone.
    """

    split: str = "test"
    similarity_model: str | None = None
    predictions: str | None = None


@dataclass
class JudgeConfig:
    """`against`: the run, or its file of rationales, to compare with; `questions`: of the split, the first (null: all)."""

    against: str | None = None
    split: str = "test"
    questions: int | None = None


@dataclass
class ReportConfig:
    examples: int = 20


@dataclass
class DoctorConfig:
    """`stage`: the stage that stage=doctor examines."""

    stage: str = "ares"


@dataclass
class TrainerConfig:
    """`threads`: processor threads of torch, null for its own choice; small models are quickest with one or two."""

    devices: int = 1
    num_nodes: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"
    threads: int | None = None


@dataclass
class LoggerConfig:
    name: str = "csv"
    project: str = "ares"
    entity: str | None = None
    group: str | None = None


@dataclass
class SweepConfig:
    """`params`: what is swept, beside the command line's (key: Hydra's sweep syntax); `of`: the sweep a job belongs to.

    `samples`: null tries every combination, a number draws as many settings from `seed`.
    """

    params: dict[str, str] = field(default_factory=dict)
    samples: int | None = None
    seed: int = 0
    of: str | None = None


@dataclass
class StageConfig:
    """What the user types is a stage: a list of steps."""

    name: str = "ares"
    steps: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The whole configuration; `data`, `model`, `features`, `teacher`, `strategy` hold a `_target_` each."""

    stage: StageConfig = field(default_factory=StageConfig)
    run: str = "default"
    seed: int = 0
    rounds: int = 1
    on_change: str = "refuse"
    policy: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: Any = None
    model: Any = None
    features: Any = None
    teacher: Any = None
    strategy: Any = None
    rationale: FitConfig = field(default_factory=FitConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    rl: RlConfig = field(default_factory=RlConfig)
    correct: CorrectConfig = field(default_factory=CorrectConfig)
    sft: FitConfig = field(default_factory=FitConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    doctor: DoctorConfig = field(default_factory=DoctorConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
