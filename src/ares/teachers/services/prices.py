"""Prices of models, and upper bounds on the tokens of a request."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ares.teachers.services.request_images import images_of
from ares.types import AresError

Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_SLACK = 600  # tokens that a service may add to a request: roles, the schema's instructions


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: Amount
    output: Amount

    def usd(self, input_tokens: int, output_tokens: int) -> float:
        """The price of this many tokens, US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


def price_of(prices: Mapping[str, Any] | None, model: str, discount: float = 1.0) -> Price | None:
    """The price of a model, from entries `{input, output}`, times `discount`; None without an entry, or for null.

    Raises AresError for an entry that is not a price.
    """
    entry = (prices or {}).get(model)
    if entry is None:
        return None
    try:
        price = TypeAdapter(Price).validate_python(entry)
    except ValidationError:
        raise AresError(
            f"conf/prices.yaml (teacher.prices): the price of {model} is {entry}; give `{{input: 1.00, output: 5.00}}`, "
            "US dollars per million tokens, or null if it is unknown."
        ) from None
    return Price(discount * price.input, discount * price.output)


def most_tokens(payload: Mapping[str, Any]) -> tuple[int, int]:
    """Upper bounds on a request's input tokens (one per byte, and the images') and output tokens (the longest reply)."""
    texts = (payload["text"], payload.get("replied", ""), payload.get("objection", ""))
    text = sum(len(part.encode()) for part in texts) + len(str(payload["schema"] or ""))
    return text + image_tokens(payload) + _SLACK, payload["max_tokens"]


def image_tokens(payload: Mapping[str, Any]) -> int:
    """The input tokens of a request's images: 750 pixels per token."""
    sizes = [image["size"] for image in images_of(payload)]
    return sum(math.ceil(width * height / 750) for width, height in sizes)
