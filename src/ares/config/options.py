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

    train: int = bounded(600, at_least=1)  # problems in the train split
    val: int = bounded(150, at_least=0)  # in the val split
    test: int = bounded(150, at_least=0)  # in the test split


@dataclass
class CaptionerConfig:
    """The image-to-text model that writes captions."""

    model: str | None = None  # image-to-text model (folder or hub id), null: no captions are written
    prompt: str | None = None  # the text that starts a caption, null: none
    max_new_tokens: int = bounded(64, at_least=1)  # of a caption
    batch_size: int = bounded(8, at_least=1)  # images at a time
    workers: int = bounded(2, at_least=0)  # processes that read images
    on_corrupt: str = choice("refuse", "skip")  # image: stop, or leave it without a caption


@dataclass
class ReaderArguments:
    """Checked arguments of the readers."""

    rationale: str = choice("first", "all", "sample")  # of several gold ones; sample: drawn by seed
    val: float = bounded(
        0.05, at_least=0, at_most=0.9
    )  # fraction of rows that become val where the file has no split
    margin: float = bounded(0.0, at_least=0)  # of mean ratings that a pair must exceed
    seed: int = bounded(0, at_least=0)  # of these draws
    table: bool = True  # whether TabMWP's tables are in the hint as text


@dataclass
class DataConfig(Option):
    """Problems and pictures (docs/data.md). `checker`: how outputs are checked (`ares.evaluation.checkers`)."""

    root: str | None = None  # folder or file of the data
    hub: str | None = None  # id that root is filled from if empty, null: none
    captions: str | None = None  # file of captions, null: captions.json in root
    checker: str = choice("mcq", "relaxed_number", "integer", "tabmwp", "yes_no", "geoqa")  # of outputs
    captioner: CaptionerConfig = field(default_factory=CaptionerConfig)
    sizes: SizesConfig = field(default_factory=SizesConfig)
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": ReaderArguments})


@dataclass
class ModelLoraArguments:
    """The adapter of a vision-language policy."""

    r: int = bounded(64, at_least=0)  # rank of the adapter, 0: all weights are trained
    alpha: int = bounded(128, at_least=1)  # scale: alpha / r
    targets: str | None = None  # regular expression of layers, null: the language model's linear ones
    vision: bool = False  # whether the vision tower is trained, too


@dataclass
class PromptsArguments:
    """Texts of chat messages, with {question} and {rationale} where these belong."""

    system: str | None = None  # the chat's system message, null: none
    rationale: str = text_with("{question}")  # what asks for a rationale
    answer: str = text_with("{question}", "{rationale}")  # what asks for an answer after it


@dataclass
class ModelArguments:
    """Checked arguments of models."""

    d_model: int = bounded(1, at_least=1)  # width of states
    d_ff: int = bounded(1, at_least=1)  # width of feed-forward layers
    d_kv: int = bounded(1, at_least=1)  # width of an attention head
    layers: int = bounded(1, at_least=1)  # of encoder and decoder each, or of the language model
    heads: int = bounded(1, at_least=1)  # of attention
    vision_layers: int = bounded(1, at_least=1)  # layers of the vision tower
    image_size: int = bounded(1, at_least=1)  # pixels of a side, to which images are scaled
    patch_size: int = bounded(1, at_least=1)  # pixels of a patch's side
    dtype: str = choice("float32", "bfloat16", "auto")  # of the base's weights; auto: as they are stored
    quantization: str = choice("none", "nf4")  # of the base's weights
    max_pixels: int | None = bounded(None, at_least=256)  # of an image, null: the processor's own limit
    lora: ModelLoraArguments = field(default_factory=ModelLoraArguments)
    prompts: PromptsArguments = field(default_factory=PromptsArguments)


@dataclass
class ModelConfig(Option):
    """The model that becomes the policy (docs/vlm.md, docs/checkpoints.md)."""

    init: str | None = None  # folder or hub id of a checkpoint, null: from scratch
    reads_images: bool = False  # whether it reads image files, which then enter the hashes of its steps
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": ModelArguments})


@dataclass
class EncoderArguments:
    """Checked arguments of the encoders."""

    pretrained: bool = True  # whether weights are loaded
    precision: str = choice("auto", "32", "bf16")  # of the encoder; auto: bf16 on a GPU
    pooled: bool = False  # one feature per image instead of one per patch
    repeat: int = bounded(1, at_least=1)  # how often a patch is repeated when it is read
    patch_size: int = bounded(1, at_least=1)  # pixels of a patch's side
    image_size: int = bounded(1, at_least=1)  # pixels of a side, to which images are scaled
    seed: int = bounded(0, at_least=0)  # of weights that are not loaded


@dataclass
class FeaturesConfig(Option):
    """Image features of a T5 (docs/data.md)."""

    path: str | None = None  # folder of extracted features, null: those of stage=prepare
    arrays: str | None = None  # published feature arrays to import instead
    name_map: str | None = None  # the published file that says which row is whose
    batch_size: int = bounded(32, at_least=1)  # images at a time
    workers: int = bounded(4, at_least=0)  # processes that read images
    on_corrupt: str = choice("refuse", "skip")  # image: stop, or treat the problem as one without an image
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": EncoderArguments})


@dataclass
class TeacherArguments:
    """Checked arguments of the Teachers."""

    structured: bool = True  # whether replies are held to a JSON schema
    batch: bool = False  # Message Batches: half the price, within 24 hours
    concurrency: int = bounded(16, at_least=1)  # open requests at most
    timeout: float = bounded(120, above=0)  # seconds for a reply
    deadline: float = bounded(900, above=0)  # seconds for which a failing request is repeated
    max_tokens: int | None = bounded(None, at_least=1)  # of a reply, null: by what is asked
    noise: float = bounded(0, at_least=0, at_most=1)  # of teacher=oracle: probability of a wrong score


@dataclass
class TeacherConfig(Option):
    """Who scores, repairs and compares rationales, and what it may cost (docs/teacher.md)."""

    max_quarantine: float = bounded(0.02, at_least=0, at_most=1)  # unusable replies, then it stops
    max_usd: float | None = bounded(None, at_least=0)  # US dollars that a run may spend, null: no limit
    dry_run: bool = False  # print what a step would cost; ask nothing
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": TeacherArguments})


@dataclass
class EngineArguments:
    """Checked arguments of the engines."""

    urls: list[str] = field(default_factory=list)  # of running servers
    command: str | None = None  # that starts a server for the step, null: none
    concurrency: int = bounded(64, at_least=1)  # open requests at most
    timeout: float = bounded(600, above=0)  # seconds for a reply
    deadline: float = bounded(1800, above=0)  # seconds for which a failing request is repeated
    startup: float = bounded(1800, above=0)  # seconds until a started server must answer
    seeded: bool = True  # whether requests carry seeds


@dataclass
class EngineConfig(Option):
    """What writes the text of rollouts and greedy rationales; `_target_` enters their hashes, the arguments do not."""

    arguments: dict[str, Any] = field(default_factory=dict, metadata={"known": EngineArguments})


@dataclass
class TimeoutConfig:
    seconds: float = bounded(1800, above=0)  # for which a rank waits for the others


@dataclass
class StrategyConfig(Option):
    """Lightning's strategy; `timeout` applies to collectives, in which no rank ever waits for the Teacher."""

    timeout: TimeoutConfig = field(default_factory=TimeoutConfig)


@dataclass
class LaunchConfig:
    """`command` starts the ranks of a device step, without a shell; placeholders: {python}, {task}, {nodes}, {devices}."""

    name: str = "local"
    command: str = "{python} -m ares.launch.node {task}"  # starts a step's ranks


@dataclass
class LoggerConfig:
    name: str = choice("csv", "wandb", "tensorboard")
    project: str = "ares"  # of wandb
    entity: str | None = None  # of wandb: a user or a team, null: the account's own
    group: str | None = None  # of wandb, null: that of a sweep
