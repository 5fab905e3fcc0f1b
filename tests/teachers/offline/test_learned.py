"""A reward model as the Teacher: batches, the ledger, verdicts and repairs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ares.models.reward import RewardModel, RewardSettings
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.offline.learned import LearnedTeacher, reward_folder
from ares.types import AresError
from tests.support.problems import make_problem

SENTENCES = ["3 4", "5", "6 7"]
SETTINGS = RewardSettings(
    model="ares.models.vlm.policy.VlmPolicy",
    text={"newline": "space", "use_caption": True, "max_input_tokens": 512},
    facts=["hint"],
    pool="mean",
    max_output_tokens=32,
    features=None,
    vocabulary="",
)


class Counting(LearnedTeacher):
    """A Teacher whose model gives sentence `3 4` a score of 0.9, `5` 0.4 and others 0.1, and counts its passes."""

    settings = SETTINGS

    def __init__(self, folder: Path, **arguments) -> None:
        super().__init__(str(folder), **arguments)
        self.passes: list[int] = []

    def _scores(self, rationales):
        self.passes.append(len(rationales))
        return [[{"3 4": 0.9, "5": 0.4}.get(text, 0.1) for text in own] for _, own in rationales]


@pytest.fixture
def teacher(tmp_path: Path) -> Counting:
    return Counting(tmp_path, batch_size=3)


def test_waiting_requests_share_passes(teacher: Counting) -> None:
    problems = [make_problem(pid=str(n)) for n in range(4)]

    async def ask() -> list:
        return await asyncio.gather(*(teacher.score(p, [SENTENCES, SENTENCES[:1], []]) for p in problems))

    for own in asyncio.run(ask()):
        assert [result.scores for result in own] == [[0.9, 0.4, 0.1], [0.9], []]
    assert sum(teacher.passes) == 8
    assert len(teacher.passes) <= 4


def test_known_requests_are_not_read_again(tmp_path: Path) -> None:
    passes = []
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            teacher = Counting(tmp_path, ledger=ledger)
            [result] = asyncio.run(teacher.score(make_problem(), [SENTENCES]))
            assert result.scores == [0.9, 0.4, 0.1]
            passes.append(len(teacher.passes))
    assert passes == [1, 0]


def test_verdicts(teacher: Counting) -> None:
    problem = make_problem()
    good, bad = "Solution: 3 4", "6 7"
    assert asyncio.run(teacher.judge(problem, good, bad)).winner == "first"
    assert asyncio.run(teacher.judge(problem, bad, good)).winner == "second"
    assert asyncio.run(teacher.judge(problem, bad, bad)).winner == "tie"


def repaired(teacher: Counting, sentences: list[str], solution: str = "") -> str | None:
    problem = make_problem(solution=solution)
    return asyncio.run(teacher.correct(problem, " ".join(sentences), sentences)).text


def test_repairs_drop_weak_sentences_but_conclude(teacher: Counting, tmp_path: Path) -> None:
    assert repaired(teacher, ["5", "6 7", "3 4"], solution="Ice melts. It does.") == "3 4"
    assert repaired(teacher, SENTENCES, solution="Ice melts. It does.") == "3 4 It does."
    assert repaired(teacher, SENTENCES) == "3 4 6 7"  # nobody knows better
    assert repaired(teacher, ["5", "6 7"], solution="Ice melts. It does.") == "It does."
    assert repaired(teacher, ["3 4", "6 7"], solution="3 4") == "3 4"  # it is said already
    assert repaired(teacher, [], solution="Ice melts. It does.") == "It does."
    without = Counting(tmp_path, gold_conclusion=False)
    assert repaired(without, SENTENCES, solution="Ice melts. It does.") == "3 4 6 7"


class Pleased(Counting):
    """A Teacher whose model gives every sentence a score of 0.9."""

    def _scores(self, rationales):
        return [[0.9 for _ in own] for _, own in rationales]


def test_a_conclusion_that_names_another_option_is_replaced(tmp_path: Path) -> None:
    teacher, solution = Pleased(tmp_path), "Ice melts. So it is (B)."
    known = {"solution": solution, "choices": ("yes", "no"), "answer": 1}

    def conclusion(teacher: LearnedTeacher, last: str, **fields: Any) -> str | None:
        problem = make_problem(**{**known, **fields})
        return asyncio.run(teacher.correct(problem, f"Well. {last}", ["Well.", last])).text

    assert conclusion(teacher, "So (A).") == "Well. So it is (B)."
    assert conclusion(teacher, "Not (A), but (B).") == "Well. Not (A), but (B)."
    assert conclusion(teacher, "So it is.") == "Well. So it is."
    assert conclusion(teacher, "So (A).", answer=None) == "Well. So (A)."  # the source withholds it
    free = {"choices": (), "answer": None, "direct_answers": ("7",)}
    assert conclusion(teacher, "So (A).", **free) == "Well. So (A)."  # no option is right or wrong
    assert conclusion(teacher, "So (A).", solution="") == "Well. So (A)."
    assert conclusion(Pleased(tmp_path, gold_conclusion=False), "So (A).") == "Well. So (A)."


def test_repairs_read_no_sentence_again_that_is_scored(teacher: Counting) -> None:
    problem = make_problem(solution="Ice melts. It does.")

    async def ask() -> None:
        await teacher.score(problem, [SENTENCES])
        await teacher.correct(problem, " ".join(SENTENCES), SENTENCES)

    asyncio.run(ask())
    assert teacher.passes == [1]


def test_requests_identify_the_model_and_what_it_reads(teacher: Counting, tmp_path: Path) -> None:
    first = teacher.evidence(make_problem(hint="Ice is cold.", solution="It is."))
    assert "Ice is cold." in first["prompt"]
    assert "It is." not in first["prompt"]
    assert first == teacher.evidence(make_problem(hint="Ice is cold.", solution="It is not."))
    assert first["model"] == SETTINGS.hash == teacher.fingerprint()["model"]
    image = tmp_path / "a.png"
    pictured = make_problem(image=image)
    assert teacher.evidence(pictured)["images"] == []  # not among its facts


def test_path_of_a_run_or_a_folder(tmp_path: Path) -> None:
    for number in (2, 10):
        (tmp_path / f"mine/round-{number}/reward/model").mkdir(parents=True)
    assert reward_folder("mine", str(tmp_path)).parts[-3] == "round-10"
    assert reward_folder(str(tmp_path), "elsewhere") == tmp_path
    with pytest.raises(AresError, match=r"give teacher\.path"):
        reward_folder(None, "runs")
    with pytest.raises(
        AresError, match=r"neither a reward model's folder nor a run .* stage=reward run=gone"
    ):
        reward_folder("gone", str(tmp_path))
    with pytest.raises(AresError, match="holds no reward model"):
        LearnedTeacher(str(tmp_path)).check()


def test_features_must_be_those_of_training(tmp_path: Path) -> None:
    class Featured(LearnedTeacher):
        settings = RewardSettings(**{**vars(SETTINGS), "features": [2, 3]})

    with pytest.raises(AresError, match="this run has none"):
        Featured(str(tmp_path)).model  # noqa: B018


def test_reward_model_is_freed_at_the_end(tmp_path: Path) -> None:
    from tests.support.number_vlm import number_vlm

    RewardModel.on(number_vlm(r=0), seed=0, likelihood=False).save(
        tmp_path, {k: v for k, v in vars(SETTINGS).items() if k not in ("vocabulary", "weights")}
    )
    teacher = LearnedTeacher(str(tmp_path), accelerator="cpu")
    [result] = asyncio.run(teacher.score(make_problem(question="3 4", choices=("5",)), [SENTENCES]))
    assert result.scores == [0.5, 0.5, 0.5]
    asyncio.run(teacher.close())
    assert "model" not in vars(teacher)
