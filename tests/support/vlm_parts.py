"""The parts of tiny vision-language models: a tokenizer, a chat template, the configurations of both towers."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SIDE, PATCH = 56, 14  # pixels of an image and of a patch, so that an image has 16 patches
SIZE = {"height": SIDE, "width": SIDE}
GRID = [
    [SIDE, 2 * SIDE],
    [2 * SIDE, SIDE],
    [2 * SIDE, 2 * SIDE],
]  # (height, width) of images in several tiles
PAD, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"  # ids 0, 1, 2
# Large enough that another image or another token visibly changes an untrained model's output.
SPREAD = 0.15

TEXTS = (
    "system\nYou are a helpful assistant.",
    "user\nQuestion: Which magnet is stronger, the red one or the blue one? Options: (A) red (B) blue",
    "assistant\nSolution: The picture shows a red square. So, the answer is (A).",
)


def tiny_tokenizer(*more: str, bos: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that pads with id 0 and ends a turn with `<|im_end|>`, id 2.

    `named` special tokens become attributes (`image_token`, `image_token_id`) that processors look for; `more` special
    tokens have no name.
    """
    special = [PAD, TURN, END, *filter(None, [bos]), *named.values(), *more]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + 300,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 5, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        bos_token=bos,
        extra_special_tokens=named,
        model_input_names=["input_ids", "attention_mask"],
    )


def chat_template(image: str) -> str:
    """A template in the ChatML form that writes `image` for each image."""
    return (
        "{% for message in messages %}"
        f"{TURN}{{{{ message['role'] }}}}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        f"{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}{% endif %}"
        f"{END}\n"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{TURN}assistant\n{{% endif %}}"
    )


def language_model(kind: str, vocabulary: int, **changes: Any) -> dict[str, Any]:
    """The configuration of a language model of two layers, with an output layer of its own."""
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "initializer_range": SPREAD,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        **changes,
    }


def vision_tower(kind: str | None = None, **changes: Any) -> dict[str, Any]:
    """The configuration of an image encoder of two layers."""
    return {
        **({"model_type": kind} if kind else {}),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": SPREAD,
        **changes,
    }
