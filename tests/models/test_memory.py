"""The estimates of memory against peaks of tiny models, and the sizes they are made from."""

import pytest
import torch
from torch import nn

from ares.models.heads import value_head
from ares.models.memory import (
    Batch,
    ModelSize,
    Setup,
    Stack,
    generation_memory,
    training_memory,
    weight_bytes,
)
from ares.models.t5.size import t5_size
from ares.models.vlm.size import PUBLISHED, as_loaded, published_config, size_of_config
from benchmarks.memory_peaks import CASES, Case, missing, peak, steps_of
from tests.support.ppo import tiny_policy

MEASURED = [
    pytest.param(case, measure, id=f"{case.name}: {step}")
    for case in CASES
    for step, measure in steps_of(case)
]
# Weights of the checkpoints on the hub; SmolVLM-Instruct's number was not looked up.
KNOWN = {
    "Qwen/Qwen2-VL-2B-Instruct": 2_208_985_600,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen2.5-VL-32B-Instruct": 33_452_718_336,
    "Qwen/Qwen3-VL-4B-Instruct": 4_437_815_808,
    "llava-hf/llava-1.5-7b-hf": 7_063_427_072,
    "OpenGVLab/InternVL3-8B-hf": 7_944_373_760,
    "HuggingFaceTB/SmolVLM-Instruct": 2_246_272_880,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": 2_246_784_880,
}
SIZE = ModelSize(
    parameters=1000, vocabulary=10, adapted=50, decoder=Stack(2, 8, 2, 8, 4, 16), frozen=100, quantized=0
)
BATCH = Batch(rows=2, prompt=3, response=5)


@pytest.mark.parametrize(("case", "measure"), MEASURED)
def test_estimate_is_close_to_measured_peak(case: Case, measure) -> None:
    if package := missing(case):
        pytest.skip(f"{package} is not installed")
    bytes_, estimate = measure(case)
    assert 0.8 < estimate.total / bytes_ < 1.3


def test_peak_counts_what_exists_at_the_same_time() -> None:
    def run() -> None:
        first = torch.zeros(1000)
        second = first + 1
        del first
        (second + 1).sum()

    assert 8000 <= peak(run) < 9000


def test_logits_of_many_tokens_take_no_more_than_those_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ares.models.logprobs.MOST_LOGITS", 2**14)
    policy = tiny_policy()
    policy.model.lm_head = nn.Linear(policy.model.config.d_model, 2**10, bias=False)
    monkeypatch.setattr(type(policy.tokenizer), "__len__", lambda tokenizer: 2**10)
    responses = torch.ones(4, 64, dtype=torch.int64)
    states = torch.randn(4, 64, policy.model.config.d_model, requires_grad=True)

    def run() -> None:
        logprobs, _ = policy.logprobs(states, responses, [64] * 4, entropy=True)
        logprobs.sum().backward()

    run()
    estimate = training_memory(
        ModelSize(0, 2**10, 0, Stack(0, 1, 1, 1, 1, 1)), Setup(), Batch(rows=4, prompt=1, response=64)
    )
    assert estimate.working == 2 * 4 * 4 * 64 * 2**10
    assert peak(run) < estimate.working / 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_number_of_weights(name: str) -> None:
    assert size_of_config(published_config(name)).parameters == KNOWN[name]


def test_shapes_of_a_published_model() -> None:
    size = size_of_config(published_config("Qwen/Qwen2.5-VL-7B-Instruct"))
    assert size.decoder == Stack(28, width=3584, heads=28, inner=3584, kv=512, hidden=18944)
    assert size.adapted * 64 == pytest.approx(161.5e6, rel=1e-3)  # 5.77 M weights per layer
    assert size.quantized == 28 * size.decoder.weights
    assert size.frozen == pytest.approx(0.68e9, rel=0.01)
    with_tower = size_of_config(published_config("Qwen/Qwen2.5-VL-7B-Instruct"), vision=True)
    assert (with_tower.frozen, with_tower.patches) == (0, 4)
    assert with_tower.tower is not None
    assert with_tower.tower.layers == 32
    assert with_tower.adapted > size.adapted
    nf4 = as_loaded(size, dtype="bfloat16", nf4=True, rank=64)
    assert weight_bytes(nf4) == pytest.approx(0.516 * 6.525e9 + 2 * 1.767e9, rel=1e-3)


def test_t5_of_the_paper_has_the_original_parameter_count() -> None:
    size = t5_size({"name": "base", "init": "declare-lab/flan-alpaca-base"}, 0)
    assert size is not None
    assert size.parameters == 251_907_840  # golden/README.md
    assert t5_size({"name": "base", "init": "someone/else"}, 0) is None


def test_size_of_a_value_head() -> None:
    assert SIZE.value_head == sum(parameter.numel() for parameter in value_head(8).parameters())


def test_weights_gradients_and_moments() -> None:
    full = training_memory(SIZE, Setup(), BATCH)
    assert (full.weights, full.gradients, full.moments) == (4000, 3600, 7200)  # 100 weights are frozen
    adapters = training_memory(SIZE, Setup(rank=2), BATCH, trained=2)
    assert (adapters.weights, adapters.gradients, adapters.moments) == (4800, 800, 1600)
    ddp = training_memory(SIZE, Setup(replicas=True), BATCH)
    assert ddp.gradients == 2 * full.gradients
    fsdp = training_memory(SIZE, Setup(shards=4), BATCH)
    assert (fsdp.weights, fsdp.gradients, fsdp.moments) == (1000, 900, 1800)
    assert fsdp.working > full.working


def test_what_grows_with_the_batch() -> None:
    more = Batch(rows=4, prompt=3, response=5)
    few, many = (training_memory(SIZE, Setup(), batch) for batch in (BATCH, more))
    assert many.activations == 2 * few.activations
    assert training_memory(SIZE, Setup(checkpointing=True), more).activations < many.activations
    few, many = (generation_memory(SIZE, batch) for batch in (BATCH, more))
    assert (
        few.cache == 2 * (3 + 5) * 2 * 2 * 4 * 4
    )  # rows, tokens, layers, keys and values, their width, bytes
    assert many.cache == 2 * few.cache
