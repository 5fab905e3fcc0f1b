"""The reference Teacher against the truth the sample's generator knows, and on ScienceQA problems."""

import asyncio
import json
import random
import re
import time
from dataclasses import replace
from statistics import fmean

import pytest

from ares.data.sample import Oracle, generate, statements
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.offline.readings import Material, sentences_of
from ares.teachers.offline.reference import ReferenceTeacher
from ares.types import Problem

TRUE = 0.5  # from this score on a sentence is called true


@pytest.fixture(scope="module")
def items():
    return generate({"train": 200}, 11)


def scores(problem: Problem, *rationales: list[str]) -> list[list[float]]:
    found = [result.scores for result in asyncio.run(ReferenceTeacher().score(problem, rationales))]
    assert all(isinstance(part, list) for part in found)
    return found  # type: ignore[return-value]


def each(problem: Problem, sentences: list[str]) -> list[float]:
    return [part[0] for part in scores(problem, *([sentence] for sentence in sentences))]


def correct(problem: Problem, sentences: list[str]) -> str:
    result = asyncio.run(ReferenceTeacher().correct(problem, " ".join(sentences), sentences))
    assert isinstance(result.text, str)
    return result.text


def auc(true: list[float], false: list[float]) -> float:
    return fmean((a > b) + 0.5 * (a == b) for a in true for b in false)


def judged(items, templates) -> tuple[list[float], list[float]]:
    true, false = [], []
    for item in items:
        said = statements(item, templates=templates)
        for (_, truth), score in zip(said, each(item.problem, [text for text, _ in said]), strict=True):
            (true if truth == "true" else false).append(score)
    return true, false


def test_true_and_false_sentences_are_told_apart(items):
    true, false = judged(items, "gold")
    assert min(len(true), len(false)) > 500
    assert auc(true, false) >= 0.97


def test_paraphrases(items):
    true, false = judged(items, "paraphrase")
    called_true = [score >= TRUE for score in true]
    wrongly = sum(score >= TRUE for score in false)
    assert auc(true, false) >= 0.95
    assert sum(called_true) / (sum(called_true) + wrongly) >= 0.9
    assert fmean(called_true) >= 0.8


def test_scores_are_tenths_and_span_the_scale(items):
    found = {
        score for item in items[:40] for score in each(item.problem, sentences_of(item.problem.solution))
    }
    assert all(score == round(score, 1) for score in found)
    assert max(found) == 1.0
    assert min(found) >= TRUE


def test_neutral_truths_stand_between(items):
    for item in items[:40]:
        for text in sentences_of(item.problem.lecture):
            if text not in item.problem.solution:
                assert 0.5 <= each(item.problem, [text])[0] <= 0.6


def test_another_problem_lowers_the_mean(items):
    own, foreign, related = [], [], []
    kinds = len({item.kind for item in items})
    for at, item in enumerate(items):
        said = sentences_of(item.problem.solution)
        own += each(item.problem, said)
        foreign += each(items[(at + 1) % len(items)].problem, said)
        related += each(items[(at + kinds) % len(items)].problem, said)
    assert fmean(own) - fmean(foreign) >= 0.3
    assert fmean(own) - fmean(related) >= 0.3


def test_repeated_sentences_score_nothing(items):
    for item in items[:20]:
        said = sentences_of(item.problem.solution)
        (found,) = scores(item.problem, [*said, *said])
        assert min(found[: len(said)]) >= TRUE
        assert found[len(said) :] == [0.0] * len(said)


# --------------------------------------------------------------------------------------------------
# Repair
# --------------------------------------------------------------------------------------------------


def pairs(item, templates) -> list[tuple[str, str]]:
    """A true and a false sentence for each step."""
    said = statements(item, templates=templates)
    return [(said[at][0], said[at + 1][0]) for at in range(0, len(said), 2)]


@pytest.mark.parametrize("templates", ["gold", "paraphrase"])
def test_an_all_true_rationale_is_left_alone(items, templates):
    rationales = [[true for true, _ in pairs(item, templates)] for item in items]
    kept = [correct(i.problem, r) == " ".join(r) for i, r in zip(items, rationales, strict=True)]
    assert fmean(kept) >= (1.0 if templates == "gold" else 0.97)
    assert all(correct(i.problem, sentences_of(i.problem.solution)) == i.problem.solution for i in items)


@pytest.mark.parametrize("templates", ["gold", "paraphrase"])
def test_repair_of_mixed_rationales(items, templates):
    rng, oracle = random.Random(0), Oracle(items)
    kept, copies, before, after = [], [], [], []
    for item in items:
        chosen = [rng.choice(((true, True), (false, False))) for true, false in pairs(item, templates)]
        if rng.random() < 0.3:
            chosen.append(rng.choice(chosen))
        said, truths = [text for text, _ in chosen], {text for text, true in chosen if true}
        if not truths or len(truths) == len(said):
            continue
        repaired = correct(item.problem, said)
        kept += [text in repaired for text in truths]
        copies.append(repaired == item.problem.solution)
        before.append(len(truths) / len(said))
        after.append(fmean(oracle.judge(item.problem.pid, s) == "true" for s in sentences_of(repaired)))
        assert len(sentences_of(repaired)) == len(set(sentences_of(repaired)))
    assert len(copies) > 120
    assert fmean(kept) >= 0.95
    assert fmean(copies) <= 0.2
    assert fmean(after) > fmean(before) + 0.3


def test_one_wrong_sentence_in_the_solution_does_not_bring_the_solution_back(items):
    rng = random.Random(0)
    copies = []
    for item in items:
        said = sentences_of(item.problem.solution)
        at = rng.randrange(len(said))
        said[at] = pairs(item, "gold")[at][1]
        copies.append(correct(item.problem, said) == item.problem.solution)
    assert fmean(copies) <= 0.2


def test_an_empty_rationale_is_completed(items):
    for item in items[:20]:
        repaired = correct(item.problem, [])
        assert repaired
        assert repaired != item.problem.solution


# --------------------------------------------------------------------------------------------------
# The Teacher
# --------------------------------------------------------------------------------------------------


def test_it_sees_nothing_but_the_material(items):
    problem = items[0].problem
    hidden = replace(problem, pid="x", caption="y", image=None, subject="z", rationales=("r",), grade="g")
    teacher = ReferenceTeacher()
    assert teacher.score_payload(problem, [["It is red."]]) == teacher.score_payload(hidden, [["It is red."]])
    seen = set(teacher.correct_payload(problem, "It is red.", ["It is red."])["problem"])
    assert seen == {"question", "hint", "choices", "answer", "lecture", "solution"}


def test_it_judges_by_the_mean_score(items):
    problem = items[0].problem
    good = "Solution: " + problem.solution
    bad = " ".join(false for _, false in pairs(items[0], "gold"))
    winners = [
        asyncio.run(ReferenceTeacher().judge(problem, first, second)).winner
        for first, second in ((good, bad), (bad, good), (good, good), ("", bad))
    ]
    assert winners[:3] == ["first", "second", "tie"]
    assert winners[3] in ("tie", "second")


def test_replies_are_the_same_from_the_ledger(items, tmp_path):
    rationales = [sentences_of(items[0].problem.solution), ["It is red."], []]
    plain = asyncio.run(ReferenceTeacher().score(items[0].problem, rationales))
    with Ledger(tmp_path / "ledger") as ledger:
        for run in range(2):
            teacher = ReferenceTeacher(ledger=ledger)
            assert asyncio.run(teacher.score(items[0].problem, rationales)) == plain
            assert (teacher.usage.cached, teacher.usage.requests) == (run, 1 - run)
            assert teacher.usage.usd == 0


def test_fingerprint():
    assert ReferenceTeacher().fingerprint() == {"name": "reference", "version": "1"}
    assert ReferenceTeacher(name="other").fingerprint()["name"] == "other"


@pytest.mark.slow
def test_it_is_fast(items):
    rationales = [[[text for text, _ in statements(item)]] * 4 for item in items]
    started = time.process_time()
    sentences = sum(
        len(part) for item, own in zip(items, rationales, strict=True) for part in scores(item.problem, *own)
    )
    assert sentences / (time.process_time() - started) >= 2000


# --------------------------------------------------------------------------------------------------
# Real problems
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared) -> list[Problem]:
    folder = shared / "data" / "scienceqa"
    records = json.loads((folder / "problems.json").read_text())
    pids = json.loads((folder / "pid_splits.json").read_text())["val"][:120]
    blank = dict.fromkeys(("caption", "subject", "topic", "category", "skill", "grade", "task"), "")
    names = ("question", "hint", "answer", "lecture", "solution")
    return [
        Problem(
            pid=pid,
            choices=tuple(records[pid]["choices"]),
            image=None,
            split="val",
            **{name: records[pid][name] for name in names},
            **blank,
        )
        for pid in pids
    ]


def test_real_solutions_are_true_of_their_own_problem_only(real):
    own, foreign = [], []
    for at, problem in enumerate(real):
        said = sentences_of(problem.solution)
        if said:
            own += each(problem, said)
            foreign += each(real[(at + 17) % len(real)], said)
    assert fmean(own) >= 0.85
    assert fmean(own) - fmean(foreign) >= 0.5


def test_a_wrong_choice_in_a_real_solution_is_noticed(real):
    right, wrong = [], []
    rng = random.Random(0)
    for problem in real:
        assert problem.answer is not None
        answer = problem.choices[problem.answer]
        for text in sentences_of(problem.solution):
            if len(answer.split()) > 4 or not re.search(rf"\b{re.escape(answer)}\b", text):
                continue
            other = rng.choice([choice for choice in problem.choices if choice != answer])
            swapped = re.sub(rf"\b{re.escape(answer)}\b", lambda _, other=other: other, text)
            if swapped not in problem.solution:
                right += each(problem, [text])
                wrong += each(problem, [swapped])
    assert len(wrong) > 50
    assert auc(right, wrong) >= 0.9
    assert fmean(score < TRUE for score in wrong) >= 0.6


def test_real_rationales_can_be_repaired(real):
    for problem in real[:40]:
        said = ["Whales drink milk.", *sentences_of(problem.solution)[:1]]
        repaired = correct(problem, said)
        assert "Whales" not in repaired
        assert repaired
        assert Material.of(problem).choices == problem.choices
