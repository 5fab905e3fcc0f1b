"""Generates the sample data set from a seed, in memory or in the published ScienceQA layout, and reads it back.

An item depends on (seed, split, index) and on the earlier questions of its split, so a split can grow without
changing its own first items or the other splits. Splits are disjoint by construction: the hash of question and picture
decides which split may use them, for every seed.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from ares.data.checks import TEXT_FIELDS
from ares.data.sample.drawing import draw
from ares.data.sample.items import Draft, Item, Kind, SampleProblem, Truth
from ares.data.sample.kinds import KINDS
from ares.data.sample.remarks import REMARKS, remarks
from ares.data.scienceqa import read_scienceqa
from ares.storage.failures import expected
from ares.storage.files import read_object, write_json
from ares.types import SPLITS, AresError, Problem

LETTERS = "ABCD"
DEFAULT_SIZES = {"train": 600, "val": 150, "test": 150}
# Sixteenths of all (question, picture) pairs that belong to a split.
_SHARES = {"train": range(0, 8), "val": range(8, 10), "test": range(10, 16)}
_ATTEMPTS = 500
_SAID = 0.65  # how often a solution states an optional fact
_MAX_SIZE = 99_999


def generate(sizes: Mapping[str, int] = DEFAULT_SIZES, seed: int = 0) -> list[Item]:
    """The items of all splits, in the order train, val, test; `sizes` maps a split to its number of problems.

    The same sizes and seed give equal items, byte for byte. Raises AresError for an unknown split or a size that is
    negative or above 99,999.
    """
    for split, size in sizes.items():
        if split not in SPLITS or not 0 <= size <= _MAX_SIZE:
            raise AresError(
                f"data.sizes has {split}={size}, but needs {', '.join(SPLITS)} between 0 and {_MAX_SIZE}; correct it."
            )
    return [item for split in SPLITS for item in _generate_split(split, sizes.get(split, 0), seed)]


def write_sample(root: Path | str, *, sizes: Mapping[str, int] = DEFAULT_SIZES, seed: int = 0) -> None:
    """Writes `problems.json`, `pid_splits.json`, `captions.json`, `images/<split>/<pid>/image.png` and `facts.json`.

    The first four are the published ScienceQA layout; `facts.json` holds the truths that `read_sample` adds.
    Raises AresError as `generate` does.
    """
    root = Path(root)
    items = generate(sizes, seed)
    for item in items:
        if item.image is not None and item.problem.image is not None:
            path = root / item.problem.image
            path.parent.mkdir(parents=True, exist_ok=True)
            item.image.save(path, format="PNG")
    problems = [item.problem for item in items]
    write_json(root / "captions.json", {"captions": {p.pid: p.caption for p in problems if p.caption}})
    write_json(root / "facts.json", {item.problem.pid: asdict(item.truth) for item in items})
    write_json(root / "pid_splits.json", {s: [p.pid for p in problems if p.split == s] for s in SPLITS})
    write_json(root / "problems.json", {problem.pid: _record(problem) for problem in problems})


def read_sample(
    root: Path | str, captions: Path | str | None = None
) -> tuple[dict[str, SampleProblem], dict[str, list[str]]]:
    """The `SampleProblem`s by pid and the pids of each split, from a sample written to `root`.

    Raises AresError where `root` has no facts.json, and as `read_scienceqa` does.
    """
    path = Path(root) / "facts.json"
    if not path.is_file():
        raise AresError(f"{path} is missing, so {root} is not the generated sample; use data=sample.")
    problems, splits = read_scienceqa(root, captions)
    with expected(path, f"remove {root} and run the command again"):
        truths = {pid: Truth.from_json(record) for pid, record in read_object(path).items()}
        return {pid: SampleProblem(**vars(p), truth=truths[pid]) for pid, p in problems.items()}, splits


def _record(problem: Problem) -> dict[str, object]:
    names = (*TEXT_FIELDS, "choices", "answer", "split")
    record = {name: getattr(problem, name) for name in names}
    return {**record, "image": "image.png" if problem.image else None}


def _generate_split(split: str, size: int, seed: int) -> Iterator[Item]:
    seen: set[str] = set()
    for index in range(size):
        kind = KINDS[index % len(KINDS)]
        answer = _answer(kind, split, index // len(KINDS), seed)
        draft, rng = _draft(kind, answer, split, index, seed, seen)
        yield _item(kind, draft, answer, split, index, rng)


def _answer(kind: Kind, split: str, turn: int, seed: int) -> int:
    """The right choice of the kind's question number `turn`: each once in every `n_choices` turns, in any order."""
    block, place = divmod(turn, kind.n_choices)
    rng = random.Random(f"{seed}/{split}/{kind.name}/{block}")
    return rng.sample(range(kind.n_choices), kind.n_choices)[place]


def _draft(
    kind: Kind, answer: int, split: str, index: int, seed: int, seen: set[str]
) -> tuple[Draft, random.Random]:
    """A draft whose question and picture belong to the split and, if possible, are new in it."""
    for attempt in range(_ATTEMPTS):
        rng = random.Random(f"{seed}/{split}/{index}/{attempt}")
        draft = kind.draft(rng, answer)
        key = f"{draft.question}|{draft.grid}"
        ours = hashlib.sha256(key.encode()).digest()[0] % 16 in _SHARES[split]
        if ours and (key not in seen or attempt > _ATTEMPTS // 2):
            seen.add(key)
            return draft, rng
    raise AresError(
        f"The sample has no further question of kind {kind.name} for {split}; ask for fewer in data.sizes."
    )


def _item(kind: Kind, draft: Draft, answer: int, split: str, index: int, rng: random.Random) -> Item:
    conclusions = [
        replace(fact, slots={**fact.slots, "letter": letter})
        for fact, letter in zip(draft.conclusions, LETTERS, strict=False)
    ]
    right = conclusions.pop(answer)
    asked, home = remarks(right.slots["person"], rng)
    facts = (asked, *kind.maxims, *draft.steps, home)
    relations = {relation.name: relation for relation in (*kind.relations, *REMARKS)}
    said = [not relations[fact.relation].optional or rng.random() < _SAID for fact in facts]
    steps = (*(fact for fact, is_said in zip(facts, said, strict=True) if is_said), right)
    unsaid = tuple(fact for fact, is_said in zip(facts, said, strict=True) if not is_said)
    pid = f"{SPLITS.index(split) + 1}{index + 1:05d}"
    problem = SampleProblem(
        pid=pid,
        question=draft.question,
        choices=draft.choices,
        answer=answer,
        hint=draft.hint,
        caption=draft.caption,
        lecture=kind.lecture,
        solution=" ".join(relations[fact.relation].write(fact.slots, rng) for fact in steps),
        image=Path("images", split, pid, "image.png") if draft.grid else None,
        split=split,
        subject=kind.subject,
        topic=kind.topic,
        category=kind.category,
        skill=kind.skill,
        grade=rng.choice(kind.grades),
        task="closed choice",
        truth=Truth(kind.name, steps, unsaid, tuple(conclusions)),
    )
    image = draw(draft.grid, rng) if draft.grid else None
    return Item(problem, image)
