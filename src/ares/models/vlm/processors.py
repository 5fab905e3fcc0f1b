"""Processors of pretrained models, made ready for a policy: padding, the end of a turn, a chat template, the pixel budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, AutoProcessor

from ares.models.vlm.families import limit_pixels, needs_image, response_type
from ares.models.vlm.messages import special_tokens
from ares.models.vlm.reader import VlmReader
from ares.models.weights import opening
from ares.text.tokenizers import check_vocabulary, turn_off_cache

if TYPE_CHECKING:
    from ares.models.vlm.loading import VlmSettings


def model_type_of(path: str | Path) -> str:
    """The family of the model in a folder or on the hub."""
    with opening(f"{path} cannot be opened", "give the folder or hub id of a vision-language model"):
        return str(AutoConfig.from_pretrained(path).model_type)


def open_processor(path: str | Path) -> Any:
    """The processor of a folder or hub id. Raises AresError where there is none."""
    remedy = "give the folder or hub id of a vision-language model with its processor"
    with opening(f"The processor of {path} cannot be opened", remedy):
        processor = AutoProcessor.from_pretrained(path)
        if not hasattr(processor, "image_processor"):
            raise ValueError("it reads no images")
        turn_off_cache(processor.tokenizer)
        check_vocabulary(processor.tokenizer, path)
        return processor


def reader_of(
    processor: Any, model_type: str, settings: "VlmSettings", *, max_input_tokens: int
) -> VlmReader:
    """A processor as a policy's reader: padding, the token that ends a turn, a chat template, the pixel budget."""
    tokenizer = processor.tokenizer
    if processor.chat_template is None:
        processor.chat_template = _PLAIN_TEMPLATE.replace("IMAGE", str(processor.image_token))
    tokenizer.eos_token = _end_of_turn(processor)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if settings.max_pixels is not None:
        limit_pixels(processor.image_processor, settings.max_pixels)
    return VlmReader(
        processor,
        prompts=settings.prompts,
        response_type=response_type(model_type),
        needs_image=needs_image(model_type),
        max_pixels=settings.max_pixels,
        max_input_tokens=max_input_tokens,
    )


# For models that were never trained on chats.
_PLAIN_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
)


def _end_of_turn(processor: Any) -> str:
    """The special token that the chat template writes after a reply; without one the tokenizer's EOS."""
    turn = {"role": "user", "content": [{"type": "text", "text": "question"}]}
    reply = {"role": "assistant", "content": [{"type": "text", "text": "the-reply"}]}
    text = processor.apply_chat_template([turn, reply], tokenize=False)
    after = text.split("the-reply", 1)[-1]
    found = [token for token in special_tokens(processor.tokenizer).values() if token in after]
    return min(found, key=after.index, default=processor.tokenizer.eos_token)
