"""A loopback server for Teachers, and questions to ask them."""

import pytest

from ares.types import Problem
from tests.support.teacher import KEY, Loopback


@pytest.fixture
def loopback(monkeypatch):
    """Starts a loopback server with these options and puts its key into the environment."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    servers = []

    def start(**options) -> Loopback:
        servers.append(Loopback(**{"key": KEY, **options}))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def problem():
    """Builds a problem with this pid."""

    def make(pid: str = "1", **changes) -> Problem:
        blank = dict.fromkeys(
            ("hint", "caption", "lecture", "subject", "topic", "category", "skill", "grade", "task"), ""
        )
        values = {
            "question": f"Is ice {pid} a solid?",
            "choices": ("yes", "no"),
            "answer": 0,
            "solution": "Ice is a solid.",
            "image": None,
            "split": "train",
        }
        return Problem(pid=pid, **{**blank, **values, **changes})

    return make
