"""The groups of files; those of data, model, features, teacher, engine and strategy may have further keys."""

from dataclasses import dataclass, field
from typing import Any

from ares.config.fields import bounded, choice, text_with
from ares.types import AresError


@dataclass
class Option:
    """The chosen file of a group.

    The fields are read by the suite itself. All other keys of the file are `arguments` of the class or function
    `_target_`, so that a new one needs no change here; those listed in the field's metadata are checked.
    """

    name: str = ""
    _target_: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether `_target_` is part of this package; only then are known arguments checked."""
        return (self._target_ or "").startswith("ares.")

    def build(self, *positional: Any, **further: Any) -> Any:
        """Calls `_target_` with the option's arguments. Raises AresError if it cannot be imported."""
        from hydra.utils import get_object

        # instantiate() would wrap the errors that the target raises.
        try:
            target = get_object(self._target_ or "")
        except (ImportError, ValueError) as error:
            raise AresError(
                f"{self.name}: _target_={self._target_} cannot be imported ({str(error).splitlines()[0]})."
            ) from error
        return target(*positional, **self.arguments, **further)


@dataclass
class SizesConfig:
    """The number of generated problems in each split."""

    train: int = bounded(600, at_least=1)
    val: int = bounded(150, at_least=0)
    test: int = bounded(150, at_least=0)


@dataclass
class CaptionerConfig:
    """The image-to-text model (folder or hub id) that writes captions, null for none."""

    model: str | None = None
    prompt: str | None = None
    max_new_tokens: int = bounded(64, at_least=1)
    batch_size: int = bounded(8, at_least=1)
    workers: int = bounded(2, at_least=0)
    on_corrupt: str = choice("refuse", "skip")


@dataclass
class ReaderArguments:
    """Checked arguments of the readers."""

    rationale: str = choice("first", "all", "sample")
    val: float = bounded(0.05, at_least=0, at_most=0.9)
    margin: float = bounded(0.0, at_least=0)
    seed: int = bounded(0, at_least=0)
    table: bool = True


@dataclass
class DataConfig(Option):
    """`root`: the folder of the files, filled from `hub` if empty; `captions`: null for captions.json in `root`.

    `checker`: how outputs are checked (`ares.evaluation.checkers`).
    """

    root: str | None = None
    hub: str | None = None
    captions: str | None = None
    checker: str = choice("mcq", "relaxed_number", "integer", "tabmwp", "yes_no", "geoqa")
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    sizes: SizesConfig = field(default_factory=SizesConfig)
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": ReaderArguments})


@dataclass
class ModelLoraArguments:
    """The adapter of a vision-language policy; `r=0` trains all weights, `targets`: null for the language model's."""

    r: int = bounded(64, at_least=0)
    alpha: int = bounded(128, at_least=1)
    targets: str | None = None
    vision: bool = False


@dataclass
class PromptsArguments:
    """Texts of chat messages, with {question} and {rationale} where these belong."""

    system: str | None = None
    rationale: str = text_with("{question}")
    answer: str = text_with("{question}", "{rationale}")


@dataclass
class ModelArguments:
    """Checked arguments of models."""

    d_model: int = bounded(1, at_least=1)
    d_ff: int = bounded(1, at_least=1)
    d_kv: int = bounded(1, at_least=1)
    layers: int = bounded(1, at_least=1)
    heads: int = bounded(1, at_least=1)
    vision_layers: int = bounded(1, at_least=1)
    image_size: int = bounded(1, at_least=1)
    patch_size: int = bounded(1, at_least=1)
    dtype: str = choice("float32", "bfloat16", "auto")
    quantization: str = choice("none", "nf4")
    max_pixels: int | None = bounded(None, at_least=256)
    lora: ModelLoraArguments = field(default_factory=ModelLoraArguments)
    prompts: PromptsArguments = field(default_factory=PromptsArguments)


@dataclass
class ModelConfig(Option):
    """`init`: the folder or hub id of a checkpoint, null for a model from scratch.

    `reads_images`: whether the policy reads image files, so that their contents enter the hashes of its steps.
    """

    init: str | None = None
    reads_images: bool = False
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": ModelArguments})


@dataclass
class EncoderArguments:
    """Checked arguments of the encoders."""

    pretrained: bool = True
    precision: str = choice("auto", "32", "bf16")
    pooled: bool = False
    repeat: int = bounded(1, at_least=1)
    patch_size: int = bounded(1, at_least=1)
    image_size: int = bounded(1, at_least=1)
    seed: int = bounded(0, at_least=0)


@dataclass
class FeaturesConfig(Option):
    """`path`: a folder of extracted features; `arrays`, `name_map`: published files to import instead."""

    path: str | None = None
    arrays: str | None = None
    name_map: str | None = None
    batch_size: int = bounded(32, at_least=1)
    workers: int = bounded(4, at_least=0)
    on_corrupt: str = choice("refuse", "skip")
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": EncoderArguments})


@dataclass
class TeacherArguments:
    """Checked arguments of the Teachers."""

    structured: bool = True
    batch: bool = False
    concurrency: int = bounded(16, at_least=1)
    timeout: float = bounded(120, above=0)
    deadline: float = bounded(900, above=0)
    max_tokens: int | None = bounded(None, at_least=1)
    noise: float = bounded(0, at_least=0, at_most=1)


@dataclass
class TeacherConfig(Option):
    """Limits of a step that asks the Teacher (fraction of unusable replies, US dollars), and whether to ask at all."""

    max_quarantine: float = bounded(0.02, at_least=0, at_most=1)
    max_usd: float | None = bounded(None, at_least=0)
    dry_run: bool = False
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": TeacherArguments})


@dataclass
class EngineArguments:
    """Checked arguments of the engines."""

    urls: list[str] = field(default_factory=list)
    command: str | None = None
    concurrency: int = bounded(64, at_least=1)
    timeout: float = bounded(600, above=0)
    deadline: float = bounded(1800, above=0)
    startup: float = bounded(1800, above=0)
    seeded: bool = True


@dataclass
class EngineConfig(Option):
    """What writes the text of rollouts and greedy rationales; `_target_` enters their hashes, the arguments do not."""

    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": EngineArguments})


@dataclass
class TimeoutConfig:
    seconds: float = bounded(1800, above=0)


@dataclass
class StrategyConfig(Option):
    """Lightning's strategy; `timeout` applies to collectives, in which no rank ever waits for the Teacher."""

    timeout: TimeoutConfig = field(default_factory=TimeoutConfig)


@dataclass
class LaunchConfig:
    """`command` starts the ranks of a device step, without a shell; placeholders: {python}, {task}, {nodes}, {devices}."""

    name: str = "local"
    command: str = "{python} -m ares.launch.node {task}"


@dataclass
class LoggerConfig:
    name: str = choice("csv", "wandb", "tensorboard")
    project: str = "ares"
    entity: str | None = None
    group: str | None = None
