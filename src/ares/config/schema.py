"""The typed configuration: one block per step, with defaults, ranges and choices; conf/ overrides the defaults."""

from dataclasses import dataclass, field

from ares.config.benchmarks import BenchmarkConfig
from ares.config.evaluation import EvaluateConfig, JudgeConfig, ReportConfig
from ares.config.fields import bounded, choice
from ares.config.fits import FitConfig, RewardConfig
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
from ares.config.preference import PairsConfig, PreferConfig
from ares.config.selftraining import SelectConfig, SelftrainConfig
from ares.config.sharing import DoctorConfig, ExportConfig, ServeConfig, StudyConfig


@dataclass
class PathsConfig:
    runs: str = "runs"  # the folder of all runs
    ledger: str = "${paths.runs}/ledger.sqlite"  # the file of all requests to Teachers and their replies


@dataclass
class TextConfig:
    """The format of prompts."""

    newline: str = choice("space", "escape")  # in prompts; escape: the original's literal backslash-n
    use_caption: bool = True  # append the caption of an image to the hint
    max_input_tokens: int = bounded(512, at_least=1)  # longer prompts lose context


@dataclass
class TokenizerConfig:
    """The tokenizer of a T5."""

    path: str | None = None  # folder or hub id, null: the model's own
    vocab_size: int = bounded(4096, at_least=1)  # of a tokenizer that is trained


@dataclass
class GenerateConfig:
    """Greedy rationales."""

    max_new_tokens: int = bounded(512, at_least=1)  # of a greedy rationale
    batch_size: int = bounded(32, at_least=1)  # prompts at a time
    predictions: str | None = None  # folder of the original's predictions_ans_*.json to read instead


@dataclass
class RewardTermsConfig:
    """Coefficients of the terms of the reward; all but `sentences` belong to the last token of a rationale."""

    sentences: float = bounded(1.0, at_least=0)  # of score - neutral, at the end of each sentence
    reward_model: float = bounded(0.0, at_least=0)  # of a learned Teacher's reward of the rationale
    missing_eos: float = bounded(0.0, at_least=0)  # subtracted without EOS
    length: float = bounded(0.0, at_least=0)  # of tokens / rl.max_new_tokens, subtracted
    correct: float = bounded(0.0, at_least=0)  # added if the rationale gives the right answer
    repetition: float = bounded(0.0, at_least=0)  # of the share of repeated sentences, subtracted


@dataclass
class RlLoraConfig:
    """RL on an adapter of rank `r`, which is merged afterwards; `r=0` trains all weights."""

    r: int = bounded(0, at_least=0)  # rank
    alpha: int = bounded(128, at_least=1)  # scale: alpha / r
    targets: str = choice("all", "paper")  # which linear layers


@dataclass
class RlConfig:
    """Rollout and RL. The paper's values are in conf/experiment/paper_*; docs/algorithm.md gives formulas."""

    questions: int | None = bounded(None, at_least=1)  # train questions per round, from the first, null: all
    k: int = bounded(4, at_least=1)  # rationales per question
    top_k: int = bounded(0, at_least=0)  # sample from the k likeliest tokens, 0: from all
    top_p: float = bounded(1.0, at_least=0, at_most=1)  # sample from tokens of this probability
    temperature: float = bounded(1.0, above=0)  # of sampling
    max_new_tokens: int = bounded(512, at_least=1)  # of a rationale
    questions_per_part: int = bounded(64, at_least=1)  # per file, the unit of resume
    generation_batch: int = bounded(16, at_least=1)  # questions at a time
    reference: str = choice("initial", "round")  # of the KL: the first policy, or the round's
    neutral: float = bounded(0.5, at_least=0, at_most=1)  # the score that is rewarded with 0
    granularity: str = choice("sentence", "rationale")  # a reward per sentence, or one, of their mean score
    rewards: RewardTermsConfig = field(default_factory=RewardTermsConfig)
    kl_in: str = choice("loss", "reward")  # the loss, or the reward of each token
    kl_coef: float = bounded(0.01, at_least=0)  # weight of the KL divergence
    objective: str = "ppo"  # ppo, rloo, grpo, or the module path of another (docs/extending.md)
    gamma: float = bounded(1.0, at_least=0, at_most=1)  # discount of rewards
    lam: float = bounded(0.95, at_least=0, at_most=1)  # of generalized advantages
    whiten: bool = True  # advantages to mean 0 and variance 1
    clip_range: float = bounded(0.2, above=0)  # of the probability ratio
    value_clip_range: float | None = bounded(None, above=0)  # of values, null: no clipping
    vf_coef: float = bounded(1.0, at_least=0)  # weight of the value loss
    log_ratio_clamp: float | None = bounded(20.0, above=0)  # bound of log-probability ratios, null: none
    target_kl: float | None = bounded(None, above=0)  # ends RL when the divergence exceeds it, null: never
    sampler_correction: str = choice("none", "token")  # weights for a server's rollouts
    ppo_epochs: int = bounded(4, at_least=1)  # passes over the rollouts
    recompute: bool = True  # values and advantages, before each epoch
    value_init: str = choice("policy", "reward")  # the first value model: the policy, or a reward model
    value_warmup_epochs: int = bounded(1, at_least=0)  # epochs of the value model alone
    value_lr: float | None = bounded(None, above=0)  # the value model's learning rate, null: lr
    lr: float = bounded(2e-5, above=0)  # peak learning rate
    warmup_fraction: float = bounded(0.05, at_least=0, at_most=1)  # of the steps
    decay: str = choice("constant", "linear", default="linear")  # of the learning rate
    weight_decay: float = bounded(0.01, at_least=0)  # of matrices
    adam_eps: float = bounded(1e-5, above=0)  # epsilon of Adam
    gradient_clip: float | None = bounded(1.0, above=0)  # largest norm, null: no limit
    global_batch_size: int = bounded(256, at_least=1)  # rationales per optimizer step, on all devices
    micro_batch_size: int = bounded(8, at_least=1)  # rationales per forward pass on a device
    micro_batch_tokens: int | None = bounded(None, at_least=1)  # tokens instead, null: rationales
    holdout: float = bounded(0.05, at_least=0, at_most=0.9)  # fraction of questions to measure on
    eval_questions: int = bounded(200, at_least=0)  # val questions that are assessed
    share_trunk: bool = False  # one network for policy and values
    lora: RlLoraConfig = field(default_factory=RlLoraConfig)


@dataclass
class CorrectConfig:
    """Repairs. `on_quarantine`: what sft does without a usable one; the gold rationale never replaces it."""

    on_quarantine: str = choice("drop", "keep_own")  # the problem, or the model's own rationale


@dataclass
class SftConfig(FitConfig):
    """Fine-tuning after RL; `source=gold` trains on the gold solutions, as a control, and asks no Teacher."""

    source: str = choice("corrections", "gold")  # what is trained on


@dataclass
class LoraConfig(FitConfig):
    """Fine-tuning of an adapter of rank `r` on the `targets`; `r=0`: of all weights, a second full model."""

    r: int = bounded(64, at_least=0)  # rank
    alpha: int = bounded(128, at_least=1)  # scale: alpha / r
    dropout: float = bounded(0.05, at_least=0, below=1)  # of what is trained
    targets: str = choice("all", "paper")  # which linear layers
    global_batch_size: int = bounded(16, at_least=1)
    micro_batch_size: int = bounded(16, at_least=1)
    max_output_tokens: int = bounded(64, at_least=1)


@dataclass
class TrainerConfig:
    devices: int = bounded(1, at_least=1)  # per node
    num_nodes: int = bounded(1, at_least=1)  # of the allocation
    accelerator: str = choice("auto", "cpu", "gpu", "cuda")  # auto: a GPU if there is one
    precision: str = choice(
        "32-true", "bf16-mixed", "bf16-true", note="float16 overflows in these models."
    )  # of training
    threads: int | None = bounded(None, at_least=1)  # of torch, null: its default
    activation_checkpointing: bool = False  # compute activations again, for less memory
    checkpoint_minutes: float = bounded(10.0, at_least=0)  # between saves of a fit, after an optimizer step


@dataclass
class SweepConfig:
    params: dict[str, str] = field(default_factory=dict)  # further swept settings, in Hydra's syntax
    samples: int | None = bounded(None, at_least=1)  # random draws, null: every combination
    seed: int = bounded(0, at_least=0)  # of the draws
    of: str | None = None  # the sweep that a job belongs to
    share: str = choice(
        "common", "all"
    )  # steps that run once: those that all jobs have in common, or all equal ones


@dataclass
class StageConfig:
    """A stage, which the user types, is a list of steps."""

    name: str = "ares"
    steps: list[str] = field(default_factory=list)  # in their order
    without: list[str] = field(default_factory=list)  # steps that are left out
    rounds: int | None = bounded(None, at_least=1)  # how often its rounds are repeated, null: rounds


@dataclass
class Config:
    """The full configuration."""

    stage: StageConfig = field(default_factory=StageConfig)
    run: str = "default"  # name, and folder in paths.runs
    seed: int = bounded(0, at_least=0, at_most=2**32 - 1)  # of all random draws
    rounds: int = bounded(1, at_least=1)  # of RL, repairs and fine-tuning
    on_change: str = choice("refuse", "rerun", "keep")  # of a finished step: stop, run again, or keep
    policy: str | None = None  # run or folder to start from, null: the run's own
    baseline: bool = True  # also answer from the policy before RL
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
    reward: RewardConfig = field(default_factory=RewardConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    prefer: PreferConfig = field(default_factory=PreferConfig)
    correct: CorrectConfig = field(default_factory=CorrectConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    selftrain: SelftrainConfig = field(default_factory=SelftrainConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    doctor: DoctorConfig = field(default_factory=DoctorConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
