"""The server engine against loopback servers: what is asked, what is refused, and what is tried again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ares.engines import endpoints
from ares.engines.base import EngineJob, Sample
from ares.engines.server import ServerEngine
from ares.models.inputs import Sampling
from ares.models.policy import Policy
from ares.types import AresError
from tests.support.policies import EOS, number_policy
from tests.support.token_server import TokenServer, adapter_folder, number_chat, numbered

EXAMPLES = numbered(6)
K, LIMIT = 3, 6


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_FIRST_PAUSE", 0.01)


def engine(urls: Sequence[str], folder: Path, policy: Policy | None = None, **settings: Any) -> ServerEngine:
    job = EngineJob("round-1/rollouts", folder, 2, folder.parent / "server.log")
    limits = {"concurrency": 4, "timeout": 1.0, "deadline": 5.0, "startup": 5.0, "command": None, **settings}
    return ServerEngine(policy or number_chat(), job, urls=urls, **limits)


def sampled(urls: Sequence[str], folder: Path, **settings: Any) -> list[Sample]:
    with engine(urls, folder, **settings) as opened:
        return opened.sample(list(EXAMPLES.values()), k=K, seed=7, sampling=Sampling(), max_new_tokens=LIMIT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapter_folder(tmp_path / "policy")


def test_requests_go_to_both_servers_and_name_the_adapter_by_its_hash(folder: Path) -> None:
    with TokenServer(number_chat()) as one, TokenServer(number_chat()) as other:
        found = sampled([one.url, f"{other.url}/v1/"], folder)
        requests = one.requests + other.requests
        assert min(len(one.requests), len(other.requests)) > 0
        [name] = {request["model"] for request in requests}
        assert name == engine([], folder).name
        assert name.startswith("ares-")
        assert one.adapters == other.adapters == [{"lora_name": name, "lora_path": str(folder)}]
    assert len(found) == K * len(EXAMPLES)
    assert len({request["seed"] for request in requests}) == len(EXAMPLES)
    for request in requests:
        assert request["n"] == K
        assert request["stop_token_ids"] == [EOS]
        assert request["logit_bias"] == {"0": -100, "2": -100}
    (folder / "weights").write_text("other")
    assert engine([], folder).name != name


def test_samples_are_the_policys_with_its_logprobs_and_repeatable(folder: Path) -> None:
    policy = number_chat()
    with TokenServer(policy) as server:
        found = sampled([server.url], folder)
        assert found == sampled([server.url], folder)
        assert len(server.adapters) == 1  # the second engine finds it loaded
    assert {sample.ids[-1] == EOS for sample in found} == {True, False}
    for number, sample in enumerate(found):
        inputs = policy.encode([EXAMPLES[f"p{number // K}"]])
        with torch.no_grad():
            own = policy.token_logprobs(inputs, torch.tensor([sample.ids]), [len(sample.ids)])
        assert sample.logprobs == pytest.approx(own[0].tolist(), abs=1e-5)
        assert EOS not in sample.ids[:-1]
        assert sample.ids[-1] == EOS or len(sample.ids) == LIMIT


def test_greedy_is_the_policys(folder: Path) -> None:
    policy = number_chat()
    with TokenServer(policy) as server, engine([server.url], folder) as opened:
        found = opened.greedy(EXAMPLES, max_new_tokens=LIMIT, label="test")
    assert [response.pid for response in found] == list(EXAMPLES)
    own = policy.greedy(policy.encode(list(EXAMPLES.values())), max_new_tokens=LIMIT)
    assert [list(response.token_ids) for response in found] == own
    assert [response.text for response in found] == [policy.decode(ids) for ids in own]
    assert [response.truncated for response in found] == [EOS not in ids for ids in own]


def test_images_arrive_in_order_with_their_pixels(folder: Path) -> None:
    policy = number_chat()
    pictures = [Image.new("RGB", (2 + n, 3), (n, 20, 30)) for n in range(3)]
    policy.pictures = {"p1": pictures}
    with TokenServer(policy) as server, engine([server.url], folder, policy, concurrency=1) as opened:
        opened.sample([EXAMPLES["p0"], EXAMPLES["p1"]], k=1, seed=0, sampling=Sampling(), max_new_tokens=3)
        assert server.pictures(0) == []
        arrived = server.pictures(1)
    assert [image.size for image in arrived] == [image.size for image in pictures]
    assert [image.tobytes() for image in arrived] == [image.tobytes() for image in pictures]


# --------------------------------------------------------------------------------- the model


@pytest.mark.parametrize("status", [404, 400, 500])
def test_an_adapter_that_cannot_be_loaded_is_refused(folder: Path, status: int) -> None:
    with TokenServer(number_chat(), load_status=status) as server:
        with pytest.raises(AresError, match=r"cannot load the adapter .*--enable-lora"):
            sampled([server.url], folder)
        assert server.requests == []


def test_full_weights_must_be_served_under_their_hash(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    with TokenServer(number_chat()) as server:
        with pytest.raises(AresError, match="--served-model-name ares-"):
            sampled([server.url], tmp_path / "policy")
        server.models.append(engine([], tmp_path / "policy").name)
        assert sampled([server.url], tmp_path / "policy")
        assert server.adapters == []


def test_a_server_that_forgot_the_adapter_is_refused(folder: Path) -> None:
    with TokenServer(number_chat()) as server, engine([server.url], folder) as opened:
        server.models.pop()
        with pytest.raises(AresError, match="was restarted since round-1/rollouts began"):
            opened.greedy(EXAMPLES, max_new_tokens=3, label="test")


def test_a_policy_without_chats_is_refused(folder: Path) -> None:
    with pytest.raises(AresError, match="use engine=hf"):
        engine([], folder, number_policy())


def test_other_logprobs_stop_the_first_part(folder: Path) -> None:
    def shift(reply: dict[str, Any]) -> None:
        for token in reply["choices"][0]["logprobs"]["content"]:
            token["logprob"] -= 0.4

    with (
        TokenServer(number_chat(), alter=shift) as server,
        pytest.raises(AresError, match=r"differ .* by 0\.\d+ nats .*adapter.*max_pixels.*quantized"),
    ):
        sampled([server.url], folder)
    with TokenServer(number_chat(seed=1)) as server, pytest.raises(AresError, match="nats per token"):
        sampled([server.url], folder)


# ------------------------------------------------------------------------------------- replies


def choice(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply["choices"][0].update(changes)


ONE = {"content": [{"logprob": -1.0}]}
REPLIES = {
    "other prompt ids": (lambda reply: reply["prompt_token_ids"].insert(1, 9), "differ from token 1 on"),
    "no prompt ids": (lambda reply: reply.pop("prompt_token_ids"), "return_token_ids"),
    "no token ids": (choice(token_ids=None), "return_token_ids"),
    "fewer choices": (lambda reply: reply["choices"].pop(), "2 choices instead of 3"),
    "no choices": (lambda reply: reply.pop("choices"), "no chat completion"),
    "no logprobs": (choice(logprobs=None), "no chat completion with log-probabilities"),
    "fewer logprobs": (choice(token_ids=[3, 1], logprobs=ONE), "1 log-probabilities of 2 tokens"),
    "aborted": (choice(finish_reason="abort"), "finish_reason is 'abort'"),
    "cut early": (choice(token_ids=[3], logprobs=ONE, finish_reason="length"), "cut at 1 of 6 tokens"),
    "goes on": (
        choice(token_ids=[EOS, EOS], logprobs={"content": ONE["content"] * 2}, finish_reason="stop"),
        "goes on after the end-of-text token",
    ),
}


@pytest.mark.parametrize(("alter", "message"), REPLIES.values(), ids=REPLIES)
def test_a_reply_that_is_not_what_was_asked_for_is_refused(folder: Path, alter: Any, message: str) -> None:
    with (
        TokenServer(number_chat(), alter=alter) as server,
        pytest.raises(AresError, match=f"question p\\d cannot be used: .*{message}"),
    ):
        sampled([server.url], folder)


def test_a_missing_eos_is_added(folder: Path) -> None:
    def strip(reply: dict[str, Any]) -> None:
        for found in reply["choices"]:
            if found["finish_reason"] == "stop":
                found["token_ids"].pop()
                found["logprobs"]["content"].pop()

    with TokenServer(number_chat()) as server:
        expected = sampled([server.url], folder)
    with TokenServer(number_chat(), alter=strip) as server:
        found = sampled([server.url], folder)
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    lengths = {len(sample.ids) - len(sample.logprobs or []) for sample in found}
    assert lengths == {0, 1}


# ------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("fault", [500, 429, "slow", "reset", "not json"])
def test_a_temporary_failure_is_tried_again(folder: Path, fault: int | str) -> None:
    with TokenServer(number_chat()) as server:
        expected = sampled([server.url], folder)
    with TokenServer(number_chat(), faults=[fault]) as server:
        assert sampled([server.url], folder, timeout=0.5) == expected
        assert len(server.requests) == len(EXAMPLES) + 1


def test_a_failed_request_goes_to_the_other_server(folder: Path) -> None:
    with TokenServer(number_chat(), faults=[500] * 99) as broken, TokenServer(number_chat()) as well:
        assert len(sampled([broken.url, well.url], folder)) == K * len(EXAMPLES)
        assert len(well.requests) == len(EXAMPLES)


def test_a_server_that_dies_is_left_out(folder: Path, capsys) -> None:
    with TokenServer(number_chat(), faults=["die"]) as dying, TokenServer(number_chat()) as well:
        assert len(sampled([dying.url, well.url], folder, concurrency=1)) == K * len(EXAMPLES)
        assert len(dying.requests) == 1
        assert f"warning: round-1/rollouts: {dying.url} is left out" in capsys.readouterr().err


def test_a_server_that_is_down_at_the_start_is_left_out(folder: Path, capsys) -> None:
    with TokenServer(number_chat()) as gone:
        pass
    with TokenServer(number_chat()) as well:
        assert len(sampled([gone.url, well.url], folder)) == K * len(EXAMPLES)
    assert f"{gone.url} is left out" in capsys.readouterr().err
    with pytest.raises(AresError, match=r"No server of engine\.urls can be reached"):
        sampled([gone.url], folder)


def test_without_any_server_the_step_says_how_to_resume(folder: Path) -> None:
    with (
        TokenServer(number_chat(), faults=[200, "die"]) as one,
        TokenServer(number_chat(), faults=["die"]) as other,
        pytest.raises(
            AresError, match=r"No server .* run the same command again: round-1/rollouts continues"
        ),
    ):
        sampled([one.url, other.url], folder)


def test_a_request_is_given_up_at_the_deadline(folder: Path) -> None:
    with (
        TokenServer(number_chat(), faults=[500] * 999) as server,
        pytest.raises(AresError, match=r"no reply within engine.deadline=0.3 seconds .*500: .*it broke"),
    ):
        sampled([server.url], folder, deadline=0.3)


def test_a_refused_request_is_not_repeated(folder: Path) -> None:
    with TokenServer(number_chat(), faults=[400]) as server:
        with pytest.raises(AresError, match=r"refuses a request of round-1/rollouts .*it broke"):
            sampled([server.url], folder, concurrency=1)
        assert len(server.requests) == 1
