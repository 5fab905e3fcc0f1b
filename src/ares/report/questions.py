"""The questions of the report's browser: their rationales side by side, answers, samples and preference pairs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from ares.data.sample.items import SampleProblem
from ares.data.sample.oracle import Label
from ares.evaluation.assessment import Assessment, assess_rationale
from ares.pipeline.manifest import StepEntry
from ares.report.headline import method_of
from ares.report.images import Images
from ares.report.samples import Preference, Sample, last_round, pairs_of, samples_of
from ares.storage.files import hash_of, read_jsonl
from ares.storage.tables import (
    read_corrections,
    read_predictions,
    read_rationales,
    read_verdicts,
)
from ares.text.prompts import right_answer
from ares.types import Prediction, Problem, Rationale

REPAIRED, SFT = "repaired", "after SFT"

# A rationale by pid: measured, or as it was written.
Texts = Mapping[str, Assessment | Rationale]


@dataclass(frozen=True)
class Version:
    """One rationale of a question; `labels` and `quality` as in `Assessment`."""

    name: str
    sentences: list[str]
    labels: list[Label] | None
    quality: float | None


@dataclass(frozen=True)
class Answered:
    """The choice that was answered, None without a readable answer."""

    name: str
    choice: int | None


@dataclass(frozen=True)
class Question:
    """One question as the browser shows it; `images` are keys of `Browser.images`, `answer` is the right choice."""

    pid: str
    split: str
    kind: str
    question: str
    choices: tuple[str, ...]
    answer: int | None
    hint: str
    images: list[str]
    versions: list[Version]
    answers: list[Answered]
    samples: list[Sample]
    pairs: list[Preference]
    verdict: str | None = None


@dataclass(frozen=True)
class Browser:
    """`questions` of `total`, the others left out for the size of the page; `images` as data addresses by key."""

    questions: list[Question]
    images: Mapping[str, str]
    total: int

    @property
    def json(self) -> str:
        """The questions and images for a script element, which no text of a question can end."""
        value = {"questions": [asdict(question) for question in self.questions], "images": self.images}
        return _dumped(value)


@dataclass(frozen=True)
class Material:
    """What a run knows about its questions, by pid: rationales and answers by name, verdicts, samples, pairs."""

    texts: Mapping[str, Texts]
    answers: Mapping[str, Mapping[str, Prediction]]
    verdicts: Mapping[str, str | None]
    samples: Mapping[str, list[Sample]] = field(default_factory=dict)
    pairs: Mapping[str, list[Preference]] = field(default_factory=dict)


def texts_of(root: Path, steps: Mapping[str, StepEntry]) -> dict[str, Texts]:
    """The greedy rationales of a run by name, in order of training, and the Teacher's repairs; the last round's."""
    last = last_round(steps)
    before, after = (f"{when} {method_of(steps)}" for when in ("before", "after"))
    places = {before: ("rationale", "baseline"), after: (last,), REPAIRED: (), SFT: ("final",)}
    found: dict[str, Texts] = {}
    for name, own in places.items():
        entries = [steps.get(f"{place}/{step}") for step in ("generate", "assess") for place in own]
        rows = chain.from_iterable(_written(root, entry) for entry in entries if entry)
        found[name] = {row.pid: row for row in rows}
    if f"{last}/correct" in steps:
        repairs = read_corrections(_output(root, steps, f"{last}/correct", "corrections"))
        found[REPAIRED] = {r.pid: Rationale(r.pid, r.corrected, (), False) for r in repairs if r.corrected}
    return {name: rows for name, rows in found.items() if rows}


def _written(root: Path, entry: StepEntry) -> Iterator[Assessment | Rationale]:
    for name, output in entry.outputs.items():
        path = root / output.path
        if name == "assessment":
            yield from (Assessment(**row) for row in read_jsonl(path))
        elif name.startswith("rationales"):
            yield from read_rationales(path)


def _output(root: Path, steps: Mapping[str, StepEntry], key: str, name: str) -> Path:
    return root / steps[key].outputs[name].path


def material_of(root: Path, steps: Mapping[str, StepEntry], pids: Iterable[str]) -> Material:
    """What a run's finished steps know about some questions."""
    answers = {
        name: {row.pid: row for row in read_predictions(_output(root, steps, key, "predictions"))}
        for name, key in (("without ARES", "baseline/lora"), ("with ARES", "final/lora"))
        if key in steps
    }
    judged = "final/judge" in steps
    verdicts = read_verdicts(_output(root, steps, "final/judge", "verdicts")) if judged else []
    asked = frozenset(pids)
    return Material(
        texts_of(root, steps),
        answers,
        {row.pid: row.winner for row in verdicts},
        samples_of(root, steps, asked),
        pairs_of(root, steps, asked),
    )


def draw(pids: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """All (split, pid) in a fixed order that depends on nothing but the pids, the splits taking turns."""
    ordered = [[(split, pid) for pid in sorted(own, key=hash_of)] for split, own in pids.items()]
    return [pair for turn in zip_longest(*ordered) for pair in turn if pair]


def browser_of(
    drawn: Iterable[tuple[str, str]],
    problems: Mapping[str, Problem],
    material: Material,
    *,
    total: int,
    limit: int,
) -> Browser:
    """The drawn questions as far as they fit into `limit` bytes, images included."""
    images, questions = Images(), []
    limit -= len(Browser([], {}, 0).json)
    for split, pid in drawn:
        question = _question(problems[pid], split, material, images)
        limit -= len(_dumped(asdict(question)).encode()) + 1
        if limit < images.size:
            break
        questions.append(question)
    shown = {key for question in questions for key in question.images}
    return Browser(questions, {key: images.addresses[key] for key in sorted(shown)}, total)


def _question(problem: Problem, split: str, material: Material, images: Images) -> Question:
    pid = problem.pid
    given = {name: rows[pid] for name, rows in material.answers.items() if pid in rows}
    choices, right, answers = _answers(problem, given)
    kind = problem.truth.kind if isinstance(problem, SampleProblem) else problem.topic or problem.subject
    return Question(
        pid,
        split,
        kind,
        problem.question,
        choices,
        right,
        problem.hint,
        images=[key for path in problem.images if (key := images.add(path))],
        versions=[_version(name, problem, rows[pid]) for name, rows in material.texts.items() if pid in rows],
        answers=answers,
        samples=material.samples.get(pid, []),
        pairs=material.pairs.get(pid, []),
        verdict=material.verdicts.get(pid),
    )


def _answers(
    problem: Problem, given: Mapping[str, Prediction]
) -> tuple[tuple[str, ...], int | None, list[Answered]]:
    """The choices, the right one and those that were chosen; of a question without choices, the answers to it instead."""
    right = right_answer(problem)
    if problem.choices or right is None:
        chosen = {name: row.answer if isinstance(row.answer, int) else None for name, row in given.items()}
        return problem.choices, problem.answer, [Answered(name, index) for name, index in chosen.items()]
    texts = {name: right if row.correct else row.answer for name, row in given.items()}
    listed = tuple(dict.fromkeys([right, *(str(text) for text in texts.values() if text is not None)]))
    places = {name: None if text is None else listed.index(str(text)) for name, text in texts.items()}
    return listed, 0, [Answered(name, index) for name, index in places.items()]


def _version(name: str, problem: Problem, row: Assessment | Rationale) -> Version:
    found = assess_rationale(problem, row) if isinstance(row, Rationale) else row
    quality = found.quality if found.quality is None else round(found.quality, 4)
    return Version(name, found.sentences, found.labels, quality)


def _dumped(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
