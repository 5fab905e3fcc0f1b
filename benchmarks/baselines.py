"""What the benchmarks of models share: policies of three sizes, and questions and responses of real lengths."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import transformers as hf
from pytorch_lightning.strategies import SingleDeviceStrategy
from tokenizers import Tokenizer, models, pre_tokenizers

from ares.models.inputs import Inputs
from ares.models.policy import Policy, Trainable
from ares.models.t5.inputs import T5Inputs
from ares.models.t5.policy import T5Policy
from ares.models.vlm.loading import LoraSettings, VlmSettings
from ares.models.vlm.messages import Prompts
from ares.models.vlm.policy import VlmPolicy
from ares.models.vlm.reader import VlmInputs
from ares.models.vlm.samples import Sample
from ares.types import Example
from benchmarks.lengths import prompt_lengths, response_lengths
from tests.support.policies import number_policy

VOCABULARY = 32_128
_PATCHES, _PATCH_WIDTH = 145, 1024  # ViT's features of an image
_SIDE, _PATCH = 112, 14  # pixels of a VLM's image: 64 tokens
T5 = {
    "small": {"width": 512, "num_layers": 8, "num_heads": 6, "d_ff": 1024, "d_kv": 64},
    "base": {"width": 768, "num_layers": 12, "num_heads": 12, "d_ff": 2048, "d_kv": 64},
    "large": {"width": 1024, "num_layers": 24, "num_heads": 16, "d_ff": 2816, "d_kv": 64},
}
VLM = {  # the language model of a LLaVA; base and large are Qwen2.5's 1.5B and 7B
    "small": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 1024,
    },
    "base": {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
    },
    "large": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
    },
}


class Images:
    """The same image features for every problem."""

    shape = (_PATCHES, _PATCH_WIDTH)

    def __init__(self) -> None:
        self.one = np.random.default_rng(0).normal(size=self.shape).astype(np.float32)

    def get(self, pids: Sequence[str]) -> np.ndarray:
        """(len(pids), P, D) float32."""
        return np.broadcast_to(self.one, (len(pids), *self.shape)).copy()


def build_policy(kind: str, size: str, *, seed: int = 0, device: str = "cpu") -> Policy:
    """An untrained policy, `kind` t5 (small: 79M weights, gated and untied as Flan-T5) or vlm (all weights)."""
    with torch.device(device):  # where weights are drawn: a GPU does so in no time
        return _vlm(VLM[size], seed) if kind == "vlm" else _t5(T5[size], seed)


def _t5(sizes: Mapping[str, int], seed: int) -> T5Policy:
    settings: dict[str, Any] = {**sizes, "patch_num": _PATCHES, "patch_dim": _PATCH_WIDTH}
    settings |= {"initializer_factor": 0.05, "tie_word_embeddings": False}
    policy = number_policy(seed, features=Images(), vocabulary=VOCABULARY, **settings)
    head = policy.model.lm_head  # tied by transformers, except for a checkpoint with a head of its own
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return policy


def _vlm(language: Mapping[str, int], seed: int) -> VlmPolicy:
    words = {"<pad>": 0, "</s>": 1, **{str(number): number for number in range(2, VOCABULARY - 1)}}
    tokenizer = Tokenizer(models.WordLevel({**words, "<image>": VOCABULARY - 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": _SIDE}, crop_size={"height": _SIDE, "width": _SIDE}),
        hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            eos_token="</s>",
            extra_special_tokens={"image_token": "<image>"},
        ),
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for message in messages %}{% endfor %}",
    )
    tower = {"image_size": _SIDE, "patch_size": _PATCH, "hidden_size": 512, "intermediate_size": 1024}
    tower |= {"num_hidden_layers": 4, "num_attention_heads": 8, "projection_dim": 512}
    text = {"vocab_size": VOCABULARY, "max_position_embeddings": 4096, "pad_token_id": 0, "eos_token_id": 1}
    config = hf.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **tower},
        text_config={"model_type": "llama", "tie_word_embeddings": False, **text, **language},
        image_token_index=VOCABULARY - 1,
        image_seq_length=(_SIDE // _PATCH) ** 2,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    settings = VlmSettings(
        base=None,
        fingerprint=None,
        dtype="float32",
        quantization="none",
        max_pixels=None,
        prompts=Prompts(None, "{question}", "{question} {rationale}"),
        lora=LoraSettings(r=0, alpha=1, targets=None, vision=False),
    )
    return VlmPolicy._of(hf.LlavaForConditionalGeneration(config), processor, settings, seed=seed)


def questions(policy: Policy, count: int, *, seed: int = 0) -> Inputs:
    """Prompts of random tokens with real lengths; a VLM's have an image each, of 64 tokens more."""
    random_ids = [
        _text(length, seed * count + n) for n, length in enumerate(prompt_lengths(count, seed=seed))
    ]
    pids = [f"p{number}" for number in range(count)]
    if isinstance(policy, VlmPolicy):
        image = [VOCABULARY - 1] * (_SIDE // _PATCH) ** 2
        return VlmInputs(
            policy.reader, [_sample(pid, image + ids) for pid, ids in zip(pids, random_ids, strict=True)]
        )
    return T5Inputs(random_ids, pids, Images(), policy.pad_id)


def responses(count: int, *, seed: int = 0) -> list[list[int]]:
    """Responses of random tokens with real lengths, each with EOS at its end."""
    return [_text(length, -n) for n, length in enumerate(response_lengths(count, seed=seed), start=1)]


def _text(length: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [*(draw.randrange(2, VOCABULARY - 1) for _ in range(length - 1)), 1]


def _sample(pid: str, ids: list[int]) -> Sample:
    pixels = torch.randn(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    tokens = {"input_ids": ids, "attention_mask": [1] * len(ids)}
    return Sample(Example("", "", pid), tokens, {"pixel_values": pixels})


class Start:
    """Puts the first weights back, from a file, so that no side pays for a copy in memory."""

    def __init__(self, models: Sequence[Trainable], folder: Path) -> None:
        self.models, self.file = models, folder / "weights.pt"
        torch.save([model.state_dict() for model in self.models], self.file)

    def then(self, run: Callable[[], object]) -> Callable[[], object]:
        """A function that puts the weights back and runs."""

        def both() -> object:
            self.restore()
            return run()

        return both

    def restore(self) -> None:
        """Puts the weights back."""
        states = torch.load(self.file, mmap=True, weights_only=True)
        for model, state in zip(self.models, states, strict=True):
            model.load_state_dict(state)
            model.zero_grad()


class _InPlace(SingleDeviceStrategy):
    """Leaves models on their device after a fit, where the next side needs them."""

    def teardown(self) -> None:
        """Does nothing."""


def bare_trainer(device: str, **settings: Any) -> pl.Trainer:
    """A Trainer of one epoch on one device, without checkpoints, validation and logs."""
    return pl.Trainer(
        strategy=_InPlace(torch.device(device, 0)),
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
