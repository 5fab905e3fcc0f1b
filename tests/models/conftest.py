"""Fixtures of a small T5 policy and of the recorded model."""

from tests.support.t5 import batch, original, policy, recorded, tokenizer  # noqa: F401
