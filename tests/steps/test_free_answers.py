"""Data whose questions have no choices: the values of R3V's experiments, and runs on TabMWP's format with tiny models."""

from pathlib import Path

import pytest

from ares.config.validation import validate
from ares.evaluation.answers import answer_in, percent_right
from ares.evaluation.checkers import CHECKERS
from ares.pipeline.plan import steps_of
from ares.pipeline.runner import run_stage
from ares.steps.prepare import read_problems
from ares.storage.files import read_json
from ares.storage.solutions import read_lessons, read_solutions
from ares.storage.tables import read_predictions
from tests.support.composed import composed
from tests.support.problems import make_problem
from tests.support.tabmwp import write_tabmwp

TINY = (
    *("model.d_model=32", "model.d_ff=64", "model.layers=1", "model.heads=2", "tokenizer.vocab_size=300"),
    *("rationale.epochs=15", "rationale.eval_every_epochs=15", "rationale.eval_questions=2"),
    *("rationale.global_batch_size=8", "rationale.micro_batch_size=8", "generate.max_new_tokens=24"),
    *("strategy=single", "trainer.accelerator=cpu", "logger=csv"),
)


@pytest.mark.parametrize(
    ("name", "data", "checker"),
    [
        ("geoqa", "geoqa", "geoqa"),
        ("tabmwp", "tabmwp", "tabmwp"),
        ("chartqa", "chartqa", "relaxed_number"),
        ("clevr", "clevr_math", "integer"),
    ],
)
def test_published_values_of_r3v(name: str, data: str, checker: str) -> None:
    config = composed(f"experiment=r3v_{name}", "model.init=folder")
    validate(config)
    assert (config.run, config.data.name, config.data.checker) == (f"r3v-{name}", data, checker)
    block = config.selftrain
    assert (block.iterations, block.n, block.method, block.start) == (3, 3, "r3v", "base")
    assert (block.window, block.given, block.filter) == (None, True, "answer")
    keys = [step.key for step in steps_of(config)]
    rounds = [f"round-{n}/{step}" for n in (1, 2, 3) for step in ("sample", "selftrain")]
    final = [f"final/{step}" for step in ("candidates", "self_select", "select")]
    assert keys == ["rationale/warmup", *rounds, *final]


@pytest.mark.parametrize(
    ("output", "checker", "answer", "correct"),
    [
        ("The answer is (B).", "mcq", 1, True),
        ("The answer is a rock.", "mcq", None, False),  # the paper's rule reads letters alone
        ("The answer is a rock.", "tabmwp", 1, True),
        ("The answer is (A).", "tabmwp", 0, False),
        ("It is hard to say which of them it is.", "tabmwp", None, False),
    ],
)
def test_answer_to_a_question_with_choices(
    output: str, checker: str, answer: int | None, correct: bool
) -> None:
    problem = make_problem(choices=("a fern", "a rock"), answer=1)
    assert answer_in(problem, output, checker) == (answer, correct)


def test_free_answer_is_judged_by_the_checker() -> None:
    problem = make_problem(choices=(), answer=None, direct_answers=("1,200",))
    assert answer_in(problem, "The answer is $1200.00.", "tabmwp") == ("1200", True)
    assert answer_in(problem, "The answer is 1190.", "relaxed_number") == ("1190", True)
    assert answer_in(problem, "The answer is 1190.", "tabmwp") == ("1190", False)
    assert answer_in(problem, "The answer is (A).", "mcq") == (None, False)


def test_percent_right_counts_free_answers() -> None:
    problems = {pid: make_problem(pid, choices=(), answer=None, direct_answers=("1",)) for pid in "12"}
    table = percent_right(problems, {"1": True, "2": False})
    assert (table["AVG"], table["NAT"], table["SOC"]) == (50, 50, None)


@pytest.mark.slow
def test_r3v_on_tabmwp_with_a_tiny_model(tmp_path: Path) -> None:
    root = write_tabmwp(tmp_path / "tabmwp")
    config = composed(
        *("experiment=r3v_tabmwp", "model=tiny", "features=none", f"data.root={root}"),
        *(*TINY, f"paths.runs={tmp_path / 'runs'}", "rationale.epochs=30", "rationale.eval_every_epochs=30"),
        *("model.d_kv=8", "selftrain.epochs=20", "select.n=[1,3]"),
    )
    run_stage(config)
    run = tmp_path / "runs/r3v-tabmwp"
    pool = read_solutions(run / "round-3/pool.parquet")
    assert [len([row for row in pool if row.model == model]) for model in (0, 1, 2)] == [3 * 18] * 3
    problems, _ = read_problems(config.data, root)
    check = CHECKERS["tabmwp"]
    assert all((row.answer, row.correct) == check(problems[row.pid], row.text)[:2] for row in pool)
    right = {row.text for row in pool if row.correct}
    lessons = read_lessons(run / "round-3/selftrain/lessons.parquet")
    assert {lesson.kind for lesson in lessons} >= {"given", "answer", "cot"}
    assert right >= {lesson.target for lesson in lessons if lesson.kind == "cot"}
    selection = read_json(run / "final/selection.json")
    assert (selection["split"], selection["questions"]) == ("test", 8)
    assert [(row["by"], row["n"]) for row in selection["rows"]] == [
        (by, n) for by in ("first", "majority", "self_select", "oracle") for n in (1, 3)
    ]


@pytest.mark.slow
def test_ares_on_free_answers(tmp_path: Path) -> None:
    root = write_tabmwp(tmp_path / "tabmwp")
    config = composed(
        *("experiment=demo", "data=tabmwp", f"data.root={root}", "features=none", "teacher=overlap", "run=t"),
        *(*TINY, f"paths.runs={tmp_path / 'runs'}", "model.d_kv=8", "rl.questions_per_part=8", "rl.k=2"),
        *("rl.ppo_epochs=1", "rl.global_batch_size=16", "rl.micro_batch_size=16", "rl.max_new_tokens=24"),
        *("rl.rewards.correct=1", "rl.eval_questions=2", "sft.epochs=1", "lora.epochs=15", "baseline=false"),
        *("lora.global_batch_size=8", "lora.micro_batch_size=8", "lora.eval_every_epochs=15"),
    )
    run_stage(config)
    final = tmp_path / "runs/t/final"
    problems, splits = read_problems(config.data, root)
    rows = read_predictions(final / "lora/predictions.jsonl")
    assert [row.pid for row in rows] == splits["test"]
    check = CHECKERS["tabmwp"]
    assert [row.correct for row in rows] == [check(problems[row.pid], row.output).correct for row in rows]
    assert any(isinstance(row.answer, str) for row in rows if not problems[row.pid].choices)
    scores = read_json(final / "scores.json")
    assert scores["questions"] == 8
    assert scores["accuracy"]["AVG"] == pytest.approx(100 * sum(row.correct for row in rows) / 8)
    assert scores["failed_extractions"] == sum(row.answer is None for row in rows)
    assert scores["direct_answer"] is None
    # Of the eight right answers three are (A), three are 2 and two are 1.
    assert scores["majority"] == pytest.approx(100 * 3 / 8)
