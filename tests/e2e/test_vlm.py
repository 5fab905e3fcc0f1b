"""A pretrained vision-language model through all of ARES: adapters on a base that stays as it is."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ares.models.policy import Policy
from ares.models.vlm.policy import VlmPolicy
from ares.rl.masked import pad_right
from ares.steps.prepare import read_problems
from ares.storage.files import read_json, sha256_path
from ares.storage.tables import read_rollouts
from ares.text.prompts import build_examples
from ares.types import Example, Rollout
from tests.support.composed import composed

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

SMALL = (
    "experiment=demo",
    "baseline=false",
    "features=none",
    "data.sizes={train: 24, val: 6, test: 6}",
    "trainer.precision=32-true",
    "rationale.epochs=1",
    "rationale.eval_questions=4",
    "rationale.global_batch_size=8",
    "generate.max_new_tokens=16",
)
BASE = (
    "stage=rationale",
    "run=base",
    "model=tiny_vlm",
    "model.d_model=64",
    "model.d_ff=128",
    "model.layers=2",
)
ADAPTERS = (
    "run=adapters",
    "rounds=2",
    "model=vlm",
    "model.dtype=float32",
    "model.lora.r=4",
    "model.lora.alpha=8",
    "rl.questions=8",
    "rl.questions_per_part=4",
    "rl.k=2",
    "rl.max_new_tokens=16",
    "rl.eval_questions=4",
    "rl.ppo_epochs=5",
    "rl.global_batch_size=8",
    "rl.lr=1e-2",
    "sft.epochs=1",
    "sft.eval_questions=4",
    "sft.lr=1e-7",  # so little that its start shows
    "lora.epochs=1",
    "lora.r=4",
)
POLICIES = ("rationale", "round-1/ppo", "round-1/sft", "round-2/ppo", "round-2/sft")


def command(runs: Path, *settings: str) -> list[str]:
    return [sys.executable, "train.py", *SMALL, f"paths.runs={runs}", *settings]


def adapters(runs: Path) -> list[str]:
    return command(runs, *ADAPTERS, f"model.init={runs / 'base/rationale/policy'}")


def train(words: list[str]) -> str:
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path, str]:
    """A run of two rounds, its base, and the hash of the base's files before the run."""
    runs = tmp_path_factory.mktemp("runs")
    train(command(runs, *BASE))
    base = runs / "base/rationale/policy"
    before = sha256_path(base)
    train(adapters(runs))
    return runs / "adapters", base, before


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def distance(one: Path, other: Path) -> float:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_every_policy_is_an_adapter_that_names_the_unchanged_base(finished) -> None:
    root, base, before = finished
    assert sha256_path(base) == before
    for key in POLICIES:
        folder = root / key / "policy"
        assert read_json(folder / "adapter_config.json")["base_model_name_or_path"] == str(base)
        assert read_json(folder / "policy.json")["base"] == str(base)
        assert {name.split(".")[-2] for name in weights(folder)} == {"lora_A", "lora_B"}
    heaviest = (base / "model.safetensors").stat().st_size
    assert max(path.stat().st_size for path in root.rglob("*") if path.is_file()) < heaviest / 3


def test_each_step_trains_the_adapter_of_the_step_before(finished) -> None:
    root, _, _ = finished
    start, ppo, sft, second, last = (root / key / "policy" for key in POLICIES)
    assert distance(start, ppo) > 1e-3
    assert distance(sft, second) > 1e-3
    assert 0 < distance(ppo, sft) < 1e-5
    assert 0 < distance(second, last) < 1e-5


def test_value_model_and_answers_have_adapters_of_their_own(finished) -> None:
    root, _, _ = finished
    first, second = root / "round-1/ppo/value", root / "round-2/ppo/value"
    for value in (first, second):
        assert distance(value, value.parent / "policy") > 1e-3
        assert load_file(value / "value_head.safetensors")["2.weight"].any()
    assert distance(first, second) > 1e-4
    answers = weights(root / "final/lora/adapter")
    policy = weights(root / POLICIES[-1] / "policy")
    assert answers.keys() == policy.keys()
    assert all(not torch.equal(answers[name], policy[name]) for name in policy)


def logprobs(policy: Policy, examples: dict[str, Example], rows: list[Rollout]) -> list[list[float]]:
    ids = pad_right([row.token_ids for row in rows], policy.pad_id)
    lengths = [len(row.token_ids) for row in rows]
    with torch.no_grad():
        found = policy.token_logprobs(policy.encode([examples[row.pid] for row in rows]), ids, lengths)
    return [values[: len(row.token_ids)].tolist() for values, row in zip(found, rows, strict=True)]


def test_second_round_samples_its_policy_and_refers_to_the_first(finished) -> None:
    root, _, _ = finished
    rows = read_rollouts(root / "round-2/rollouts")
    config = composed(*SMALL, *ADAPTERS)
    [data] = root.parent.glob("shared/sample-*")
    problems, _ = read_problems(config.data, data)
    text = {"newline": config.text.newline, "use_caption": config.text.use_caption}
    examples = build_examples(problems, {row.pid for row in rows}, "QCM-E", **text)
    policy = VlmPolicy.load(root / "round-1/sft/policy", dropout=0.0)
    reference = VlmPolicy.load(root / "rationale/policy", dropout=0.0)
    for row, own, other in zip(
        rows, logprobs(policy, examples, rows), logprobs(reference, examples, rows), strict=True
    ):
        assert row.logprobs == pytest.approx(own, abs=1e-4)
        assert row.ref_logprobs == pytest.approx(other, abs=1e-4)
    assert any(abs(a - b) > 1e-3 for row in rows for a, b in zip(row.logprobs, row.ref_logprobs, strict=True))
    metrics = read_json(root / "manifest.json")["steps"]["round-2/ppo"]["metrics"]
    assert metrics["train/kl_k3"] > 0


def test_ppo_killed_between_epochs_resumes_bitwise(finished, tmp_path: Path) -> None:
    root, _, _ = finished
    runs = root.parent
    complete = shutil.move(root / "round-1/ppo", tmp_path / "ppo")
    process = subprocess.Popen(
        adapters(runs), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (checkpoints := list(root.glob("round-1/ppo/.checkpoints-*/last.ckpt"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    checkpoint = torch.load(checkpoints[0], weights_only=True)
    assert checkpoint["epoch"] < 5  # a warm-up epoch and 5 of the policy, counted from 0
    assert checkpoint["state_dict"].keys() == {
        name for name in checkpoint["state_dict"] if "lora_" in name or "head" in name
    }
    output = train(adapters(runs))
    for file in (
        "policy/adapter_model.safetensors",
        "value/adapter_model.safetensors",
        "value/value_head.safetensors",
    ):
        assert (root / "round-1/ppo" / file).read_bytes() == (Path(complete) / file).read_bytes()
    steps = len(read_json(root / "manifest.json")["steps"])
    assert output.count(": done") == steps - 1
