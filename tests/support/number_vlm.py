"""A small vision-language policy whose texts are numbers, as those of `number_policy`: the text "7 8" is the ids 7, 8."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from ares.models.vlm.loading import LoraSettings, VlmSettings
from ares.models.vlm.messages import Prompts
from ares.models.vlm.policy import VlmPolicy
from tests.support.policies import EOS, PAD
from tests.support.vlm_parts import language_model, vision_tower

SIDE, PATCH = 8, 4  # pixels: four tokens per image
_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def number_vlm(
    seed: int = 0,
    *,
    dropout: float = 0.0,
    vocabulary: int = 16,
    width: int = 16,
    r: int = 4,
    vision: bool = False,
) -> VlmPolicy:
    """An untrained policy of texts of numbers, in eval mode: an adapter of rank `r` or, with 0, all weights.

    `vision` trains the vision tower, too.
    """
    processor = _processor(vocabulary)
    size = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"num_key_value_heads": 2, "head_dim": width // 2, "initializer_range": 0.5, "eos_token_id": EOS}
    tower = {"image_size": SIDE, "patch_size": PATCH, "projection_dim": width}
    config = hf.LlavaConfig(
        vision_config=vision_tower("clip_vision_model", **size, **tower),
        text_config=language_model("llama", len(processor.tokenizer), **size, **text),
        image_token_index=processor.tokenizer.image_token_id,
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_layer=-1,
    )
    torch.manual_seed(seed)
    settings = VlmSettings(
        base=None,
        fingerprint=None,
        dtype="float32",
        quantization="none",
        max_pixels=None,
        prompts=Prompts(None, "{question}", "{question} {rationale}"),
        lora=LoraSettings(r=r, alpha=4 * r, targets=None, vision=vision),
    )
    network = hf.LlavaForConditionalGeneration(config)
    return VlmPolicy._of(network, processor, settings, seed=seed, dropout=dropout)


def _processor(vocabulary: int) -> hf.LlavaProcessor:
    words = {"<pad>": PAD, "</s>": EOS, **{str(number): number for number in range(2, vocabulary)}}
    tokenizer = Tokenizer(models.WordLevel({**words, "<image>": vocabulary}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    return hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    )


@functools.cache
def picture(number: int) -> Path:
    """A file with a picture of 8 × 8 random pixels, which lives as long as this process."""
    path = Path(_folder().name, f"{number}.png")
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pictures")
