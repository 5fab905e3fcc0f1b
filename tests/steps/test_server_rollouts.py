"""rollout and generate with engine=server: resume by parts, stored log-probabilities, and early refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ares.config.schema import Config
from ares.engines import endpoints
from ares.steps import assess, generate, rollout
from ares.steps.common import generation
from ares.steps.common.contract import StepContext
from ares.storage.tables import read_rationales, read_rollouts
from ares.types import AresError, Example, Rollout
from tests.support.composed import composed
from tests.support.problems import make_problem
from tests.support.token_server import NumberChat, TokenServer, adapter_folder, number_chat

PIDS = [f"p{number}" for number in range(6)]
PARTS, QUESTIONS, K = 3, 2, 3


@pytest.fixture(autouse=True)
def _numbers(monkeypatch) -> None:
    """The problems' prompts are numbers, and their policy is untrained."""
    problems = {pid: make_problem(pid=pid) for pid in PIDS}
    splits = {"train": PIDS, "val": PIDS[:2], "test": PIDS[:1]}

    def examples_of(problems: Any, pids: Any, *_: Any) -> dict[str, Example]:
        return {pid: Example(f"5 {3 + int(pid[1:])}", "", pid) for pid in pids}

    for module in (rollout, generate):
        monkeypatch.setattr(module, "load_problems", lambda *_: (problems, splits))
    for module in (rollout, generation):
        monkeypatch.setattr(module, "examples_of", examples_of)
    for module in (rollout, generate):
        monkeypatch.setattr(module, "policy_of", lambda *_: number_chat())
    monkeypatch.setattr(endpoints, "_FIRST_PAUSE", 0.01)


def context_of(tmp_path: Path, url: str, **engine: Any) -> StepContext:
    options = {"urls": f"[{url}]", "deadline": 0.3, "concurrency": 1, **engine}
    config = composed(
        "experiment=demo", "engine=server", *(f"engine.{key}={value}" for key, value in options.items())
    )
    rl = replace(config.rl, k=K, max_new_tokens=6, questions_per_part=QUESTIONS, generation_batch=2)
    config = replace(config, rl=rl)
    policy = tmp_path / "policy"
    if not policy.exists():
        adapter_folder(policy)
    inputs = {"policy": policy, "initial": policy}
    folder = tmp_path / "rollouts"
    folder.mkdir(exist_ok=True)
    return StepContext(tmp_path, "round-1/rollouts", folder, 1, config, "hash", inputs)


def run(context: StepContext) -> list[Rollout]:
    rollout.rollout(context.config, context)
    return read_rollouts(context.folder)


def test_a_failure_in_a_later_part_keeps_the_earlier_ones(tmp_path: Path) -> None:
    with TokenServer(number_chat()) as server:
        expected = run(context_of(tmp_path / "uninterrupted", server.url))
    with TokenServer(number_chat(), faults=[200, 200, 200, *[500] * 99]) as broken:
        context = context_of(tmp_path, broken.url)
        with pytest.raises(AresError, match="continue after the parts that are written"):
            run(context)
    assert [path.name for path in context.folder.iterdir()] == ["part-0.parquet"]
    written = (context.folder / "part-0.parquet").stat().st_mtime_ns
    with TokenServer(number_chat()) as server:
        found = run(context_of(tmp_path, server.url))
        assert len(server.requests) == len(PIDS) - QUESTIONS
    assert (context.folder / "part-0.parquet").stat().st_mtime_ns == written
    assert found == expected


def test_rollouts_hold_the_logprobs_of_policy_and_server(tmp_path: Path) -> None:
    def shift(reply: dict[str, Any]) -> None:
        for choice in reply["choices"]:
            for token in choice["logprobs"]["content"]:
                token["logprob"] -= 0.01

    with TokenServer(number_chat()) as server:
        exact = run(context_of(tmp_path / "exact", server.url))
    with TokenServer(number_chat(), alter=shift) as server:
        context = context_of(tmp_path, server.url)
        rows = run(context)
    assert [row.token_ids for row in rows] == [row.token_ids for row in exact]
    assert len(rows) == K * len(PIDS)
    for row, other in zip(rows, exact, strict=True):
        assert row.logprobs == other.logprobs == row.ref_logprobs
        assert row.sampler_logprobs == pytest.approx([value - 0.01 for value in row.logprobs], abs=1e-5)
    assert rollout._metrics(rows)["sampler_gap"] == pytest.approx(0.01, abs=1e-5)
    assert rollout._metrics(exact)["sampler_gap"] == pytest.approx(0, abs=1e-5)


def test_rollouts_are_not_written_if_logprobs_disagree(tmp_path: Path) -> None:
    with TokenServer(number_chat(seed=1)) as server:
        context = context_of(tmp_path, server.url)
        with pytest.raises(AresError, match="nats per token"):
            run(context)
    assert list(context.folder.iterdir()) == []


def test_finished_rollouts_need_no_server(tmp_path: Path) -> None:
    with TokenServer(number_chat()) as server:
        context = context_of(tmp_path, server.url)
        rows = run(context)
    assert run(context) == rows


def test_generate_asks_one_server_for_all_splits(tmp_path: Path) -> None:
    with TokenServer(number_chat()) as server:
        context = replace(context_of(tmp_path, server.url), round=0)
        result = generate.generate(context.config, context)
        assert len(server.requests) == len(PIDS) + 2 + 1
    policy = number_chat()
    for split, pids in (("train", PIDS), ("val", PIDS[:2]), ("test", PIDS[:1])):
        rows = read_rationales(result.files[f"rationales-{split}"])
        assert [row.pid for row in rows] == pids
        assert [list(row.token_ids) for row in rows] == greedy(policy, pids, context.config)


def greedy(policy: NumberChat, pids: list[str], config: Config) -> list[list[int]]:
    examples = generation.examples_of({}, pids, "QCM-E", config)
    inputs = policy.encode(list(examples.values()))
    return policy.greedy(inputs, max_new_tokens=config.generate.max_new_tokens)


@pytest.mark.parametrize("step", [rollout, generate, assess])
def test_impossible_engines_are_refused_before_anything_runs(step: Any) -> None:
    message = "give either engine.urls .* or engine.command .*\n.*with model=tiny use engine=hf"
    with pytest.raises(AresError, match=message):
        step.SPEC.check(composed("experiment=demo", "engine=server"))
    both = composed("experiment=demo", "engine=server", "engine.urls=[http://a]", "engine.command=serve")
    with pytest.raises(AresError, match="give either"):
        step.SPEC.check(both)
    served = ("experiment=demo_vlm", "model=smolvlm", "engine=server", "engine.urls=[http://a]")
    step.SPEC.check(composed(*served))
    with pytest.raises(AresError, match=r"use model\.quantization=none, or engine=hf"):
        step.SPEC.check(composed(*served, "model.quantization=nf4"))
    step.SPEC.check(composed("experiment=demo"))
    assert "engine._target_" in step.SPEC.settings
