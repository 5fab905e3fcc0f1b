"""Self-training and selection at the smallest sizes, in this process; whether an answer is right is decided by its text."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ares.config.schema import Config
from ares.evaluation.checkers import CHECKERS, Checked
from ares.evaluation.selection import best_scored
from ares.models.reward import RewardModel
from ares.models.t5.policy import T5Policy
from ares.pipeline.manifest import read_manifest
from ares.pipeline.plan import steps_of
from ares.report.build import report
from ares.report.selection import selection_of
from ares.steps.appraise import check
from ares.steps.candidates import answered, evaluated_pids
from ares.steps.common import solutions
from ares.steps.common.contract import StepContext
from ares.steps.selftrain import counted_solutions
from ares.storage.files import read_json, read_jsonl
from ares.storage.pairs import read_pairs
from ares.storage.solutions import Solution, read_lessons, read_solutions
from ares.storage.tables import read_feedback
from ares.types import AresError, Example
from benchmarks import selftrain as study
from benchmarks.selftrain import measured
from benchmarks.selftrain_tables import MEASURES, contrasts, estimates, tables
from tests.support.checking import by_text
from tests.support.composed import composed
from tests.support.problems import make_problem
from tests.support.small_run import SMALL, configured, run

SETTINGS = (
    "stage=selftrain",
    "run=st",
    "selftrain.iterations=2",
    "selftrain.filter=sentences",
    "selftrain.threshold=0",
    "select.n=[1,2,4]",
    "select.by=[first,majority,self_select,teacher,oracle]",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of a finished run of two iterations."""
    config = configured(tmp_path_factory.mktemp("selftrain"), *SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKERS, "mcq", by_text)
        patch.setattr(solutions, "_QUESTIONS", 5)
        run(config)
    return config


def root_of(config: Config) -> Path:
    return Path(config.paths.runs) / "st"


def test_every_iteration_appends_to_the_pool(finished: Config) -> None:
    first, second = (read_solutions(root_of(finished) / f"round-{n}/pool.parquet") for n in (1, 2))
    assert second[: len(first)] == first
    assert {(row.iteration, row.model) for row in first} == {(1, 0)}
    assert {(row.iteration, row.model) for row in second[len(first) :]} == {(2, 1)}
    assert len(first) == 12 * 3
    assert len({row.row_id for row in second}) == len(second) == 2 * 12 * 3


def test_only_new_right_solutions_are_rated_each_once(finished: Config) -> None:
    pool = read_solutions(root_of(finished) / "round-2/pool.parquet")
    rated = [row.row_id for row in read_feedback(root_of(finished) / "round-2/ratings.parquet")]
    assert rated == [row.row_id for row in pool if row.correct]


def test_lessons_are_those_of_the_approved_pool_after_the_given_ones(finished: Config) -> None:
    lessons = read_lessons(root_of(finished) / "round-2/selftrain/lessons.parquet")
    kinds = [lesson.kind for lesson in lessons]
    assert kinds[:24] == ["given", "answer"] * 12
    assert set(kinds[24:]) == {"cot", "refine", "select"}
    right = {row.text for row in read_solutions(root_of(finished) / "round-2/pool.parquet") if row.correct}
    assert all(lesson.target in right for lesson in lessons if lesson.kind in ("cot", "refine"))


def test_right_solutions_count_if_the_teacher_approves_of_their_sentences(finished: Config) -> None:
    root, config = root_of(finished), copy.deepcopy(finished)
    inputs = {"pool": root / "round-2/pool.parquet", "ratings": root / "round-2/ratings.parquet"}
    context = StepContext(root, "round-2/selftrain", root, 2, config, "", inputs)
    scores = {row.row_id: row.scores for row in read_feedback(inputs["ratings"])}

    def right(threshold: float) -> set[str]:
        config.selftrain.threshold = threshold
        return {row.row_id for row in counted_solutions(config, context) if row.correct}

    assert right(0.0) == {row_id for row_id, own in scores.items() if own}
    assert right(0.5) == {row_id for row_id, own in scores.items() if own and min(own) >= 0.5} < right(0.0)
    config.selftrain.filter = "answer"
    assert right(0.5) == set(scores)
    config.selftrain.window = 1
    assert right(0.5) == {row_id for row_id in scores if row_id.startswith("2/")}


def test_selection_shares_its_samples_and_the_oracle_is_the_bound(finished: Config) -> None:
    found = read_json(root_of(finished) / "final/selection.json")
    accuracy = {(row["by"], row["n"]): row["accuracy"] for row in found["rows"]}
    rules = finished.select.by
    assert accuracy.keys() == {(by, n) for by in rules for n in (1, 2, 4)}
    assert len({accuracy[by, 1] for by in rules}) == 1
    assert len({accuracy["first", n] for n in (1, 2, 4)}) == 1
    assert all(accuracy[by, n] <= accuracy["oracle", n] for by in rules for n in (1, 2, 4))
    assert accuracy["oracle", 1] <= accuracy["oracle", 2] <= accuracy["oracle", 4]
    tokens = {(row["by"], row["n"]): row["tokens"] for row in found["rows"]}
    assert tokens["first", 4] == tokens["first", 1] < tokens["majority", 4] <= tokens["self_select", 4]


def test_report_shows_accuracy_by_rule_and_number_of_candidates(finished: Config) -> None:
    root = root_of(finished)
    page = report(finished, root).read_text()
    section = page.split('<section id="selection">')[1].split("</section>")[0]
    selection = selection_of(root, read_manifest(root))
    assert selection is not None
    for rule, rows in selection.rules.items():
        own = section.split(f"</i>{rule}</th>")[1].split("</tr>")[0]
        assert [f"{row.accuracy:.1f}" for row in rows] == re.findall(r'class="number">([\d.]+)<', own)
    assert ">candidates</text>" in section
    assert "step" not in section


def test_only_so_many_questions_with_a_known_answer_are_evaluated() -> None:
    config = composed("select.questions=2", "evaluate.split=val")
    problems = {pid: make_problem(pid=pid, answer=None if pid == "a" else 0) for pid in "abcde"}
    assert evaluated_pids(config, problems, {"val": list("abcd"), "test": ["e"]}) == ["b", "c"]
    config.select.questions = None
    assert evaluated_pids(config, problems, {"val": list("abcd"), "test": ["e"]}) == ["b", "c", "d"]


def test_table_of_the_study_agrees_with_selection(finished: Config) -> None:
    values = estimates({"r3v": [measured(root_of(finished))]})["r3v"]
    for row in read_json(root_of(finished) / "final/selection.json")["rows"]:
        mean, low, high = values[f"{row['by']}@{row['n']}"]
        assert mean == pytest.approx(row["accuracy"])
        assert low <= mean <= high
    assert sum(values[f"{name}/first"][0] for name in MEASURES) <= 100
    assert any("| r3v, majority |" in line for line in tables({"r3v": values}))
    better = {name: column + 10 for name, column in measured(root_of(finished)).items()}
    lines = [*contrasts({"warmup": [measured(root_of(finished))], "r3v": [better]})]
    assert "| r3v − warmup | +10.0 (+10.0 to +10.0) | +10.0 (+10.0 to +10.0) |" in lines
    chosen = f"{values['teacher@4'][0] - values['majority@4'][0]:+.1f}"
    assert any(line.startswith(f"| r3v − its majority | {chosen} (") for line in lines)


@pytest.mark.slow
def test_study_compares_self_training_with_ares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    small = (
        *SMALL[1:],
        "rounds=1",
        "selftrain.epochs=1",
        "reward.epochs=1",
        "reward.holdout=0.3",
        "select.n=[1,2]",
    )
    arms = ("warmup", "ares", "r3v", "both")
    study.main(["--seeds", "7", "--arms", *arms, "--runs", str(tmp_path), "--workers", "1", *small])
    lines = (tmp_path / "tables.md").read_text().splitlines()
    rows = {line.split(" | ")[0].strip("| ") for line in lines}
    assert rows >= {f"{arm}, {rule}" for arm in arms for rule in study.BY[arm]}
    searched = [arm for arm in arms if "steps" in study.BY[arm]]
    assert rows >= {f"{arm}, {name}" for arm in searched for name in ("first", "steps@2", "repair@2")}
    assert rows >= {f"r3v, iteration {number}" for number in (1, 2, 3)}
    drawn = (tmp_path / "curves.svg").read_text()
    assert [f">{arm}: percent right</text>" in drawn for arm in arms] == [arm in searched for arm in arms]
    assert drawn.count(">self select</text>") == 1
    trained = read_manifest(tmp_path / "both-7")["round-1/rollouts"].inputs["policy"]
    assert trained.path.endswith("r3v-7/round-3/selftrain/policy")
    firsts = {"ares-7": "round-1/rollouts", "r3v-7": "round-1/sample", "warmup-7": "final/candidates"}
    inputs = [read_manifest(tmp_path / run)[key].inputs for run, key in firsts.items()]
    assert {own["policy"].path for own in inputs} == {str(tmp_path / "given-7/rationale/warmup/policy")}
    assert len({own["data"].sha256 for own in inputs}) == 1
    assert read_manifest(tmp_path / "given-7")["rationale/warmup"].settings["seed"] == 7 + study.ELSEWHERE


@pytest.mark.slow
def test_vision_language_model_trains_itself_and_selects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    rules = "select.by=[first,majority,self_select,teacher,oracle,steps]"
    config = configured(
        tmp_path, "model=tiny_vlm", *SETTINGS, "selftrain.iterations=1", "select.n=[1,2]", rules
    )
    run(config)
    kinds = {lesson.kind for lesson in read_lessons(root_of(config) / "round-1/selftrain/lessons.parquet")}
    assert kinds == {"given", "answer", "cot", "refine", "select"}
    assert len(read_json(root_of(config) / "final/selection.json")["rows"]) == 6 * 2


def test_finished_run_has_nothing_to_do(finished: Config, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_manifest(root_of(finished))
    run(finished)
    assert read_manifest(root_of(finished)) == before
    assert "started" not in capsys.readouterr().out


def test_killed_sampling_continues_with_the_next_part_and_the_same_bytes(
    finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, *SETTINGS, "policy=" + str(root_of(finished) / "rationale/warmup/policy"))
    config.stage.steps, config.stage.rounds = ["warmup", "sample"], 1
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    monkeypatch.setattr(solutions, "_QUESTIONS", 5)
    calls = []

    def dies(path: Path, rows: list[Solution], metadata: dict[str, str]) -> None:
        calls.append(path.name)
        if len(calls) == 2:
            raise AresError("no space")
        write(path, rows, metadata)

    write = solutions.write_solutions
    monkeypatch.setattr(solutions, "write_solutions", dies)
    with pytest.raises(AresError, match="no space"):
        run(config)
    assert "round-1/sample" not in read_manifest(root_of(config))
    run(config)
    assert calls == [
        "solutions-0.parquet",
        "solutions-1.parquet",
        "solutions-1.parquet",
        "solutions-2.parquet",
    ]
    made, again = (root_of(own) / "round-1/pool.parquet" for own in (finished, config))
    assert read_solutions(made) == read_solutions(again)


def test_pool_without_a_right_solution_is_refused(
    finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = root_of(finished) / "rationale/warmup/policy"
    config = configured(tmp_path, "stage=selftrain", "run=st", f"policy={policy}")
    monkeypatch.setitem(CHECKERS, "mcq", lambda problem, output: Checked("B", False, False))
    with pytest.raises(AresError, match=r"No solution in .*pool\.parquet is right.*raise selftrain\.n"):
        run(config)
    assert list(read_manifest(root_of(config))) == ["round-1/sample"]


@pytest.mark.slow
def test_search_writes_and_repairs_under_the_teachers_scores(
    finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    policy = f"policy={root_of(finished)}/rationale/warmup/policy"
    config = configured(
        tmp_path, "stage=select", "run=st", "select.by=[first,steps,repair]", "select.n=[1,2]", policy
    )
    run(config)
    rows = read_jsonl(root_of(config) / "final/searched.jsonl")
    assert len(rows) == 2 * 2 * 4
    accuracy = read_json(root_of(config) / "final/selection.json")["rows"]
    assert [(row["by"], row["n"]) for row in accuracy] == [
        (by, n) for by in ("first", "steps", "repair") for n in (1, 2)
    ]
    for mean in accuracy[2:]:
        own = [row for row in rows if (row["by"], row["n"]) == (mean["by"], mean["n"])]
        assert mean["questions"] == len(own) == 4
        assert mean["accuracy"] == pytest.approx(25 * sum(row["correct"] for row in own))
        assert mean["tokens"] == pytest.approx(sum(row["tokens"] for row in own) / 4)
    tokens = {(row["by"], row["n"], row["pid"]): row["tokens"] for row in rows}
    assert all(tokens["repair", 1, pid] <= tokens["repair", 2, pid] for _, _, pid in tokens)


@pytest.mark.slow
def test_reward_model_selects_and_searches_instead_of_the_teacher(
    finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    policy = root_of(finished) / "rationale/warmup/policy"
    model = RewardModel.on(T5Policy.load(policy, dropout=0.0), seed=0)
    torch.manual_seed(0)
    for weights in model.value.head.parameters():
        torch.nn.init.normal_(weights)
    text = {"newline": "space", "use_caption": True, "max_input_tokens": 512}
    kind = {"model": "ares.models.t5.policy.T5Policy", "facts": ["lecture"], "pool": "mean"}
    (tmp_path / "reward").mkdir()
    model.save(tmp_path / "reward", {**kind, "text": text, "max_output_tokens": 64, "features": None})
    rules = ("first", "reward", "steps", "repair")
    config = configured(
        tmp_path, "stage=select", "run=st", f"select.by=[{','.join(rules)}]", "select.n=[1,3]",
        f"select.reward={tmp_path / 'reward'}", f"policy={policy}", "teacher=overlap",
    )  # fmt: skip
    assert ["nobody has at test time" in text for text in check(config)] == [True]
    run(config)
    root = root_of(config)
    assert "final/rate" not in read_manifest(root)
    scores = {row.row_id: row.scores for row in read_feedback(root / "final/appraisals.parquet")}
    assert len({score for own in scores.values() for score in own or ()}) > 1
    by_pid: dict[str, list[Solution]] = {}
    for row in read_solutions(root / "final/candidates.parquet"):
        by_pid.setdefault(row.pid, []).append(row)
    chosen = [
        row for row in read_jsonl(root / "final/selected.jsonl") if (row["by"], row["n"]) == ("reward", 3)
    ]
    assert {row["pid"]: row["row_id"] for row in chosen} == {
        pid: best_scored(rows, scores).row_id for pid, rows in by_pid.items()
    }
    assert {row["by"] for row in read_jsonl(root / "final/searched.jsonl")} == {"steps", "repair"}


def test_reward_rule_needs_a_reward_model() -> None:
    with pytest.raises(AresError, match=r"select\.by=reward needs a reward model: give select\.reward"):
        check(composed("experiment=demo", "stage=select", "select.by=[reward]"))


class Answerer:
    """Answers (B) to every question."""

    def encode(self, examples: Sequence[Example]) -> Sequence[Example]:
        return examples

    def greedy(self, inputs: Sequence[Example], **how: int) -> list[list[int]]:
        return [[7, 8] for _ in inputs]

    def decode(self, ids: Sequence[int]) -> str:
        return "The answer is (B)."


def test_adapter_answers_where_the_rationale_has_an_answer_too() -> None:
    row = Solution(0, 0, "1", 0, "A fern is a plant. The answer is (A).", "A", True, 9)
    [found] = answered(composed("experiment=demo"), Answerer(), {"1": make_problem("1")}, [row])  # type: ignore[arg-type]
    assert (found.answer, found.correct, found.tokens) == ("B", False, 11)
    assert found.text == f"{row.text} The answer is (B)."


def bare(text: str) -> str:
    """A solution without its opening and white space, which a pair's text has as targets have them."""
    return "".join(text.split()).removeprefix("Solution:")


@pytest.mark.slow
def test_star_dpo_prefers_right_solutions_of_the_new_policy(
    finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKERS, "mcq", by_text)
    warmup = f"policy={root_of(finished)}/rationale/warmup/policy"
    config = configured(
        tmp_path,
        *SETTINGS,
        "selftrain.method=star_dpo",
        "selftrain.given=false",
        "selftrain.iterations=1",
        "select.by=[first]",
        warmup,
    )
    run(config)
    pairs = read_pairs(root_of(config) / "round-1/contrast/pairs.parquet")
    rows = read_solutions(root_of(config) / "round-1/pool.parquet")
    right = {(row.pid, bare(row.text)): row.correct for row in rows}
    assert pairs
    for pair in pairs:
        assert right[pair.pid, bare(pair.chosen.text)]
        assert not right[pair.pid, bare(pair.rejected.text)]
        assert len(pair.chosen.ref_logprobs or ()) == len(pair.chosen.token_ids)
    steps = read_manifest(root_of(config))
    assert steps["round-1/prefer"].inputs["policy"].path == "round-1/selftrain/policy"
    assert steps["final/candidates"].inputs["policy"].path == "round-1/prefer/policy"
    lessons = read_lessons(root_of(config) / "round-1/selftrain/lessons.parquet")
    assert {lesson.kind for lesson in lessons} == {"cot"}


# --------------------------------------------------------------------------------------------------
# The plan
# --------------------------------------------------------------------------------------------------


def keys(*settings: str) -> list[str]:
    return [step.key for step in steps_of(composed("experiment=demo", "stage=selftrain", *settings))]


def test_teacher_and_policy_are_asked_only_where_a_setting_wants_it() -> None:
    iteration = ["round-1/sample", "round-1/selftrain"]
    assert keys("selftrain.iterations=1", "select.by=[first]") == [
        "rationale/warmup",
        *iteration,
        "final/candidates",
        "final/select",
    ]
    assert keys("selftrain.method=star_dpo", "select.by=[first]")[1:6] == [
        *("round-1/sample", "round-1/selftrain", "round-1/contrast", "round-1/prefer", "round-2/sample")
    ]
    assert "round-1/rate" in keys("selftrain.filter=sentences")
    assert {"final/rate", "final/self_select"} <= set(keys("select.by=[teacher,self_select]"))
    assert keys("rounds=5").count("round-4/sample") == 0


def test_policy_that_an_iteration_trains() -> None:
    def source(start: str) -> str | None:
        steps = steps_of(composed("experiment=demo", "stage=selftrain", f"selftrain.start={start}"))
        step = next(step for step in steps if step.key == "round-2/selftrain")
        return next((found.key for name, found in step.inputs.items() if name.endswith("policy")), None)

    assert [source(start) for start in ("base", "warmup", "previous")] == [
        None,
        "rationale/warmup",
        "round-1/selftrain",
    ]
