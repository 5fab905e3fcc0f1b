"""Rows in fixed places: the same texts as by cohorts, by steps that a CUDA graph can replay."""

from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from ares.models.cohorts import Cohort
from ares.models.graphs import RecordedStep, keeps_its_weights
from ares.models.inputs import Sample, Sampling
from ares.models.precision import converted_once
from ares.models.sampling import Choose, drawn, most_likely
from ares.models.scheduling import CHECK_EVERY, Step
from ares.models.slots import Slots
from ares.models.t5.policy import T5Policy
from ares.types import Example
from tests.support.captured import Recording, Replayed, run_on_fake_cuda
from tests.support.policies import number_policy
from tests.support.ppo import TinyFeatures

TEXTS = ("4 5 6", "7", "9 3 4 5 6 7", "8 8", "3 9 4")


def plain(step: Step) -> Step:
    """Does what the step does."""
    return step


@pytest.fixture(scope="module")
def policy() -> T5Policy:
    """Its responses have all lengths up to the longest."""
    return number_policy(features=TinyFeatures(), num_layers=2, initializer_factor=0.3)


def inputs_of(policy: T5Policy) -> Any:
    return policy.encode([Example(text, "", text) for text in TEXTS])


def assert_equal(found: list[Sample], expected: list[Sample]) -> None:
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize(
    ("k", "slots", "every", "sampling"),
    [
        (4, 12, CHECK_EVERY, Sampling()),
        (1, 3, 5, Sampling(temperature=1.5, top_p=0.9)),
        (2, 1, CHECK_EVERY, Sampling(top_k=9)),
    ],
    ids=str,
)
def test_samples_equal_those_of_cohorts(
    policy: T5Policy, k: int, slots: int, every: int, sampling: Sampling
) -> None:
    """With more prompts than places, rows of several ages, and widths that grow; the filters are part of a step."""
    how: dict[str, Any] = {"k": k, "max_new_tokens": 70, "seed": 0, "sampling": sampling, "slots": slots}
    expected, count = policy.sample(inputs_of(policy), **how), list[int]()
    lengths = {len(sample.ids) for sample in expected}
    assert len(lengths) > 3
    found = policy.sample(inputs_of(policy), **how, capture=Replayed, every=every, finished=count.append)
    assert_equal(found, expected)
    assert sum(count) == len(expected)


def test_keys_are_kept_in_what_autocast_prescribes(policy: T5Policy) -> None:
    how: dict[str, Any] = {"k": 2, "max_new_tokens": 9, "seed": 0, "sampling": Sampling(), "slots": 4}
    with torch.autocast("cpu", torch.bfloat16):
        expected = policy.sample(inputs_of(policy), **how)
        found = policy.sample(inputs_of(policy), **how, capture=Replayed, every=3)
    assert not found[0].exact
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs
        assert other.logprobs
        assert one.logprobs[0] == pytest.approx(other.logprobs[0], abs=0.05)


def test_frozen_weights_are_converted_once(policy: T5Policy) -> None:
    """Autocast converts a weight that requires no gradient in every product, and so would each replay of a graph."""
    converted: list[int] = []

    def capture(step: Step) -> Step:
        def recorded() -> None:
            with Recording() as recording:
                step()
            copied = [
                args for op, args, *_ in recording.operations if op.overloadpacket.__name__ == "_to_copy"
            ]
            converted.append(sum(isinstance(args[0], torch.nn.Parameter) for args in copied))

        return recorded

    inputs = inputs_of(policy)
    try:
        policy.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16), converted_once(policy):
            policy.greedy(inputs, max_new_tokens=4, capture=capture)
        assert not any(weight.requires_grad for weight in policy.parameters())
    finally:
        policy.requires_grad_(True)
    assert converted[0] > 0
    assert set(converted[1:]) == {0}


def test_greedy_responses_and_continuations_equal_those_of_cohorts(policy: T5Policy) -> None:
    inputs = inputs_of(policy)
    how: dict[str, Any] = {"capture": Replayed, "every": 4, "slots": 3}
    assert policy.greedy(inputs, max_new_tokens=9, **how) == policy.greedy(inputs, max_new_tokens=9)
    drawn: dict[str, Any] = {"max_new_tokens": 20, "seed": 3, "sampling": Sampling()}
    expected = [sample.ids for sample in policy.sample(inputs, k=1, **drawn)]
    beginnings = [[token for token in ids[: 5 * row % 13] if token != 1] for row, ids in enumerate(expected)]
    assert len(set(map(len, beginnings))) > 3
    assert policy.continuations(inputs, beginnings, **drawn, **how) == expected
    assert policy.sample(inputs.select([]), k=2, **drawn, **how) == []


def test_each_response_has_a_limit_of_its_own(policy: T5Policy) -> None:
    inputs, limits = inputs_of(policy), [3, 9, 1, 12, 5]

    def choose(logits: torch.Tensor, rows: torch.Tensor, ages: torch.Tensor) -> tuple[torch.Tensor, None]:
        return logits[:, 2:].argmax(-1) + 2, None  # neither padding nor EOS

    written = policy.write(inputs, choose, limits, capture=Replayed, every=4, slots=3)
    assert [len(sample.ids) for sample in written] == limits
    assert [sample.ids for sample in written] == [
        sample.ids for sample in policy.write(inputs, choose, limits)
    ]


def test_every_step_computes_the_same_number_of_rows(policy: T5Policy) -> None:
    computed: list[int] = []
    hook = policy.model.lm_head.register_forward_hook(lambda *call: computed.append(len(call[2])))
    written = policy.sample(
        inputs_of(policy), k=4, max_new_tokens=40, seed=0, sampling=Sampling(), slots=8, capture=plain
    )
    hook.remove()
    assert set(computed) == {8}
    assert len(computed) >= max(len(sample.ids) for sample in written)


def test_without_memory_for_fixed_places_rows_are_cohorts(
    policy: T5Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"k": 2, "max_new_tokens": 9, "seed": 0, "sampling": Sampling(), "slots": 4}
    expected = policy.sample(inputs_of(policy), **how)

    new_zeros, refused = torch.Tensor.new_zeros, list[Any]()

    def full(own: torch.Tensor, size: Any, **how: Any) -> torch.Tensor:
        if isinstance(size, tuple) and len(size) == 4:
            refused.append(size)
            raise torch.OutOfMemoryError
        return new_zeros(own, size, **how)

    monkeypatch.setattr(torch.Tensor, "new_zeros", full)
    assert_equal(policy.sample(inputs_of(policy), **how, capture=plain), expected)
    assert len(refused) == 1


def test_a_step_that_cannot_be_recorded_runs_by_itself() -> None:
    calls: list[str] = []

    def record(step: Step) -> Step:
        calls.append("recorded")
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    step = RecordedStep(lambda: calls.append("step"), record, "Net")
    step()
    with pytest.warns(UserWarning, match=r"^Net writes without CUDA graphs.*stream is capturing$"):
        step()
    step()
    assert calls == ["step", "recorded", "step", "step"]


def test_a_step_is_recorded_once_and_then_replayed() -> None:
    calls: list[str] = []
    step = RecordedStep(lambda: calls.append("step"), lambda _: lambda: calls.append("replayed"), "Net")
    for _ in range(4):
        step()
    assert calls == ["step", "replayed", "replayed", "replayed"]


def test_weights_in_four_bits_are_not_captured() -> None:
    packed = type("Linear4bit", (torch.nn.Linear,), {"__module__": "bitsandbytes.nn.modules"})
    assert keeps_its_weights(torch.nn.Sequential(torch.nn.Linear(1, 1)))
    assert not keeps_its_weights(torch.nn.Sequential(packed(1, 1)))


def test_a_step_on_a_device_reads_no_memory_of_the_host() -> None:
    with (
        FakeTensorMode(),
        Recording(),
        pytest.raises(AssertionError, match="_to_copy copies between host and device"),
    ):
        torch.tensor([1, 2]).to("cuda")


def test_a_replayed_step_knows_tensors_alone() -> None:
    total, counted = torch.zeros(()), [0]

    def step() -> None:
        counted[0] += 1
        total.add_(counted[0])

    replayed = Replayed(step)
    for _ in range(4):
        replayed()
    assert float(total) == 1 + 2 + 2 + 2
    waits = Replayed(lambda: float(total) and None)
    waits()
    with pytest.raises(AssertionError, match="waits for the device"):
        waits()


@pytest.mark.parametrize("window", [None, 4, 2])
def test_a_row_sees_what_it_sees_in_a_cohort(window: int | None) -> None:
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    prompts = [(torch.zeros(2, 1, 4, 1), torch.zeros(2, 1, 4, 1))]
    slots, cohort = Slots(2, 3, prompt=4, longest=9), Cohort(prompts, mask, mask.sum(1), k=3, longest=9)
    slots.place(torch.arange(2), prompts, mask, mask.sum(1))
    for _ in range(3):
        found, expected = slots.seen(window), cohort.seen(window)
        assert torch.equal(found[:, : expected.shape[1]], expected)
        assert not found[:, expected.shape[1] :].any()
        assert torch.equal(slots.positions(), cohort.positions())
        slots.advance()
        cohort.advance()


@pytest.mark.parametrize(
    "sampling", [None, Sampling(), Sampling(top_k=5, top_p=0.9, temperature=0.7)], ids=str
)
def test_a_step_needs_nothing_from_the_host(policy: T5Policy, sampling: Sampling | None) -> None:
    """On a CUDA device without memory, which refuses tensors of another device; greedy and drawn, under filters."""
    ran: list[set[str]] = []

    def choose() -> Choose:
        device = torch.device("cuda")
        return (
            drawn(sampling, torch.zeros(20, 9, device=device), [0]) if sampling else most_likely([0], device)
        )

    def capture(step: Step) -> Step:
        ran.append(run_on_fake_cuda(step, choose))
        return step

    policy.greedy(inputs_of(policy), max_new_tokens=1, capture=capture)
    assert "scatter_" in ran[0]
    assert "where" not in ran[0]  # attention converts a boolean mask by it, in each layer
    assert "rsqrt" not in ran[0]  # a norm is one operation
    assert ("searchsorted" in ran[0]) == (sampling is not None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("error:.*without CUDA graphs")
@pytest.mark.parametrize("k", [1, 4])
def test_graphs_write_what_steps_by_themselves_write(k: int) -> None:
    """By the same kernels, so that the same tokens are drawn, in bfloat16, too."""
    policy = number_policy(features=TinyFeatures(), num_layers=2, initializer_factor=0.3).to("cuda")
    how: dict[str, Any] = {"k": k, "max_new_tokens": 150, "seed": 0, "sampling": Sampling(), "slots": 8}
    assert_equal(
        policy.sample(inputs_of(policy), **how), policy.sample(inputs_of(policy), **how, capture=plain)
    )
