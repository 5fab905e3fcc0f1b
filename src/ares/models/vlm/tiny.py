"""A small LLaVA with a tokenizer of its own, from scratch: about a million weights, no hub.

Its vision tower reads the sample's pictures patch by patch, so that one image token stands for one cell of the grid.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from ares.types import AresError

PAD, END, USER, ASSISTANT, IMAGE = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<image>"
_SPECIAL = [PAD, END, USER, ASSISTANT, IMAGE]
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_chat_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of at most `vocab_size` tokens, the tokens of a chat among them.

    Frequent words with the space before them become one token, and so does the letter of a choice, as in "(B)"; digits
    are always tokens of their own. The same texts give the same tokenizer. Raises AresError for a `vocab_size` below the
    number of bytes and special tokens.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + len(_SPECIAL):
        raise AresError(
            f"tokenizer.vocab_size is {vocab_size}; write at least {len(alphabet) + len(_SPECIAL)}, the number of bytes "
            "and special tokens."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\([A-Z]\)|\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE, "user_token": USER, "assistant_token": ASSISTANT},
        padding_side="left",
    )


def build_tiny(
    settings: Mapping[str, Any], texts: Iterable[str], *, vocab_size: int, seed: int
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A network of the sizes in `conf/model/tiny_vlm.yaml`, drawn from `seed`, and its processor."""
    tokenizer = train_chat_tokenizer(texts, vocab_size=vocab_size)
    size, patch = settings["image_size"], settings["patch_size"]
    images = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaForConditionalGeneration(_config(settings, tokenizer)), processor


def _config(settings: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    width, heads = settings["d_model"], settings["heads"]
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": settings["d_ff"],
        "num_hidden_layers": settings["layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "pad_token_id": pad,
        "bos_token_id": None,
        "eos_token_id": end,
        "tie_word_embeddings": True,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": settings["d_ff"],
        "num_hidden_layers": settings["vision_layers"],
        "num_attention_heads": heads,
        "image_size": settings["image_size"],
        "patch_size": settings["patch_size"],
        "projection_dim": width,
    }
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE],
        image_seq_length=(settings["image_size"] // settings["patch_size"]) ** 2,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
