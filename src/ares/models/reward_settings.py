"""What the folder of a reward model records besides weights; read without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ares.storage.failures import expected
from ares.storage.files import hash_of, read_object, write_json
from ares.types import AresError

REWARD_FILE = "reward.json"


@dataclass(frozen=True)
class RewardSettings:
    """How a reward model reads.

    `model`: the class of its policy; `text`: `use_caption`, `newline`, `max_input_tokens`; `facts`: see
    `ares.text.facts`; `pool`: how a rationale's reward follows from its sentences' (mean, or that of the last);
    `features`: (patches, numbers) of the image features that it reads, if any; `vocabulary`: a hash of its tokenizer's;
    `weights`: a hash of its files; `likelihood`: whether the likelihood of a sentence is part of its logit.
    """

    model: str
    text: Mapping[str, Any]
    facts: Sequence[str]
    pool: str
    max_output_tokens: int
    features: Sequence[int] | None
    vocabulary: str
    weights: str = ""
    likelihood: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings in a folder. Raises AresError where it holds no reward model."""
        path = folder / REWARD_FILE
        if not path.is_file():
            raise AresError(
                f"{folder} holds no reward model (there is no {REWARD_FILE}); train one with stage=reward."
            )
        with expected(path, "copy the folder again"):
            return cls(**read_object(path))

    def write(self, folder: Path) -> None:
        """Writes `reward.json`."""
        write_json(folder / REWARD_FILE, asdict(self))

    @property
    def hash(self) -> str:
        """Identifies the reward model: its settings and, by their hash, its weights."""
        return hash_of(asdict(self))
