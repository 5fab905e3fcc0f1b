"""A reward model as the Teacher: free, and as good as what it was trained on (see `ares.steps.reward`).

It scores and judges. It writes nothing: a repair drops the sentences that score below 0.5, except for the conclusion. In
place of a conclusion that scores as low, or that names another option than the right one, it puts that of the gold rationale.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.models.reward_settings import RewardSettings
from ares.storage.files import hash_of, sha256_file
from ares.teachers.messages import Reply, Request, Unaskable
from ares.teachers.offline.local import LocalTeacher
from ares.text.facts import with_facts
from ares.text.prompts import LETTERS, build_example, right_answer, strip_solution
from ares.text.sentences import sentences_of
from ares.types import AresError, Example, Problem

if TYPE_CHECKING:
    from ares.models.reward import RewardModel
    from ares.teachers.ledger.ledger import Ledger

KEPT_FROM = 0.5  # a repair keeps the sentences that score this much
_CONCLUSION = "conclusion"  # of the gold rationale, with the right option, in the evidence of repairs
_OPTION = re.compile(rf"\([{LETTERS}]\)")


class LearnedTeacher(LocalTeacher):
    """Scores by a reward model: requests that wait are read together, `batch_size` rationales in a forward pass.

    `path`: a run with a reward model, in the folder `runs`, or a reward model's folder. `features`: the image features
    of the problems, where it reads such. `gold_conclusion`: repairs may take the conclusion of the gold rationale.
    """

    name = "learned"
    version = "3"
    tie = 0.01
    reads = ("features",)

    def __init__(
        self,
        path: str | None,
        *,
        runs: str = "runs",
        accelerator: str = "auto",
        batch_size: int = 64,
        gold_conclusion: bool = True,
        features: Path | None = None,
        ledger: "Ledger | None" = None,
    ) -> None:
        super().__init__(ledger)
        self.gold_conclusion = gold_conclusion
        self.folder = reward_folder(path, runs)
        self.accelerator, self.batch_size, self.features = accelerator, batch_size, features
        self._examples: dict[str, Example] = {}
        self._graded: dict[tuple[str, tuple[str, ...]], list[float]] = {}
        self._waiting: list[tuple[str, tuple[str, ...]]] = []
        self._reading: asyncio.Task[None] | None = None

    @cached_property
    def settings(self) -> RewardSettings:
        """What the reward model's folder records. Raises AresError where it holds none."""
        return RewardSettings.read(self.folder)

    @cached_property
    def model(self) -> "RewardModel":
        """The reward model, read when the first request is answered."""
        import torch
        from hydra.utils import get_class

        from ares.models.reward import RewardModel

        cuda = self.accelerator != "cpu" and torch.cuda.is_available()
        reading = {name: self.settings.text[name] for name in ("max_input_tokens", "newline")}
        found = RewardModel.load(
            get_class(self.settings.model), self.folder, features=self._features(), **reading
        )
        return found.to("cuda" if cuda else "cpu")

    def _features(self) -> Any:
        from ares.vision.features import FeatureStore

        wanted = self.settings.features
        if wanted is None:
            return None
        if self.features is None:
            raise AresError(
                f"The reward model in {self.folder} reads image features, and this run has none; choose the features that it "
                "was trained with."
            )
        found = FeatureStore(self.features)
        if list(found.shape) != list(wanted):
            raise AresError(
                f"The reward model in {self.folder} reads {wanted[0]} patches of {wanted[1]} numbers, and the image features in "
                f"{self.features} have {found.shape[0]} of {found.shape[1]}; choose the features that it was trained with."
            )
        return found

    def check(self) -> list[str]:
        """Raises AresError if there is no reward model."""
        self.fingerprint()
        return []

    def fingerprint(self) -> dict[str, Any]:
        """Its name, version and the hash of the reward model."""
        return {**super().fingerprint(), "model": self.settings.hash}

    def evidence(self, problem: Problem) -> dict[str, Any]:
        """The reward model and its prompt, with the hashes of the images. Raises Unaskable for a missing image."""
        text = self.settings.text
        shown = with_facts(problem, self.settings.facts)
        example = build_example(shown, "QCM-E", use_caption=text["use_caption"], newline=text["newline"])
        try:
            images = [sha256_file(path) for path in shown.images]
        except OSError as error:
            raise Unaskable(f"an image of problem {problem.pid} cannot be read ({error})") from None
        found = {
            "model": self.settings.hash,
            "pid": problem.pid,
            "prompt": example.question,
            "images": images,
        }
        self._examples[_key(found)] = example
        return found

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The evidence with the gold conclusion and the right option, if they are known, the rationale and its sentences."""
        payload = super().correct_payload(problem, rationale, sentences)
        known = self.gold_conclusion and problem.has_solution
        gold = strip_solution(sentences_of(problem.solution))[-1:] if known else []
        conclusion = {"sentences": gold, "option": right_answer(problem) if problem.choices else None}
        return {**payload, "evidence": {**payload["evidence"], _CONCLUSION: conclusion}}

    async def send(self, request: Request) -> Reply:
        """Answers when the batch in which the request's rationales are read is done."""
        key = _key(request.payload["evidence"])
        self._waiting += [(key, own) for own in _rationales(request) if (key, own) not in self._graded]
        if self._waiting and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._read())
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return await super().send(request)

    async def _read(self) -> None:
        """Reads what waits, batch by batch, in a thread, so that the ledger's leases are renewed meanwhile."""
        await asyncio.sleep(0)  # requests of the same moment belong together
        while self._waiting:
            batch = list(dict.fromkeys(self._waiting))[: self.batch_size]
            taken = set(batch)
            self._waiting = [item for item in self._waiting if item not in taken]
            self._graded.update(zip(batch, await asyncio.to_thread(self._scores, batch), strict=True))

    def _scores(self, rationales: Sequence[tuple[str, tuple[str, ...]]]) -> list[list[float]]:
        """The scores of each rationale, to four decimals: batches of other shapes round differently."""
        limit = self.settings.max_output_tokens
        questions = list(dict.fromkeys(key for key, _ in rationales))
        grouped = {key: [own for other, own in rationales if other == key] for key in questions}
        readings = [self.model.read(own, max_tokens=limit) for own in grouped.values()]
        scores = self.model.scores([self._examples[key] for key in questions], readings)
        found = {
            (key, own): [round(score, 4) for score in row]
            for (key, asked), rows in zip(grouped.items(), scores, strict=True)
            for own, row in zip(asked, rows, strict=True)
        }
        return [found[item] for item in rationales]

    def grade(self, evidence: Any, sentences: Sequence[str]) -> list[float]:
        """The scores of each sentence, in one forward pass unless they are known."""
        item = (_key(evidence), tuple(sentences))
        if item not in self._graded:
            [self._graded[item]] = self._scores([item])
        return self._graded[item]

    def repair(self, evidence: Any, sentences: Sequence[str]) -> list[str]:
        """The sentences that score at least 0.5, and a conclusion: where the last one is wrong, the gold one, if it is known."""
        gold, option = evidence[_CONCLUSION]["sentences"], evidence[_CONCLUSION]["option"]
        if not sentences:
            return list(gold)
        *scores, last = self.grade(evidence, sentences)
        kept = [own for own, score in zip(sentences[:-1], scores, strict=True) if score >= KEPT_FROM]
        named = _OPTION.findall(sentences[-1])
        right = last >= KEPT_FROM and (not named or option in (None, *named))
        conclusion = sentences[-1:] if right or not gold else gold
        return [*kept, *(own for own in conclusion if own not in kept)]

    async def close(self) -> None:
        """Frees the reward model."""
        await super().close()
        self.__dict__.pop("model", None)


def _key(evidence: Mapping[str, Any]) -> str:
    """Identifies what the reward model reads."""
    return hash_of({name: value for name, value in evidence.items() if name != _CONCLUSION})


def _rationales(request: Request) -> Iterator[tuple[str, ...]]:
    """The rationales, as sentences, whose scores a request needs."""
    asked: Mapping[str, Any] = request.payload
    if request.kind == "score":
        yield from map(tuple, asked["rationales"])
    elif request.kind == "correct":
        yield tuple(asked["sentences"])
    else:
        yield from (tuple(strip_solution(sentences_of(asked[name]))) for name in ("first", "second"))


def reward_folder(path: str | None, runs: str) -> Path:
    """The reward model of `teacher.path`. Raises AresError where there is none."""
    if not path:
        raise AresError(
            "teacher=learned needs a reward model; give teacher.path=<run or folder>, and train one with stage=reward."
        )
    folder = Path(path)
    found = sorted(Path(runs, path).glob("round-*/reward/model"), key=lambda own: int(own.parts[-3][6:]))
    if folder.is_dir() and not found:
        return folder
    if not found:
        raise AresError(
            f"teacher.path={path} is neither a reward model's folder nor a run in {runs} with one; train it with "
            f"stage=reward run={path}."
        )
    return found[-1]
