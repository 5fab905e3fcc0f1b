"""Fixtures of RL: each test runs on a T5 and on a vision-language model."""

from collections.abc import Callable
from functools import partial

import pytest

from ares.models.policy import Policy
from tests.support import ppo


@pytest.fixture(params=["t5", "vlm"])
def tiny_policy(request: pytest.FixtureRequest) -> Callable[..., Policy]:
    """Builds untrained policies: `tests.support.ppo.tiny_policy` of one kind."""
    return partial(ppo.tiny_policy, kind=request.param)
