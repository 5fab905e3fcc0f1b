"""What holds for a policy of every family of vision-language models, untrained and tiny: see tests/support/vlm.py."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ares.models.inputs import Sampling
from ares.models.sampling import drawn
from ares.models.scheduling import Step
from ares.models.vlm.families import TOWERS, parts_of
from ares.models.vlm.policy import VlmPolicy
from ares.models.vlm.shared import can_share
from ares.rl.masked import pad_right
from ares.text.prompts import build_example
from ares.types import AresError, Example
from tests.support.captured import Replayed, run_on_fake_cuda
from tests.support.problems import make_problem
from tests.support.vlm import FAMILIES, save_tiny_vlm, tiny_settings

EXACT = {"atol": 1e-5, "rtol": 0.0}  # nats
RESPONSES = [[40, 60, 2], [70, 41, 42, 43, 2], [300, 50]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pictures of different shapes."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(4)]
    for path, (height, width) in zip(paths, [(44, 60), (64, 64), (120, 50), (400, 400)], strict=True):
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def examples(pictures: list[Path]) -> dict[str, Example]:
    """Questions with an image, with another, with two, with none, and with a large one."""
    images = {"one": pictures[:1], "other": pictures[1:2], "two": pictures[1:3], "none": []}
    images["large"] = pictures[3:]
    return {
        pid: Example("", "Solution: It is (A).", pid, tuple(paths), f"Which one is it, {pid}?")
        for pid, paths in images.items()
    }


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a family's model."""
    return save_tiny_vlm(request.param, tmp_path_factory.mktemp(request.param))


def adapted(
    base: Path, *, seed: int = 0, lora: Any = None, dtype: str = "float32", **reading: Any
) -> VlmPolicy:
    """A policy whose adapter has an effect, as if it had been trained."""
    settings = tiny_settings(base, dtype=dtype, **({"lora": lora} if lora else {}))
    tokenizer = {"path": None, "vocab_size": 0}
    policy = VlmPolicy.start(settings, [], tokenizer=tokenizer, seed=seed, **reading)
    spread(policy, seed)
    return policy


def spread(model: Any, seed: int) -> None:
    """Moves a model's trained weights by noise."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in model.trained():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)


@pytest.fixture(scope="module")
def policy(base: Path) -> VlmPolicy:
    return adapted(base)


@pytest.fixture
def own_policy(base: Path) -> VlmPolicy:
    """A policy that the test may change."""
    return adapted(base)


def batched(responses: list[list[int]]) -> tuple[Tensor, list[int]]:
    return pad_right(responses, 0), list(map(len, responses))


@torch.no_grad()
def logprobs(policy: VlmPolicy, chosen: list[Example], responses: list[list[int]] = RESPONSES) -> Tensor:
    return policy.token_logprobs(policy.encode(chosen), *batched(responses[: len(chosen)]))


# --------------------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------------------


def test_own_batch_equals_the_processors(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    chosen = [examples[name] for name in ("one", "two", "other")]
    processor, reader = policy.reader.processor, policy.reader
    conversations = [reader.messages(example) for example in chosen]
    expected = processor(
        text=processor.apply_chat_template(conversations, add_generation_prompt=True, tokenize=False),
        images=[reader.pictures(example) for example in chosen],
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )
    expected.pop("labels", None)
    found = policy.encode(chosen).prompts()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize("kinds", ["one none other", "two one", "none two none"])
def test_rows_do_not_depend_on_the_batch(policy: VlmPolicy, examples: dict[str, Example], kinds: str) -> None:
    chosen = [examples[kind] for kind in kinds.split()]
    together = logprobs(policy, chosen)
    written = policy.greedy(policy.encode(chosen), max_new_tokens=4)
    for row, example in enumerate(chosen):
        response = RESPONSES[row]
        alone = logprobs(policy, [example], [response])[0]
        torch.testing.assert_close(together[row, : len(response)], alone, **EXACT)
        assert written[row] == policy.greedy(policy.encode([example]), max_new_tokens=4)[0]


@torch.no_grad()
def test_left_and_right_padding_agree(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    inputs = policy.encode([examples["one"], examples["none"], examples["two"]])
    assert len(set(inputs.lengths)) > 1
    with policy.adapters.using(policy.adapter):
        left = policy.model(**inputs.prompts()).logits[:, -1]
    right = policy.logits(policy.states(inputs, batched(RESPONSES)[0]))[:, 0]
    # Unlikely tokens have log-probabilities of -20, of which float32 keeps five decimals.
    torch.testing.assert_close(right.log_softmax(-1), left.log_softmax(-1), atol=1e-5, rtol=2e-6)


def test_image_changes_the_output(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    other = replace(examples["one"], images=examples["other"].images)
    difference = logprobs(policy, [examples["one"]]) - logprobs(policy, [other])
    assert difference.abs().max() > 0.05


def test_max_pixels_limits_the_tokens_of_an_image(
    base: Path, policy: VlmPolicy, examples: dict[str, Example]
) -> None:
    """Where their number depends on the image's size at all."""
    (length,) = policy.encode([examples["large"]]).lengths
    limited = VlmPolicy.start(
        tiny_settings(base, max_pixels=56 * 56), [], tokenizer={"path": None, "vocab_size": 0}, seed=0
    )
    (shorter,) = limited.encode([examples["large"]]).lengths
    fixed = base.name.startswith(("llava0", "paligemma", "gemma3"))
    assert shorter == length if fixed else shorter < length


def test_targets_end_the_turn(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    (ids,) = policy.encode_targets([examples["one"]], max_tokens=64)
    assert policy.decode(ids) == "It is (A)."
    assert policy.tokenizer.decode(ids[-1:]) == "<|im_end|>"
    assert policy.encode_targets([examples["one"]], max_tokens=3) == [[*ids[:2], ids[-1]]]


# --------------------------------------------------------------------------------------------------
# Sampling
# --------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("slots", [2, 64])
def test_samples_equal_teacher_forcing(policy: VlmPolicy, examples: dict[str, Example], slots: int) -> None:
    """In eval mode, in which rollouts are written, and in train mode, in which RL computes the same numbers again."""
    inputs = policy.encode([examples[name] for name in ("one", "none", "two")])
    written = policy.sample(
        inputs, k=3, max_new_tokens=6, seed=0, sampling=Sampling(temperature=1.5), slots=slots
    )
    responses = [sample.ids for sample in written]
    assert len(written) == 9
    assert len({tuple(ids) for ids in responses}) > 6
    for training in (False, True):
        policy.train(training)
        found = policy.token_logprobs(inputs.repeat(3), *batched(responses))
        for row, sample in enumerate(written):
            assert sample.exact
            torch.testing.assert_close(found[row, : len(sample.ids)], torch.tensor(sample.logprobs), **EXACT)
    policy.eval()


@pytest.mark.parametrize("cohorts", [True, False])
def test_continuations_read_the_beginning_at_once(
    policy: VlmPolicy, examples: dict[str, Example], cohorts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample's own beginning is continued as it was, with the prompt and the beginning read in one pass."""
    inputs = policy.encode([examples[name] for name in ("one", "none", "two")])
    how = {"max_new_tokens": 6, "seed": 0, "sampling": Sampling(temperature=1.5)}
    expected = [sample.ids for sample in policy.sample(inputs, k=1, **how)]
    beginnings = [expected[0][:3], [], expected[2][:1]]
    if not cohorts:
        monkeypatch.setattr("ares.models.vlm.policy.has_cohorts", lambda network: False)
    assert policy.continuations(inputs, beginnings, **how) == expected


def test_networks_with_another_attention_write_the_same(
    policy: VlmPolicy, examples: dict[str, Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = policy.encode([examples[name] for name in ("one", "none", "two")])
    how = {"k": 2, "max_new_tokens": 6, "seed": 0, "sampling": Sampling(), "slots": 4}
    expected = policy.sample(inputs, **how)
    monkeypatch.setattr("ares.models.vlm.policy.has_cohorts", lambda network: False)
    found = policy.sample(inputs, **how)
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_can_be_replayed(policy: VlmPolicy, examples: dict[str, Example], half: bool) -> None:
    """As by a CUDA graph: nothing that changes between them is outside of tensors, and nothing waits for the device.

    In float32 it writes what cohorts write, in bfloat16 what steps without a recording write.
    """
    inputs = policy.encode([examples[name] for name in ("one", "none", "two")])
    sampling = Sampling(temperature=1.5, top_k=60, top_p=0.95)
    how = {"k": 2, "max_new_tokens": 6, "seed": 0, "sampling": sampling, "slots": 4}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        expected = policy.sample(inputs, **how, capture=(lambda step: step) if half else None)
        found = policy.sample(inputs, **how, capture=Replayed, every=3)
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("error:.*without CUDA graphs")
def test_graphs_write_what_launched_steps_write(own_policy: VlmPolicy, examples: dict[str, Example]) -> None:
    policy = own_policy.to("cuda")
    inputs = policy.encode([examples[name] for name in ("one", "none", "two")])
    how = {"k": 2, "max_new_tokens": 80, "seed": 0, "sampling": Sampling(), "slots": 4}
    found = policy.sample(inputs, **how)
    expected = policy.sample(inputs, **how, capture=lambda step: step)
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.slow
def test_a_step_needs_nothing_from_the_host(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    """On a CUDA device without memory, which refuses tensors of another device."""
    ran: list[set[str]] = []

    def capture(step: Step) -> Step:
        ran.append(run_on_fake_cuda(step, lambda: drawn(Sampling(), torch.zeros(9, 9, device="cuda"), [0])))
        return step

    policy.sample(
        policy.encode([examples["one"]]), k=2, max_new_tokens=1, seed=0, sampling=Sampling(), capture=capture
    )
    assert "scatter_" in ran[0]


def test_an_image_is_encoded_once_for_all_samples(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    (tower,) = parts_of(policy.model, TOWERS)
    seen: list[int] = []

    def count(module: Any, positional: Any, named: Any) -> None:
        seen.append(sum(value.numel() for value in (*positional, *named.values()) if torch.is_tensor(value)))

    handle = tower.register_forward_pre_hook(count, with_kwargs=True)
    inputs = policy.encode([examples["one"], examples["two"]])
    for k in (1, 3):
        policy.sample(inputs, k=k, max_new_tokens=3, seed=0, sampling=Sampling())
    handle.remove()
    half = len(seen) // 2
    assert seen
    assert seen[:half] == seen[half:]


def test_no_vision_token_is_sampled(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    """Although the model prefers them to all other tokens."""
    special = [token for token, entry in policy.tokenizer.added_tokens_decoder.items() if entry.special]
    assert set(policy.tokenizer.all_special_ids) <= set(special)
    eos = policy.tokenizer.eos_token_id

    def prefer(module: Any, states: Any, logits: Tensor) -> Tensor:
        logits[..., [token for token in special if token != eos]] += 100.0
        return logits

    handle = policy.model.get_output_embeddings().register_forward_hook(prefer)
    try:
        written = policy.sample(
            policy.encode([examples["one"]]),
            k=8,
            max_new_tokens=8,
            seed=0,
            sampling=Sampling(),
        )
    finally:
        handle.remove()
    assert {token for sample in written for token in sample.ids} & set(special) <= {eos}


@pytest.mark.parametrize("by_cohorts", [True, False])
def test_sampling_ignores_the_checkpoints_own_filters(
    base: Path, examples: dict[str, Example], monkeypatch: pytest.MonkeyPatch, by_cohorts: bool
) -> None:
    """Qwen2.5-VL, for one, comes with a repetition penalty and a top-k of 1; `generate`, which writes batches, reads them."""
    monkeypatch.setattr("ares.models.vlm.policy.has_cohorts", lambda network: by_cohorts)
    plain = adapted(base)
    inputs = plain.encode([examples["one"]])
    settings = json.loads((base / "generation_config.json").read_text())
    changed = {**settings, "repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_length": 99}
    (base / "generation_config.json").write_text(json.dumps(changed))
    try:
        other = adapted(base)
    finally:
        (base / "generation_config.json").write_text(json.dumps(settings))
    for model in (plain, other):
        assert model.greedy(inputs, max_new_tokens=12) == plain.greedy(inputs, max_new_tokens=12)


# --------------------------------------------------------------------------------------------------
# Prompts of several responses
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", ["one none", "two other", "none large"])
def test_a_prompt_is_read_once_for_its_responses(
    own_policy: VlmPolicy, examples: dict[str, Example], kinds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and gradients are those of reading it for each response, also in several rows and several passes."""
    policy = own_policy.train()
    inputs = policy.encode([examples[kind] for kind in kinds.split()]).select([0, 0, 1, 0, 1])
    responses = [*RESPONSES, [50, 2], [41, 300, 44, 60, 61, 2]]
    ids, lengths = batched(responses)
    weights = torch.randn(ids.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for share, row, costs in ((False, 0, 0), (True, 1024, 128), (True, 7, 0)):
        monkeypatch.setattr("ares.models.vlm.running.can_share", lambda *_, share=share: share)
        monkeypatch.setattr("ares.models.vlm.shared.LONGEST_ROW", row)
        monkeypatch.setattr("ares.models.packing._PASS", costs)
        policy.zero_grad()
        given = policy.token_logprobs(inputs, ids, lengths)
        (given * weights).sum().backward()
        found.append((given.detach(), gradients(policy)))
    (expected, slopes), *others = found
    assert any(slope.any() for slope in slopes.values())
    for given, others_slopes in others:
        torch.testing.assert_close(given, expected, **EXACT)
        scale = max(float(slope.abs().max()) for slope in slopes.values())
        for name, slope in slopes.items():
            torch.testing.assert_close(others_slopes[name], slope, atol=1e-5 * scale, rtol=1e-5, msg=name)


def test_all_weights_have_the_gradients_of_separate_prompts(
    base: Path, examples: dict[str, Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added up over two micro-batches, as those of the embeddings are row by row."""
    settings = tiny_settings(base, lora={"r": 0, "alpha": 1, "targets": None, "vision": False})
    policy = VlmPolicy.start(settings, [], tokenizer={"path": None, "vocab_size": 0}, seed=0).train()
    inputs = policy.encode([examples["one"], examples["none"]]).select([0, 0, 1])
    found = []
    for share in (False, True):
        monkeypatch.setattr("ares.models.vlm.running.can_share", lambda *_, share=share: share)
        policy.zero_grad()
        for scale in (1.0, 2.0):
            (scale * policy.token_logprobs(inputs, *batched(RESPONSES))).sum().backward()
        found.append(gradients(policy))
    expected, shared = found
    assert expected.keys() == shared.keys()
    largest = max(float(slope.abs().max()) for slope in expected.values())
    for name, slope in expected.items():
        torch.testing.assert_close(shared[name], slope, atol=1e-5 * largest, rtol=1e-5, msg=name)


def test_prompts_are_shared_where_the_network_can(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    inputs = policy.encode([examples["one"]]).repeat(2)
    calls: list[int] = []
    handle = policy.blocks[0].register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))
    policy.token_logprobs(inputs, *batched(RESPONSES[:2]))
    handle.remove()
    assert calls == [1, 1]
    window = getattr(policy.model.config.get_text_config(), "sliding_window", None)
    assert can_share(policy.model, 10_000) == (window is None)


# --------------------------------------------------------------------------------------------------
# Adapters
# --------------------------------------------------------------------------------------------------


def loss_of(policy: VlmPolicy, value: Any, chosen: list[Example]) -> tuple[Tensor, Tensor]:
    """A loss of the policy and one of the value model, whose graphs are both alive."""
    inputs, (ids, lengths) = policy.encode(chosen), batched(RESPONSES[: len(chosen)])
    states = policy.states(inputs, ids)
    policy_loss = -policy.logprobs(states, ids, lengths)[0].sum()
    return policy_loss, (value.values(inputs, ids, lengths, states=states) - ids.ne(0).float()).square().sum()


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in model.trained() if weight.grad is not None}


def test_adapters_are_separate(own_policy: VlmPolicy, examples: dict[str, Example], tmp_path: Path) -> None:
    policy, chosen = own_policy, [examples["one"], examples["none"]]
    frozen = {id(weight) for weight in policy.parameters() if not weight.requires_grad}
    base = {name: weight.clone() for name, weight in policy.named_parameters() if id(weight) in frozen}
    before = logprobs(policy, chosen)
    policy.save(tmp_path)
    value = policy.new_value(seed=0, shared=False)
    spread(value, 1)
    assert not {name for name, _ in policy.trained()} & {name for name, _ in value.trained()}
    for part, others in ((0, value), (1, policy)):
        policy.zero_grad()
        value.zero_grad()
        loss_of(policy, value, chosen)[part].backward()
        assert gradients((policy, value)[part])
        assert not gradients(others)
    reference = policy.sibling(tmp_path)
    spread(policy, 2)
    spread(value, 3)
    assert (logprobs(policy, chosen) - before).abs().max() > 1e-3
    torch.testing.assert_close(logprobs(reference, chosen), before, **EXACT)
    assert not any(weight.requires_grad for _, weight in reference.trained())
    after = dict(policy.named_parameters())
    assert base
    assert all(torch.equal(after[name], weight) for name, weight in base.items())


def test_activation_checkpointing_gives_the_same_gradients(
    base: Path, own_policy: VlmPolicy, examples: dict[str, Example]
) -> None:
    """In one backward pass through two adapters."""
    chosen, found, calls = [examples["one"], examples["none"], examples["two"]], [], []
    for policy in (own_policy, adapted(base, checkpointing=True)):
        value = policy.new_value(seed=0, shared=False)
        spread(value, 1)
        policy.train()
        counted: list[None] = []
        policy.blocks[0].mlp.register_forward_pre_hook(lambda *_, calls=counted: calls.append(None))
        sum(loss_of(policy, value, chosen)).backward()
        calls.append(len(counted))
        found.append((gradients(policy), gradients(value)))
    assert calls == [2, 4]  # each layer ran again in the backward pass
    for plain, recomputed in zip(*found, strict=True):
        assert plain.keys() == recomputed.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(
    "lora", [{"r": 4, "vision": False}, {"r": 4, "vision": True}, {"r": 0, "vision": True}], ids=str
)
def test_every_trained_weight_has_a_gradient(
    base: Path, examples: dict[str, Example], lora: dict[str, Any]
) -> None:
    """With and without images in the batch, because ranks wait for each other's gradients."""
    policy = adapted(base, lora={"alpha": 8, "targets": None, **lora})
    trained = {name for name, _ in policy.trained()}
    tower = {name for name in trained if "language_model" not in name and "text_model" not in name}
    assert bool(tower - {"lm_head.weight"}) == lora["vision"]
    for chosen in ("one", "none"):
        policy.zero_grad()
        ids, lengths = batched(RESPONSES[:1])
        policy.token_logprobs(policy.encode([examples[chosen]]), ids, lengths).sum().backward()
        assert gradients(policy).keys() == trained


@torch.no_grad()
def test_a_bfloat16_base_has_adapters_and_heads_in_float32(
    base: Path, policy: VlmPolicy, examples: dict[str, Example]
) -> None:
    """Also where no autocast converts between them."""
    half = adapted(base, dtype="bfloat16")
    value = half.new_value(seed=0, shared=False)
    spread(value, 1)
    trained = [*half.trained(), *value.trained()]
    assert {weight.dtype for _, weight in trained} == {torch.float32}
    assert {weight.dtype for weight in half.parameters()} == {torch.float32, torch.bfloat16}
    inputs, (ids, lengths) = half.encode([examples["one"]]), batched(RESPONSES[:1])
    found = half.token_logprobs(inputs, ids, lengths)
    assert found.dtype == value.values(inputs, ids, lengths).dtype == torch.float32
    torch.testing.assert_close(found, logprobs(policy, [examples["one"]]), atol=0.5, rtol=0.0)


# --------------------------------------------------------------------------------------------------
# Prompts
# --------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_is_refused(own_policy: VlmPolicy, examples: dict[str, Example]) -> None:
    (length,) = own_policy.encode([examples["two"]]).lengths
    own_policy.reader.max_input_tokens = length
    own_policy.encode([examples["two"]])
    own_policy.reader.max_input_tokens = length - 1
    with pytest.raises(AresError, match=rf"problem two has {length} tokens"):
        own_policy.encode([examples["two"]])


def test_a_long_context_is_shortened(own_policy: VlmPolicy, examples: dict[str, Example]) -> None:
    def example(words: int, prompt_format: str = "QCM-E", rationale: str | None = None) -> Example:
        problem = make_problem("two", images=examples["two"].images, hint="one two " * words)
        return build_example(problem, prompt_format, rationale=rationale)

    reader = own_policy.reader
    (least,) = own_policy.encode([example(0)]).lengths
    reader.max_input_tokens = least + 20
    inputs = own_policy.encode([example(1000)])
    assert least + 10 < inputs.lengths[0] <= least + 20
    assert inputs.samples[0].example.question.endswith("Options: (A) a fern (B) a rock")
    assert own_policy.shortened == 1
    assert inputs.prompts()["input_ids"].shape[1] == inputs.lengths[0]
    # The limit of an answer's prompt is higher by the rationale in it.
    answer = own_policy.encode([example(1000, "QCMG-A", "one two three " * 30)])
    assert answer.samples[0].example.rationale == "one two three " * 30
    assert answer.lengths[0] > least + 20
    reader.max_input_tokens = least - 1
    with pytest.raises(
        AresError, match=rf"problem two has {least} tokens even without its context, 2 images"
    ):
        own_policy.encode([example(1000)])


def test_special_tokens_in_texts_are_escaped(policy: VlmPolicy, examples: dict[str, Example]) -> None:
    added = policy.tokenizer.added_tokens_decoder
    special = {number: str(token) for number, token in added.items() if token.special}
    image = replace(examples["one"], question="What is in ?")
    text = " ".join(special.values())
    hostile = replace(image, question=f"What is in {text}?", target=f"Solution: It is {text}.")
    (clean_ids,), (ids,) = policy.encode([image]).ids, policy.encode([hostile]).ids
    assert {n: ids.count(n) for n in special} == {n: clean_ids.count(n) for n in special}
    assert len(ids) > len(clean_ids)
    asking = replace(hostile, rationale=text)
    assert {n: policy.encode([asking]).ids[0].count(n) for n in special} == {
        n: policy.encode([replace(image, rationale="none")]).ids[0].count(n) for n in special
    }
    (target,) = policy.encode_targets([hostile], max_tokens=10_000)
    assert set(target[:-1]).isdisjoint(special)


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------

_READ_AGAIN = """
import sys, torch
from pathlib import Path
from ares.models.vlm.families import TOWERS, parts_of
from ares.models.vlm.policy import VlmPolicy
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    given = torch.load(Path(folder, "given.pt"), weights_only=False)
    policy = VlmPolicy.load(Path(folder, "policy"), dropout=0.0)
    value = policy.load_value(Path(folder, "value"), shared=False)
    inputs = policy.encode(given["examples"])
    with torch.no_grad():
        found = policy.token_logprobs(inputs, *given["responses"]), value.values(inputs, *given["responses"])
    torch.save({"ids": inputs.ids, "found": found}, Path(folder, "found.pt"))
"""


@torch.no_grad()
def test_a_fresh_process_reads_what_was_saved(tmp_path: Path, examples: dict[str, Example]) -> None:
    chosen, expected = [examples["one"], examples["two"], examples["none"]], {}
    for family in FAMILIES:
        folder = tmp_path / family
        policy = adapted(save_tiny_vlm(family, folder / "base"))
        value = policy.new_value(seed=0, shared=False)
        spread(value, 1)
        policy.save(folder / "policy")
        value.save(folder / "value")
        inputs, responses = policy.encode(chosen), batched(RESPONSES)
        torch.save({"examples": chosen, "responses": responses}, folder / "given.pt")
        expected[family] = (
            inputs.ids,
            policy.token_logprobs(inputs, *responses),
            value.values(inputs, *responses),
        )
    folders = [str(tmp_path / family) for family in FAMILIES]
    subprocess.run([sys.executable, "-c", _READ_AGAIN, *folders], check=True)
    for family, (ids, policy_out, value_out) in expected.items():
        read = torch.load(tmp_path / family / "found.pt", weights_only=False)
        assert read["ids"] == ids, family
        torch.testing.assert_close(read["found"], (policy_out, value_out), atol=1e-6, rtol=0.0, msg=family)
