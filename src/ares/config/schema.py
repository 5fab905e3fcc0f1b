"""The typed configuration: one block per step, with defaults, ranges and choices; conf/ overrides the defaults."""

from dataclasses import dataclass, field

from ares.config.fields import bounded, choice, file_of
from ares.config.options import (
    DataConfig,
    EngineConfig,
    FeaturesConfig,
    LaunchConfig,
    LoggerConfig,
    ModelConfig,
    StrategyConfig,
    TeacherConfig,
)


@dataclass
class PathsConfig:
    runs: str = "runs"
    ledger: str = "${paths.runs}/ledger.sqlite"


@dataclass
class TextConfig:
    """The format of prompts. `newline=escape` reproduces the original's literal backslash-n."""

    newline: str = choice("space", "escape")
    use_caption: bool = True
    max_input_tokens: int = bounded(512, at_least=1)


@dataclass
class TokenizerConfig:
    """`path`: a folder or hub id, null for the model's own; `vocab_size`: of a tokenizer that is trained."""

    path: str | None = None
    vocab_size: int = bounded(4096, at_least=1)


@dataclass
class FitConfig:
    """Supervised fine-tuning (rationale, sft, lora). Batch sizes: global, and per device and micro-step.

    `micro_batch_tokens`: tokens of prompts and targets in a micro-step, instead of its number of rows; null: rows.
    """

    epochs: int = bounded(20, at_least=1)
    lr: float = bounded(8e-5, above=0)
    global_batch_size: int = bounded(8, at_least=1)
    micro_batch_size: int = bounded(8, at_least=1)
    micro_batch_tokens: int | None = bounded(None, at_least=1)
    warmup_fraction: float = bounded(0.0, at_least=0, at_most=1)
    decay: str = choice("constant", "linear")
    weight_decay: float = bounded(0.01, at_least=0)
    adam_beta2: float = bounded(0.999, at_least=0, below=1)
    gradient_clip: float | None = bounded(1.0, above=0)
    dropout: float = bounded(0.1, at_least=0, below=1)
    max_output_tokens: int = bounded(512, at_least=1)
    eval_questions: int = bounded(200, at_least=0)
    eval_every_epochs: int = bounded(1, at_least=1)


@dataclass
class GenerateConfig:
    """`predictions`: a folder of the original's predictions_ans_{train,eval,test}.json to read instead of generating."""

    max_new_tokens: int = bounded(512, at_least=1)
    batch_size: int = bounded(32, at_least=1)
    predictions: str | None = None


@dataclass
class RlLoraConfig:
    """RL on an adapter of rank `r`, which is merged afterwards; `r=0` trains all weights."""

    r: int = bounded(0, at_least=0)
    alpha: int = bounded(128, at_least=1)
    targets: str = choice("all", "paper")


@dataclass
class RlConfig:
    """Rollout and RL. The paper's values are in conf/experiment/paper_*; docs/algorithm.md gives formulas."""

    # rollout; `questions`: the number of train questions, from the first, sampled in each round (null: all)
    questions: int | None = bounded(None, at_least=1)
    k: int = bounded(4, at_least=1)
    top_k: int = bounded(0, at_least=0)
    top_p: float = bounded(1.0, at_least=0, at_most=1)
    temperature: float = bounded(1.0, above=0)
    max_new_tokens: int = bounded(512, at_least=1)
    questions_per_part: int = bounded(64, at_least=1)
    generation_batch: int = bounded(16, at_least=1)
    reference: str = choice("initial", "round")
    neutral: float = bounded(0.5, at_least=0, at_most=1)
    kl_in: str = choice("loss", "reward")
    kl_coef: float = bounded(0.01, at_least=0)
    objective: str = "ppo"  # ppo, rloo, grpo, or the module path of another (docs/extending.md)
    gamma: float = bounded(1.0, at_least=0, at_most=1)
    lam: float = bounded(0.95, at_least=0, at_most=1)
    whiten: bool = True
    clip_range: float = bounded(0.2, above=0)
    value_clip_range: float | None = bounded(None, above=0)
    vf_coef: float = bounded(1.0, at_least=0)
    log_ratio_clamp: float | None = bounded(20.0, above=0)
    target_kl: float | None = bounded(None, above=0)
    sampler_correction: str = choice("none", "token")
    ppo_epochs: int = bounded(4, at_least=1)
    recompute: bool = True
    value_warmup_epochs: int = bounded(1, at_least=0)
    value_lr: float | None = bounded(None, above=0)  # the value model's learning rate, null: lr
    lr: float = bounded(2e-5, above=0)
    warmup_fraction: float = bounded(0.05, at_least=0, at_most=1)
    decay: str = choice("constant", "linear", default="linear")
    weight_decay: float = bounded(0.01, at_least=0)
    adam_eps: float = bounded(1e-5, above=0)
    gradient_clip: float | None = bounded(1.0, above=0)
    global_batch_size: int = bounded(256, at_least=1)
    micro_batch_size: int = bounded(8, at_least=1)
    micro_batch_tokens: int | None = bounded(None, at_least=1)  # as in FitConfig
    holdout: float = bounded(0.05, at_least=0, at_most=0.9)
    eval_questions: int = bounded(200, at_least=0)
    share_trunk: bool = False
    lora: RlLoraConfig = field(default_factory=RlLoraConfig)


@dataclass
class CorrectConfig:
    """`on_quarantine`: drop the problem from sft, or train on the model's own rationale (never on the gold one)."""

    on_quarantine: str = choice("drop", "keep_own")


@dataclass
class LoraConfig(FitConfig):
    """Fine-tuning of an adapter of rank `r` on the `targets`; `dropout` is the adapter's."""

    r: int = bounded(64, at_least=1)
    alpha: int = bounded(128, at_least=1)
    dropout: float = bounded(0.05, at_least=0, below=1)
    targets: str = choice("all", "paper")
    global_batch_size: int = bounded(16, at_least=1)
    micro_batch_size: int = bounded(16, at_least=1)
    max_output_tokens: int = bounded(64, at_least=1)


@dataclass
class EvaluateConfig:
    """`split` is answered and scored; `similarity_model`: a sentence encoder's folder or hub id, or null.

    `predictions`: a folder of the original's predictions_ans_{train,eval,test}.json with answers to score, for
    stage=evaluate alone.
    """

    split: str = choice("train", "val", "test", default="test")
    similarity_model: str | None = None
    predictions: str | None = None


@dataclass
class JudgeConfig:
    """`against`: the run, or file of rationales, to compare with; `questions`: how many (null: all)."""

    against: str | None = None
    split: str = choice("train", "val", "test", default="test")
    questions: int | None = bounded(None, at_least=1)


@dataclass
class ReportConfig:
    examples: int = bounded(20, at_least=0)


@dataclass
class DoctorConfig:
    """`stage`: the stage that stage=doctor examines."""

    stage: str = file_of("stage", "ares")


@dataclass
class TrainerConfig:
    """`threads` of torch, null for its default; `activation_checkpointing` computes activations again for less memory."""

    devices: int = bounded(1, at_least=1)
    num_nodes: int = bounded(1, at_least=1)
    accelerator: str = choice("auto", "cpu", "gpu", "cuda")
    precision: str = choice("32-true", "bf16-mixed", "bf16-true", note="float16 overflows in these models.")
    threads: int | None = bounded(None, at_least=1)
    activation_checkpointing: bool = False


@dataclass
class SweepConfig:
    """`params`: swept settings in addition to the command line's, in Hydra's syntax; `of`: the sweep of a job.

    `samples`: null for every combination, a number for that many random draws with `seed`.
    """

    params: dict[str, str] = field(default_factory=dict)
    samples: int | None = bounded(None, at_least=1)
    seed: int = bounded(0, at_least=0)
    of: str | None = None


@dataclass
class StageConfig:
    """A stage, which the user types, is a list of steps."""

    name: str = "ares"
    steps: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The full configuration."""

    stage: StageConfig = field(default_factory=StageConfig)
    run: str = "default"
    seed: int = bounded(0, at_least=0, at_most=2**32 - 1)
    rounds: int = bounded(1, at_least=1)
    on_change: str = choice("refuse", "rerun", "keep")
    policy: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
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
