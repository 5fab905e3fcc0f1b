"""Strict reading of a server's chat completions: exactly what was asked for, or an AresError."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ares.engines.base import Sample
from ares.types import AresError


@dataclass(frozen=True)
class Expected:
    """What a reply must hold: the policy's own ids of the prompt of question `pid`, and `k` choices.

    `eos_id` ends a response, `max_new_tokens` is the length at which others are cut.
    """

    pid: str
    prompt_ids: Sequence[int]
    k: int
    eos_id: int
    max_new_tokens: int


def read_reply(reply: Any, expected: Expected) -> list[Sample]:
    """The samples of a chat completion, in the order of their indices.

    Raises AresError for other prompt ids, fewer choices, a missing field or an unknown finish reason.
    """
    try:
        _check_prompt(reply.get("prompt_token_ids"), expected)
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        if len(choices) != expected.k:
            raise _refused(expected, f"it has {len(choices)} choices instead of {expected.k}")
        return [_sample(choice, expected) for choice in choices]
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"it is no chat completion with log-probabilities ({type(error).__name__}: {error})"
        raise _refused(expected, reason) from None


def _refused(expected: Expected, reason: str) -> AresError:
    return AresError(f"engine=server: the reply to question {expected.pid} cannot be used: {reason}.")


def _check_prompt(ids: Sequence[int] | None, expected: Expected) -> None:
    if ids is None:
        raise _refused(
            expected, "it has no prompt_token_ids; the server must know return_token_ids (vLLM 0.10.2)"
        )
    own = list(expected.prompt_ids)
    if list(ids) != own:
        shared = min(len(ids), len(own))
        first = next((i for i in range(shared) if ids[i] != own[i]), shared)
        raise _refused(
            expected,
            f"the server reads its prompt as {len(ids)} tokens, the policy as {len(own)}, and they differ from token "
            f"{first} on; give the server the policy's chat template and image size (--chat-template, "
            "--mm-processor-kwargs; docs/engines.md)",
        )


def _sample(choice: Mapping[str, Any], expected: Expected) -> Sample:
    if choice.get("token_ids") is None:
        raise _refused(expected, "it has no token_ids; the server must know return_token_ids (vLLM 0.10.2)")
    ids = list(choice["token_ids"])
    logprobs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    if len(logprobs) != len(ids):
        raise _refused(expected, f"it has {len(logprobs)} log-probabilities of {len(ids)} tokens")
    reason = choice["finish_reason"]
    if reason == "stop":
        ids = ids if ids[-1:] == [expected.eos_id] else [*ids, expected.eos_id]
    elif reason != "length":
        raise _refused(expected, f"finish_reason is {reason!r}, neither 'stop' nor 'length'")
    elif len(ids) != expected.max_new_tokens:
        raise _refused(
            expected,
            f"it was cut at {len(ids)} of {expected.max_new_tokens} tokens; raise the server's --max-model-len",
        )
    if expected.eos_id in ids[:-1]:
        raise _refused(expected, "it goes on after the end-of-text token")
    return Sample(ids, logprobs)
