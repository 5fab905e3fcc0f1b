"""The oracle Teacher: exact scores, repairs and verdicts on the sample, and noise that can be replayed."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from ares.config.command_line import mistakes_in
from ares.data.sample import Item, generate
from ares.data.sample.oracle import label_sentences
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.offline.oracle import SCORES, OracleTeacher
from ares.text.sentences import sentences_of
from ares.types import AresError
from tests.support.sample import statements


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return generate({"train": 80}, 11)


def scores(
    item: Item, rationales: list[list[str]], teacher: OracleTeacher | None = None
) -> list[list[float]]:
    found = asyncio.run((teacher or OracleTeacher()).score(item.problem, rationales))
    return [result.scores for result in found]


def rationales_of(item: Item) -> list[list[str]]:
    """Four rationales: the solution, made-up true and false sentences, noise, and nothing."""
    return [sentences_of(item.problem.solution), [s for s, _ in statements(item)] * 2, ["Half of a"], []]


def test_scores_follow_the_labels(items: list[Item]) -> None:
    seen = set()
    for item in items:
        rationales = rationales_of(item)
        labels = [label_sentences(item.truth, own) for own in rationales]
        assert scores(item, rationales) == [[SCORES[label] for label in own] for own in labels]
        seen |= {label for own in labels for label in own}
    assert seen == set(SCORES)
    assert (SCORES["supporting"], SCORES["irrelevant"]) == (1.0, 0.5)
    assert {SCORES[label] for label in ("false", "invented", "repeated")} == {0.0}


def test_repairs_contain_no_zero_and_keep_true_rationales(items: list[Item]) -> None:
    teacher = OracleTeacher()
    for item in items:
        for sentences in rationales_of(item):
            rationale = " ".join(sentences)
            repaired = asyncio.run(teacher.correct(item.problem, rationale, sentences)).text
            [found] = scores(item, [sentences_of(repaired)])
            assert 0.0 not in found
            if 0.0 not in scores(item, [sentences])[0] and sentences:
                assert repaired == rationale


def test_verdicts_are_exact_and_do_not_depend_on_the_order(items: list[Item]) -> None:
    teacher = OracleTeacher()
    for item in items[:20]:
        good = item.problem.solution
        bad = " ".join(sentence for sentence, truth in statements(item) if not truth)
        winners = [
            asyncio.run(teacher.judge(item.problem, *pair)).winner
            for pair in ((good, bad), (bad, good), (good, good))
        ]
        assert winners == ["first", "second", "tie"]


def test_noise_replaces_scores_by_either_other_value_with_equal_probability(items: list[Item]) -> None:
    noisy = OracleTeacher(noise=0.3)
    changes: Counter[tuple[float, float]] = Counter()
    for item in items:
        for exact, found in zip(
            scores(item, rationales_of(item)), scores(item, rationales_of(item), noisy), strict=True
        ):
            changes.update(zip(exact, found, strict=True))
    total = sum(changes.values())
    assert total > 1000
    assert sum(n for (exact, found), n in changes.items() if exact != found) / total == pytest.approx(
        0.3, abs=0.04
    )
    for exact in (0.0, 0.5, 1.0):
        low, high = (changes[exact, other] for other in (0.0, 0.5, 1.0) if other != exact)
        assert 0.5 < low / high < 2.0


def test_noise_is_drawn_from_the_request(items: list[Item]) -> None:
    item, rationales = items[0], rationales_of(items[0])
    found = [scores(item, rationales, OracleTeacher(noise=0.5)) for _ in range(2)]
    assert found[0] == found[1]
    assert scores(item, rationales[::-1], OracleTeacher(noise=0.5))[::-1] != found[0]
    requests = [
        OracleTeacher(noise=noise).score_requests(item.problem, rationales)[0][1] for noise in (0, 0.5)
    ]
    assert requests[0].hash != requests[1].hash
    assert OracleTeacher(noise=0.5).fingerprint() != OracleTeacher().fingerprint()


def test_request_holds_only_the_truth_of_the_problem(items: list[Item]) -> None:
    teacher, problem = OracleTeacher(), items[0].problem
    [(_, request)] = teacher.score_requests(problem, [["It is so."]])
    other = replace(problem, question="Why?", solution="Because.", pid="x")
    assert teacher.score_requests(other, [["It is so."]])[0][1].hash == request.hash
    less = replace(problem, truth=replace(problem.truth, unsaid=(), steps=problem.truth.steps[1:]))
    assert teacher.score_requests(less, [["It is so."]])[0][1].hash != request.hash


def test_recorded_replies_are_not_computed_again(items: list[Item], tmp_path) -> None:
    teacher = OracleTeacher(ledger=Ledger(tmp_path / "ledger.sqlite", payer="a", step="b"))
    item, rationales = items[0], rationales_of(items[0])
    first = scores(item, rationales, teacher)
    again = OracleTeacher(ledger=Ledger(tmp_path / "ledger.sqlite", payer="a", step="c"))
    assert scores(item, rationales, again) == first
    assert (teacher.usage.requests, again.usage.requests, again.usage.cached) == (1, 0, 1)


def test_other_data_and_impossible_noise_are_refused(problem) -> None:
    with pytest.raises(AresError, match="use data=sample"):
        asyncio.run(OracleTeacher().score(problem(), [["It is so."]]))
    with pytest.raises(AresError, match="use data=sample"):
        OracleTeacher(data="scienceqa").check()
    assert OracleTeacher().check() == []
    for noise in ("-0.1", "1.5", "true", "much"):
        [mistake] = mistakes_in(["data=sample", "teacher=oracle", f"teacher.noise={noise}"])
        assert "it must be a number between 0 and 1" in mistake
