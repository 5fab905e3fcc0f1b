"""docs/metrics.md lists every metric that is logged, and no other."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from ares.config.schema import Config, EvaluateConfig
from ares.data.sample import generate as generate_sample
from ares.evaluation.assessment import assess_rationale, summarize
from ares.evaluation.judge import win_rates
from ares.steps import correct, evaluate, generate, rollout, score
from ares.steps.common.contract import StepContext
from ares.types import Prediction, Rationale
from tests.support.ppo import RL, Watch, make_buffer, tiny_policy, train
from tests.support.preference import by_loss, make_pairs, pair_buffer, prefer
from tests.support.problems import make_problem

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")


def names_in(section: str) -> set[str]:
    """The names of a section's table, first column."""
    body = PAGE.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def fit(tmp_path_factory) -> tuple[set[str], set[str]]:
    """The metrics that a fit logs at its steps, and those that it returns."""
    policy, watch = tiny_policy(), Watch()
    buffer = make_buffer(policy, questions=8, holdout=0.3)
    metrics = train(policy, buffer, tmp_path_factory.mktemp("fit"), RL, callbacks=[watch])
    return {name for step in watch.metrics for name in step}, set(metrics)


def test_ppo_curves_are_documented(fit: tuple[set[str], set[str]]) -> None:
    assert fit[0] == names_in("ppo: curves")


def test_metrics_of_a_fit_are_documented(fit: tuple[set[str], set[str]]) -> None:
    once = names_in("ppo: once per fit")
    assert once <= fit[1]
    assert fit[1] - once <= names_in("ppo: curves")


def test_metrics_of_preference_optimization_are_documented(tmp_path: Path) -> None:
    policy, watch = tiny_policy(), Watch()
    buffer = pair_buffer(policy, make_pairs(policy), heldout=["q1"])
    final = prefer(policy, buffer, tmp_path, by_loss("kto", epochs=1), callbacks=[watch])
    logged = {name for step in watch.metrics for name in step}
    assert logged | set(final) == names_in("prefer: curves, one value per optimizer step")


def names_of_step(step: str) -> set[str]:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {step} |"))
    return set(re.findall(r"`([^`]+)`", line.split("|")[2]))


@pytest.mark.parametrize(
    ("step", "names"),
    [
        ("rollout", set(rollout._metrics([]))),
        ("score", set(score._metrics([]))),
        ("correct", set(correct._metrics([]))),
        ("judge", set(win_rates([]))),
    ],
)
def test_metrics_of_other_steps_are_documented(step: str, names: set[str]) -> None:
    assert names_of_step(step) == names


PROBLEM = make_problem(split="test", direct_answers=("fern",))


def test_metrics_of_evaluate_are_documented(tmp_path: Path, monkeypatch) -> None:
    config = Config(evaluate=EvaluateConfig(similarity_model="x"))
    monkeypatch.setattr(evaluate, "load_problems", lambda config, run: ({"1": PROBLEM}, {"test": ["1"]}))
    monkeypatch.setattr(evaluate, "read_predictions", lambda path: [Prediction("1", "", "", 0, True)])
    monkeypatch.setattr(evaluate, "read_rationales", lambda path: [Rationale("1", "It is.", (1,), False)])
    monkeypatch.setattr(evaluate, "similarity", lambda *_, model: 1.0)
    inputs = {"predictions": tmp_path, "rationales-test": tmp_path}
    result = evaluate.evaluate(
        config, StepContext(tmp_path, "final/evaluate", tmp_path, 0, config, "", inputs)
    )
    assert {re.sub("accuracy/.*", "accuracy/<category>", name) for name in result.metrics} == names_of_step(
        "evaluate"
    )


def test_metrics_of_assess_are_documented() -> None:
    [item] = generate_sample({"train": 1}, 0)
    row = Rationale("1", "It is.", (1,), False)
    found = {
        name for problem in (PROBLEM, item.problem) for name in summarize([assess_rationale(problem, row)])
    }
    assert found | {"similarity"} == names_of_step("assess")


def test_metrics_of_generate_are_documented(tmp_path: Path, monkeypatch) -> None:
    splits = {split: ["1"] for split in ("train", "val", "test")}
    monkeypatch.setattr(generate, "load_problems", lambda config, run: ({"1": PROBLEM}, splits))
    rationales = [Rationale("1", "It is.", (1,), False)]
    monkeypatch.setattr(generate, "_writer", lambda *_: nullcontext(lambda split, pids: rationales))
    result = generate.generate(
        Config(), StepContext(tmp_path, "final/generate", tmp_path, 0, Config(), "", {})
    )
    assert {re.sub("^[a-z]+/", "<split>/", name) for name in result.metrics} == names_of_step("generate")


def test_every_name_has_a_meaning() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) > 30
    assert all(len(row[-2].strip()) > 10 for row in rows)
