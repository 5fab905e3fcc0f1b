"""The generated data set: its layout, determinism, separation of splits, balance and variety."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ares.data.sample import DEFAULT_SIZES, Item, generate, write_sample
from ares.data.sample.kinds import KINDS
from ares.data.scienceqa import read_scienceqa
from ares.text.sentences import split_sentences
from ares.types import AresError


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return generate()


def sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text)]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def identity(item: Item) -> tuple[object, ...]:
    return (item.problem, item.truth.steps, item.truth.wrong, item.image and item.image.tobytes())


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    sizes = {"train": 30, "val": 10, "test": 10}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_sample(tmp_path / name, sizes=sizes, seed=seed)
    first = content(tmp_path / "a")
    assert first == content(tmp_path / "b")
    assert len([name for name in first if name.endswith(".png")]) == 25
    other = content(tmp_path / "c")
    assert first["problems.json"] != other["problems.json"]
    assert first["facts.json"] != other["facts.json"]


def test_written_sample_reads_back_as_scienceqa(tmp_path: Path) -> None:
    sizes = {"train": 20, "val": 8, "test": 6}
    write_sample(tmp_path, sizes=sizes, seed=0)
    problems, splits = read_scienceqa(tmp_path)
    assert {split: len(pids) for split, pids in splits.items()} == sizes
    for item in generate(sizes, 0):
        read = problems[item.problem.pid]
        assert (item.image is None) == (read.image is None)
        if read.image is not None:
            assert read.image == tmp_path / item.problem.image
            assert read.image.is_file()
        for name in vars(read):
            if name not in ("image", "images"):
                assert getattr(read, name) == getattr(item.problem, name), name
    record = json.loads((tmp_path / "problems.json").read_text())["100001"]
    assert {"question", "choices", "answer", "hint", "image", "task", "grade", "subject"} <= record.keys()


def test_growing_a_split_changes_neither_its_first_items_nor_other_splits() -> None:
    small = generate({"train": 40, "val": 10, "test": 20}, 5)
    large = generate({"train": 40, "val": 30, "test": 200}, 5)
    by_pid = {item.problem.pid: identity(item) for item in large}
    assert all(by_pid[item.problem.pid] == identity(item) for item in small)


def test_split_does_not_depend_on_other_splits() -> None:
    alone = generate({"test": 20}, 1)
    together = [i for i in generate({"train": 50, "test": 20}, 1) if i.problem.split == "test"]
    assert [identity(item) for item in alone] == [identity(item) for item in together]


def test_no_question_with_its_picture_is_shared_across_splits_and_seeds() -> None:
    seen: dict[tuple[str, bytes | None], str] = {}
    for seed in (0, 1):
        for item in generate({"train": 2400, "val": 150, "test": 2000}, seed):
            key = (item.problem.question, item.image.tobytes() if item.image else None)
            assert seen.setdefault(key, item.problem.split) == item.problem.split


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(AresError, match=r"data\.sizes has dev=5"):
        generate({"dev": 5})
    with pytest.raises(AresError, match="train=-1"):
        generate({"train": -1})


def test_eight_kinds_over_three_subjects_and_ten_grades(items: list[Item]) -> None:
    assert len(KINDS) >= 8
    train = [item for item in items if item.problem.split == "train"]
    assert len(train) == DEFAULT_SIZES["train"]
    assert {item.truth.kind for item in train} == {kind.name for kind in KINDS}
    assert {item.problem.subject for item in train} == {
        "natural science",
        "social science",
        "language science",
    }
    assert {item.problem.grade for item in train} == {f"grade{n}" for n in range(2, 12)}
    assert any(item.problem.hint for item in train)
    assert all(p.topic and p.category and p.skill and p.lecture for p in (item.problem for item in train))


def test_half_of_the_problems_have_a_picture_of_64_pixels(items: list[Item]) -> None:
    pictures = [item.image for item in items if item.image is not None]
    assert len(pictures) == len(items) // 2
    assert len({item.truth.kind for item in items if item.image is not None}) == len(KINDS) // 2
    assert {(picture.size, picture.mode) for picture in pictures} == {((64, 64), "RGB")}
    assert all((item.image is not None) == bool(item.problem.caption) for item in items)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_answer_positions_are_balanced_within_three_points(items: list[Item], split: str) -> None:
    problems = [item.problem for item in items if item.problem.split == split]
    for n_choices in (2, 3, 4):
        answers = Counter(p.answer for p in problems if len(p.choices) == n_choices)
        total = sum(answers.values())
        assert all(abs(answers[position] / total - 1 / n_choices) <= 0.03 for position in range(n_choices))


def test_solutions_are_varied(items: list[Item]) -> None:
    solutions = [sentences(item.problem.solution) for item in items if item.problem.split == "train"]
    assert all(3 <= len(solution) <= 7 for solution in solutions)
    counts = Counter(sentence for solution in solutions for sentence in set(solution))
    assert len(counts) >= 1000
    assert max(counts.values()) <= 0.05 * len(solutions)


def test_texts_suit_a_tiny_model(items: list[Item]) -> None:
    words: set[str] = set()
    for item in items:
        p = item.problem
        assert len(p.question.split()) <= 20
        assert len(p.hint.split()) <= 15
        assert all(len(choice.split()) <= 3 for choice in p.choices)
        assert all(4 <= len(sentence.split()) <= 14 for sentence in sentences(p.solution))
        for text in (p.question, p.hint, p.caption, p.lecture, p.solution, *p.choices):
            words.update(re.findall(r"\w+", text))
    assert len(words) <= 900


def test_splitter_finds_exactly_the_written_sentences(items: list[Item]) -> None:
    for item in items:
        assert len(sentences(item.problem.solution)) == len(item.truth.steps)


def test_conclusion_has_the_right_choice_and_letter(items: list[Item]) -> None:
    for item in items:
        p = item.problem
        conclusion = sentences(p.solution)[-1]
        assert f"choice ({'ABCD'[p.answer]})" in conclusion
        assert p.choices[p.answer] in conclusion


def test_captions_are_drawn_apart_from_answers(items: list[Item]) -> None:
    for item in items:
        answer = item.problem.choices[item.problem.answer]
        assert not set(answer.split()) & set(re.findall(r"\w+", item.problem.caption))
