"""The numbers at the head of a report."""

from typing import Any

import pytest

from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import Artefact, StepEntry
from ares.report.headline import Scored, duration, headline, percent, shown
from ares.types import Prediction

SCORES: dict[str, Any] = {
    **{"split": "test", "questions": 400, "accuracy": {"AVG": 89.25}},
    **{"majority": 31.25, "direct_answer": None},
}
STEPS = {
    "rationale": StepEntry("0", {}, {}, {}, seconds=60.0),
    "round-1/score": StepEntry("0", {}, {}, {}, seconds=12.0, usd=1.5, requests=1234),
}


def assessment(pid: str, labels: list[str] | None, rouge_l: float | None = None) -> Assessment:
    return Assessment(pid, ["So."] * len(labels or "a"), labels, rouge_l, 0.0, 9, False)


def numbers(
    assessed: dict[str, list[Assessment]] | None = None,
    without: Scored | None = None,
    with_ares: Scored | None = None,
    steps: dict[str, StepEntry] = STEPS,
) -> dict[str, tuple[str, str]]:
    found = headline(steps, assessed or {}, without, with_ares)
    return {
        item.label: (item.value.replace("\u00a0", " "), item.note.replace("\u00a0", " ")) for item in found
    }


def test_cost_is_always_there() -> None:
    assert numbers() == {"Cost": ("$1.50", "1,234 requests to the Teacher; 2 steps in 1 min 12 s")}


def test_accuracy_has_its_interval_and_the_majority_baseline() -> None:
    value, note = numbers(with_ares=Scored(SCORES, {}))["Accuracy"]
    assert value == "89.2 %"
    # Wilson's interval of 357 of 400.
    assert note == "400 test questions; 95 % interval 85.8 to 91.9; always the most frequent choice: 31.2 %"
    assert "Direct answers" not in numbers(with_ares=Scored(SCORES, {}))
    direct = numbers(with_ares=Scored({**SCORES, "direct_answer": 61.3}, {}))
    assert direct["Direct answers"][0] == "61.3 %"
    assert "choice" not in numbers(with_ares=Scored({**SCORES, "majority": None}, {}))["Accuracy"][1]


def predictions(*correct: bool) -> dict[str, Prediction]:
    return {str(i): Prediction(str(i), "", "", 0, right) for i, right in enumerate(correct)}


def test_accuracy_without_and_with_ares_on_the_same_questions() -> None:
    without = Scored(
        {**SCORES, "accuracy": {"AVG": 25.0}, "majority": None}, predictions(True, False, False, False)
    )
    with_ares = Scored({**SCORES, "accuracy": {"AVG": 100.0}, "majority": None}, predictions(*[True] * 4))
    value, note = numbers(without=without, with_ares=with_ares)["Accuracy"]
    assert value == "25.0 % → 100.0 %"
    assert note.startswith(
        "400 test questions, the same adapter without → with ARES; +75.0 points, 95 % interval"
    )


def test_wins_with_and_without_ties() -> None:
    metrics = {"a_wins": 0.6, "b_wins": 0.2, "ties": 0.2}
    teacher = {"teacher": {"fingerprint": {"name": "oracle"}}}
    judged = {**STEPS, "final/judge": StepEntry("0", teacher, {}, {}, metrics=metrics)}
    value, note = numbers(steps=judged)["Rationales won"]
    assert value == "75.0 %"
    assert note == (
        "of the decided; 60.0 % won, 20.0 % lost, 20.0 % tied against the policy before RL; judged by oracle in both orders"
    )
    other = {"against": Artefact("/runs/other/final/rationales-test.parquet", "0")}
    tied = StepEntry("0", {}, other, {}, metrics={"a_wins": 0.0, "b_wins": 0.0, "ties": 1.0})
    value, note = numbers(steps={"final/judge": tied})["Rationales won"]
    assert (value, "against /runs/other" in note) == ("–", True)


def test_rationales_of_the_sample_by_their_supporting_sentences() -> None:
    # A rationale without a sentence counts 0.
    assessed = {
        "rationale/assess": [assessment("1", ["supporting", "false"]), assessment("2", [])],
        "round-1/assess": [assessment("1", ["supporting"]), assessment("2", ["invented", "supporting"])],
        "final/assess": [assessment("1", ["supporting"]), assessment("2", ["supporting"])],
    }
    value, note = numbers(assessed)["Supporting sentences"]
    assert value == "25.0 % → 100.0 %"
    assert note == (
        "2 val rationales before RL → after SFT; RL +50.0 points, 95 % interval +50.0 to +50.0; "
        "in all +75.0 points, 95 % interval +50.0 to +100.0"
    )


def test_rationales_of_other_data_by_rouge_l_where_there_are_solutions() -> None:
    assessed = {
        key: [assessment("1", None, value), assessment("2", None, None)]
        for key, value in (("rationale/assess", 0.25), ("round-1/assess", 0.75))
    }
    value, note = numbers(assessed)["ROUGE-L"]
    assert value == "0.250 → 0.750"
    assert note.startswith("1 val rationales before RL → after RL (round 1); RL +0.500")
    assert set(numbers({"rationale/assess": [assessment("1", None)]})) == {"Cost"}


def test_duration() -> None:
    texts = ["0.3_s", "59.9_s", "1_min 0_s", "3_min 12_s", "2_h 5_min"]
    assert [duration(s).replace("\u00a0", "_") for s in (0.31, 59.9, 59.96, 192.2, 7500)] == texts


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0"),
        (0.504, "50.4"),
        (0.0005556, "0.06"),
        (0.00001, "0.001"),
        (1.0, "100.0"),
        (-0.012, "−1.2"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == f"{text}\u00a0%"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test/repetition", 0.0005556, "0.06\u00a0%"),
        ("accuracy/NAT", 71.251, "71.3\u00a0%"),
        ("train/kl_k3", 0.06123456, "0.06123"),
        ("val/accuracy", 0.98, "98.0\u00a0%"),
        ("supporting", None, "–"),
    ],
)
def test_metrics_have_their_units(name: str, value: float | None, text: str) -> None:
    assert shown(name, value) == text
