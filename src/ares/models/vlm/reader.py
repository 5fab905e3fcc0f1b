"""Prompts and images as a vision-language model reads them: the chat template, the processor, and batches.

Each example is processed alone, and a batch is put together from the results: families lay out images in different
ways (a row per prompt, per tile, per patch), but all of them agree when samples are concatenated.
"""

import re
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ares.models.chat import Chat
from ares.models.inputs import first_rows
from ares.models.transfer import sent
from ares.models.vlm.fitting import limited, shortened
from ares.models.vlm.messages import Message, Prompts, messages_of, special_tokens, target_of
from ares.models.vlm.samples import Sample, concatenated
from ares.rl.masked import pad_right
from ares.types import Example
from ares.vision.images import open_image

# One entry per token of the prompt; all other tensors of a processor are images'.
TOKEN_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
_CACHE_BYTES = 2**30  # of processed images, in one process


class VlmInputs:
    """Prompts as token ids, with their images, which are read again when a batch needs them and no cache holds them."""

    # No dataclass: Lightning would look into it for tensors to convert.
    def __init__(
        self, reader: "VlmReader", samples: Sequence[Sample], device: torch.device | str = "cpu"
    ) -> None:
        self.reader, self.samples, self.device = reader, samples, device

    @property
    def ids(self) -> list[list[int]]:
        """The token ids of each prompt."""
        return [sample.tokens["input_ids"] for sample in self.samples]

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each prompt, those of images included."""
        return [len(ids) for ids in self.ids]

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, rows: Sequence[int]) -> "VlmInputs":
        """The prompts of the given rows, in their order."""
        return VlmInputs(self.reader, [self.samples[row] for row in rows], self.device)

    def repeat(self, k: int) -> "VlmInputs":
        """Each prompt k times in succession."""
        return self.select([row for row in range(len(self)) for _ in range(k)])

    def distinct(self) -> tuple["VlmInputs", list[int]]:
        """The prompts without repetitions, in order, and which of them each row is."""
        first, which = first_rows(map(id, self.samples))
        return (self, which) if len(first) == len(self) else (self.select(first), which)

    def to(self, device: torch.device | str) -> "VlmInputs":
        """The same prompts on a device."""
        return VlmInputs(self.reader, self.samples, device)

    def prompts(self) -> dict[str, Tensor]:
        """A batch to continue: prompts padded on the left, (B, S) per token key, and the images' tensors."""
        longest = max(self.lengths)
        tokens = {
            key: torch.tensor([[0] * (longest - len(row)) + row for row in rows])
            for key, rows in self._token_rows(self.samples).items()
        }
        return self._batch(tokens)

    def followed_by(self, responses: Tensor) -> dict[str, Tensor]:
        """A batch of prompts, each followed by its row of `responses` (B, T) int64, padded on the right: (B, S + T)."""
        (count, width), device = responses.shape, self.device
        # Responses are not read back from a device: zeros stand for them.
        rows = self._token_rows(self.begun([[0] * width] * count).samples)
        batch = self._batch({key: pad_right(row, 0) for key, row in rows.items()})
        after = sent(torch.tensor(self.lengths), device)[:, None] + torch.arange(width, device=device)
        batch["input_ids"] = batch["input_ids"].scatter(1, after, responses.to(device))
        return batch

    def loaded(self) -> "VlmInputs":
        """The same prompts, whose images need not be read again."""
        prompts, which = self.distinct()
        known = [Sample(own.example, own.tokens, self.reader.images_of(own)) for own in prompts.samples]
        return VlmInputs(self.reader, [known[row] for row in which], self.device)

    def begun(self, beginnings: Sequence[Sequence[int]]) -> "VlmInputs":
        """The prompts, each followed by the beginning of its response."""
        kind = self.reader.response_type
        followed = [a.followed_by(b, kind) for a, b in zip(self.samples, beginnings, strict=True)]
        return VlmInputs(self.reader, followed, self.device)

    def _token_rows(self, samples: Sequence[Sample]) -> dict[str, list[list[int]]]:
        keys = [key for key in TOKEN_KEYS if key in samples[0].tokens]
        return {key: [sample.tokens[key] for sample in samples] for key in keys}

    def _batch(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        images = concatenated([self.reader.images_of(sample) for sample in self.samples])
        return {key: sent(tensor, self.device) for key, tensor in {**tokens, **images}.items()}


class VlmReader:
    """A processor (tokenizer, chat template, image processor) with the prompts and limits of a policy."""

    def __init__(
        self,
        processor: Any,
        *,
        prompts: Prompts,
        response_type: int,
        needs_image: bool,
        max_pixels: int | None,
        max_input_tokens: int,
    ) -> None:
        self.processor, self.prompts = processor, prompts
        self.response_type, self.needs_image = response_type, needs_image
        self.max_pixels, self.max_input_tokens = max_pixels, max_input_tokens
        self.shortened = 0  # prompts whose context had to be shortened so far
        self._cached = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "VlmReader":
        return self  # holds no weights, and its cache is for all copies of a policy

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer; its EOS is what ends a turn of the chat."""
        return self.processor.tokenizer

    @cached_property
    def special_ids(self) -> list[int]:
        """The ids of the tokens that are no text."""
        return list(special_tokens(self.tokenizer))

    @cached_property
    def special(self) -> re.Pattern[str]:
        """Finds the tokens that texts of the data must not produce."""
        tokens = sorted(special_tokens(self.tokenizer).values(), key=len, reverse=True)
        return re.compile("|".join(re.escape(token) for token in tokens if len(token) > 1))

    def messages(self, example: Example) -> list[Message]:
        """The example's prompt as chat messages."""
        images = len(example.images) or int(self.needs_image)
        return messages_of(example, self.prompts, self.special, images=images)

    def chat(self, example: Example) -> Chat:
        """The example's prompt as a server takes it."""
        pictures = self.pictures(example)
        example, tokens, _ = self._fitting(example, pictures)
        messages, ids = self.messages(example), tokens["input_ids"]
        return Chat(messages, pictures, ids, self._formatted(messages)[1], self.special_ids)

    def encode(self, examples: Sequence[Example]) -> VlmInputs:
        """The prompts of examples; of one that is too long, the context is shortened.

        Raises AresError for a prompt that is too long without it (the answer's may be longer, by the rationale in it), and
        for an image that cannot be read.
        """
        return VlmInputs(self, [self._sample(example) for example in examples])

    def encode_targets(self, examples: Sequence[Example], *, max_tokens: int) -> list[list[int]]:
        """The targets of examples as ids, cut to `max_tokens` with EOS as the last one."""
        texts = [target_of(example, self.special) for example in examples]
        if not texts:
            return []
        rows = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [[*row[: max_tokens - 1], self.tokenizer.eos_token_id] for row in rows]

    def images_of(self, sample: Sample) -> dict[str, Tensor]:
        """The tensors of a sample's images; empty for a prompt without one."""
        if sample.images is not None:
            return sample.images
        return self._processed(sample.example, self.pictures(sample.example))[1]

    def pictures(self, example: Example) -> list[Image.Image]:
        """The images of an example, none larger than `max_pixels`."""
        images = [limited(open_image(path), self.max_pixels) for path in example.images]
        return images or ([Image.new("RGB", (64, 64), "white")] if self.needs_image else [])

    def _sample(self, example: Example) -> Sample:
        own, tokens, images = self._fitting(example, self.pictures(example))
        self.shortened += own is not example
        sample = Sample(own, tokens)
        size = sum(tensor.nbytes for tensor in images.values())
        if self._cached + size <= _CACHE_BYTES:
            sample.images = images
            self._cached += size
            weakref.finalize(sample, self._forget, size)
        return sample

    def _fitting(
        self, example: Example, pictures: list[Image.Image]
    ) -> tuple[Example, dict[str, list[int]], dict[str, Tensor]]:
        """The example, its context shortened if need be, with the ids of its prompt and its images' tensors."""
        tokens, images = self._processed(example, pictures)
        length, limit = len(tokens["input_ids"]), self.max_input_tokens
        if length <= limit or length <= (limit := limit + self._length(example.rationale or "")):
            return example, tokens, images
        example = shortened(
            example, length, limit, lambda shorter: self._length(self._formatted(self.messages(shorter))[0])
        )
        return example, *self._processed(example, pictures)

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _forget(self, size: int) -> None:
        self._cached -= size

    def _processed(
        self, example: Example, pictures: list[Image.Image]
    ) -> tuple[dict[str, list[int]], dict[str, Tensor]]:
        text, add_special_tokens = self._formatted(self.messages(example))
        found = self.processor(
            text=[text],
            images=[pictures] if pictures else None,
            return_tensors="pt",
            add_special_tokens=add_special_tokens,
        )
        tokens = {key: found[key][0].tolist() for key in TOKEN_KEYS if key in found}
        images = {key: value for key, value in found.items() if key not in (*TOKEN_KEYS, "labels")}
        return tokens, images

    def _formatted(self, messages: list[Message]) -> tuple[str, bool]:
        """The text of messages, and whether the tokenizer adds its special tokens to it."""
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # A template that writes BOS itself must not get a second one.
        return text, self.tokenizer.bos_token is None or not text.startswith(self.tokenizer.bos_token)

    def save(self, folder: Path) -> None:
        """Writes the processor's files."""
        self.processor.save_pretrained(folder)
