"""Policies whose prompts are chats, which servers can read as well."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ares.models.policy import Policy
from ares.types import Example

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Chat:
    """The prompt of an example as a server takes it.

    `messages` in the form of transformers' chat templates, with an entry {"type": "image"} for each of `images`, in
    order; `ids` are those of the complete prompt; `add_special_tokens`: whether the tokenizer adds BOS to what the chat
    template writes; `special_ids`: tokens that are no text, of which a response holds EOS only.
    """

    messages: Sequence[Mapping[str, Any]]
    images: Sequence["Image"]
    ids: Sequence[int]
    add_special_tokens: bool
    special_ids: Sequence[int]


class ChatPolicy(Policy):
    """A policy that reads chat messages."""

    @abstractmethod
    def chat(self, example: Example) -> Chat:
        """The prompt of an example as chat messages, with the images that the policy sees."""
