"""The typed configuration: one block a step, with its defaults; conf/ holds what differs from them.

Like `ares.types`, nothing here imports anything of the project.
"""

from dataclasses import dataclass, field
from typing import Any


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
    """A supervised fine-tuning (rationale, sft, lora). Batch sizes: global, and per device and step."""

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
class LoraConfig(FitConfig):
    """The fine-tuning of an adapter of rank `r` on the `targets`; `dropout` is the adapter's."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05
    targets: str = "all"
    global_batch_size: int = 16
    micro_batch_size: int = 16
    max_output_tokens: int = 64


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
class LaunchConfig:
    """`command` starts the ranks of a device step; with several nodes once on each.

    It is run without a shell, with {python}, {task} (the step's folder), {nodes} and {devices} (per node) filled in.
    """

    name: str = "local"
    command: str = "{python} -m ares.launch.node {task}"


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
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
