"""Image questions cannot be answered without the image, and can with it."""

import random
import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from ares.data.sample import Item, generate
from ares.data.sample.kinds import KINDS

IMAGE_KINDS = {kind.name: kind.n_choices for kind in KINDS if kind.draft(random.Random(0), 0).grid}


def prompt(item: Item) -> str:
    p = item.problem
    choices = " ".join(f"{letter}={choice}" for letter, choice in zip("ABCD", p.choices, strict=False))
    return f"{p.question} {p.hint} {p.caption} {choices} {' '.join(p.choices)}"


def words_accuracy(train: list[Item], test: list[Item], seed_kind: str | None = None) -> float:
    """How often logistic regression over a bag of words, each choice's letter attached too, finds the answer."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    pick = [[i for i in items if seed_kind in (None, i.truth.kind)] for items in (train, test)]
    vectorizer = CountVectorizer(token_pattern=r"\S+", lowercase=False)
    features = vectorizer.fit_transform(map(prompt, pick[0]))
    model = LogisticRegression(max_iter=300).fit(features, [i.problem.answer for i in pick[0]])
    guesses = model.predict(vectorizer.transform(map(prompt, pick[1])))
    return float(np.mean(guesses == [i.problem.answer for i in pick[1]]))


@pytest.mark.slow
def test_bag_of_words_does_not_answer_image_questions() -> None:
    items = [item for item in generate({"train": 4000, "test": 4000}, 11) if item.image is not None]
    train, test = ([i for i in items if i.problem.split == split] for split in ("train", "test"))
    assert len(train) == len(test) == 2000
    chance = np.mean([1 / len(item.problem.choices) for item in test])
    assert words_accuracy(train, test) <= chance + 0.05
    for kind, n_choices in IMAGE_KINDS.items():
        assert words_accuracy(train, test, kind) <= 1 / n_choices + 0.05, kind


def test_text_alone_leaves_every_answer_equally_likely() -> None:
    """Within an image kind, no word of the prompt goes with an answer's text much more often than chance."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(list)
    for item in generate({"train": 2000}, 0):
        if item.image is None:
            continue
        p = item.problem
        for position, choice in enumerate(p.choices):
            counts[item.truth.kind, choice].append(position == p.answer)
    for (kind, choice), hits in counts.items():
        if len(hits) >= 100:
            spread = 3.5 * np.sqrt(0.25 / len(hits))
            assert abs(np.mean(hits) - 1 / IMAGE_KINDS[kind]) <= spread, (kind, choice)


def cells(item: Item) -> np.ndarray:
    """The mean color of each cell, (4, 4, 3) in [0, 255]."""
    assert item.image is not None
    return np.asarray(item.image, dtype=float).reshape(4, 16, 4, 16, 3).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = defaultdict(list)
    for item in generate({"train": 160}, 9):
        found[item.truth.kind].append(item)
    return found


def fact(item: Item, relation: str, **slots: str) -> Mapping[str, str]:
    """The slots of the true fact of a relation, said in the solution or not."""
    facts = [f.slots for f in (*item.truth.steps, *item.truth.unsaid) if f.relation == relation]
    [found] = [f for f in facts if slots.items() <= f.items()]
    return found


def nearest(color: np.ndarray) -> str:
    from ares.data.sample.drawing import RGB

    return min(RGB, key=lambda name: float(np.abs(color - RGB[name]).sum()))


def test_flag_shows_its_edge_and_its_square(pictures: dict[str, list[Item]]) -> None:
    for item in pictures["flags"]:
        names = np.array([[nearest(cell) for cell in row] for row in cells(item)])
        edge, square = fact(item, "edge_color")["color"], fact(item, "square_color")["color"]
        assert edge != square
        assert (names[1:3, 1:3] == square).all()
        assert (names == edge).sum() == 11  # and one worn place


def test_map_shows_its_mark_in_one_quarter(pictures: dict[str, list[Item]]) -> None:
    for item in pictures["maps"]:
        half, side, color = (
            fact(item, "mark_half"),
            fact(item, "mark_side"),
            fact(item, "mark_color")["color"],
        )
        names = np.array([[nearest(cell) for cell in row] for row in cells(item)])
        row, column = ("upper", "lower").index(half["vhalf"]), ("left", "right").index(side["side"])
        assert (names == color).sum() == 4
        assert (names[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] == color).all()


def test_thermometer_is_red_up_to_its_mark(pictures: dict[str, list[Item]]) -> None:
    for item in pictures["thermometer"]:
        level = ("one", "two", "three", "four").index(fact(item, "red_level")["level"]) + 1
        names = [[nearest(cell) for cell in row[1:3]] for row in cells(item)]
        assert [row == ["red", "red"] for row in names] == [row >= 4 - level for row in range(4)]


def test_magnets_show_their_ends(pictures: dict[str, list[Item]]) -> None:
    for item in pictures["magnets"]:
        names = [nearest(cell) for cell in cells(item)[1]]
        assert names[1:3] == [fact(item, "magnet_end", side=side)["color"] for side in ("left", "right")]
        assert set(names[:2]) == set(names[2:]) == {"red", "blue"}


def test_captions_hold_no_color_number_or_side(pictures: dict[str, list[Item]]) -> None:
    for kind in IMAGE_KINDS:
        for item in pictures[kind]:
            words = set(re.findall(r"\w+", item.problem.caption.lower()))
            assert not words & {
                "blue",
                "pink",
                "green",
                "left",
                "right",
                "upper",
                "lower",
                "alike",
                "different",
            }
