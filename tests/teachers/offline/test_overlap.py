"""The overlap Teacher: ROUGE-L with the closest gold sentence."""

import asyncio

import pytest

from ares.teachers.offline.overlap import OverlapTeacher
from ares.teachers.parsing import FeedbackError
from ares.text.rouge import rouge_l_f

GOLD = ["Ice is a solid.", "Solids keep their own shape.", "So the answer is yes."]


@pytest.fixture
def icy(problem):
    return problem(solution=" ".join(GOLD))


def score(problem, *rationales: list[str]) -> list:
    return [result.scores for result in asyncio.run(OverlapTeacher().score(problem, rationales))]


def correct(problem, sentences: list[str]):
    return asyncio.run(OverlapTeacher().correct(problem, " ".join(sentences), sentences)).text


def judge(problem, first: str, second: str):
    return asyncio.run(OverlapTeacher().judge(problem, first, second)).winner


def test_score_is_rouge_l_with_the_closest_gold_sentence(icy) -> None:
    near, far = "Ice is a cold solid.", "Whales sing."
    [found] = score(icy, [*GOLD, near, far, near])
    assert found[:3] == [1.0, 1.0, 1.0]
    assert found[3] == pytest.approx(max(rouge_l_f(gold, near) for gold in GOLD), abs=1e-3)
    assert found[4:] == [0.0, 0.0]  # nothing in common, said before


def test_repair_replaces_low_scores_by_gold_sentences(icy) -> None:
    assert correct(icy, GOLD) == " ".join(GOLD)
    assert correct(icy, ["Whales sing.", GOLD[1]]) == f"{GOLD[0]} {GOLD[1]}"
    assert (
        correct(icy, ["Shapes keep what their kind is.", GOLD[0], GOLD[0]])
        == f"{GOLD[1]} {GOLD[0]} {GOLD[2]}"
    )
    assert correct(icy, [*GOLD, "Whales sing."]) == " ".join(GOLD)
    assert correct(icy, []) == GOLD[2]


def test_close_scores_are_a_tie(icy) -> None:
    assert judge(icy, "Solution: " + " ".join(GOLD), "Whales sing.") == "first"
    assert judge(icy, "", GOLD[0]) == "second"
    assert judge(icy, GOLD[0], GOLD[1]) == "tie"


def test_problem_without_a_solution_is_quarantined(problem) -> None:
    blank = problem(solution=" ")
    [found, empty] = score(blank, ["Ice is cold."], [])
    assert isinstance(found, FeedbackError)
    assert "no gold solution" in found.reason
    assert empty == []
    assert isinstance(correct(blank, ["Ice is cold."]), FeedbackError)
    assert isinstance(judge(blank, "a", "b"), FeedbackError)
