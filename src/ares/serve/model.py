"""The Python API: opens what a run or `stage=export` wrote, and asks it.

```python
import ares

model = ares.load("runs/demo")
answer = model.ask("Which state is farthest north?", ["Texas", "Maine"], image="map.png")
print(answer.sentences, answer.letter, answer.text, answer.probability)
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ares.config.schema import Config
from ares.launch.notices import quieten
from ares.models.policy import Policy
from ares.models.weights import opening, without_bars
from ares.rl.masked import pad_right
from ares.serve.features import AskedFeatures, features_of
from ares.serve.questions import Question, problem_of
from ares.steps.common.answering import answering_of
from ares.steps.common.inputs import examples_of, policy_class
from ares.text.prompts import LETTERS, answer_sentence, strip_solution
from ares.types import AresError, Example, Problem
from ares.vision.encoders import chosen_device


@dataclass(frozen=True)
class Answer:
    """A model's rationale for a question, and the choice that is most probable after it.

    `sentences` are the rationale's, without the `Solution:` that opens it. `index`, `letter` and `text` are those of the
    chosen one, and `probabilities` has one entry per choice. `truncated`: whether the rationale met the limit on its
    length.
    """

    rationale: str
    sentences: tuple[str, ...]
    index: int
    letter: str
    text: str
    probabilities: tuple[float, ...]
    truncated: bool

    @property
    def probability(self) -> float:
        """The probability of the chosen one."""
        return self.probabilities[self.index]


class Model:
    """A policy, which writes rationales, and its adapter, which answers given one."""

    def __init__(
        self, policy: Policy, answerer: Policy, config: Config, features: AskedFeatures | None = None
    ) -> None:
        self.policy, self.answerer, self.config, self.features = policy, answerer, config, features

    def ask(
        self,
        question: str,
        choices: Sequence[str],
        image: str | Path | None = None,
        *,
        hint: str = "",
        caption: str = "",
        images: Sequence[str | Path] = (),
    ) -> Answer:
        """The answer to one question with 1 to 26 choices.

        `image`, or several `images`: paths of files. `hint`: the context in words. `caption`: of the image, for a model
        that was trained with captions. Raises AresError for impossible arguments and for an unreadable image.
        """
        asked: Question = {"question": question, "choices": choices, "image": image, "images": images}
        return self.ask_many([{**asked, "hint": hint, "caption": caption}])[0]

    def ask_many(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to questions, mappings with the arguments of `ask`, `generate.batch_size` of them at a time."""
        problems = [problem_of(question, str(number)) for number, question in enumerate(questions, start=1)]
        return self.answer(problems)

    def answer(self, problems: Sequence[Problem]) -> list[Answer]:
        """The answers to problems with distinct pids, which need not have answers or solutions of their own."""
        if not self.sees_images and any(problem.images for problem in problems):
            raise AresError("This model was trained without images (features=none); leave out the image.")
        size = self.config.generate.batch_size
        batches = [problems[start : start + size] for start in range(0, len(problems), size)]
        return [answer for batch in batches for answer in self._answer_batch(batch)]

    @property
    def sees_images(self) -> bool:
        """Whether images have an effect."""
        return self.features is not None or self.config.model.reads_images

    def _answer_batch(self, batch: Sequence[Problem]) -> list[Answer]:
        problems = {problem.pid: problem for problem in batch}
        if self.features:
            self.features.see({p.pid: p.image for p in batch if p.image is not None})
        prompts = list(examples_of(problems, problems, "QCM-E", self.config).values())
        limit = self.config.generate.max_new_tokens
        responses = self.policy.greedy(self.policy.encode(prompts), max_new_tokens=limit)
        rationales = {pid: self.policy.decode(ids) for pid, ids in zip(problems, responses, strict=True)}
        prompts = list(examples_of(problems, problems, "QCMG-A", self.config, rationales).values())
        probabilities = self._probabilities(prompts, [len(problem.choices) for problem in batch])
        return [
            self._answer(problem, ids, own)
            for problem, ids, own in zip(batch, responses, probabilities, strict=True)
        ]

    def _answer(self, problem: Problem, ids: list[int], probabilities: list[float]) -> Answer:
        text, spans, _ = self.policy.sentences(ids)
        sentences = strip_solution([text[span.start : span.end] for span in spans])
        index = max(range(len(probabilities)), key=probabilities.__getitem__)
        return Answer(
            rationale=text,
            sentences=tuple(filter(None, sentences)),
            index=index,
            letter=LETTERS[index],
            text=problem.choices[index],
            probabilities=tuple(probabilities),
            truncated=self.policy.is_truncated(ids),
        )

    def _probabilities(self, prompts: Sequence[Example], counts: Sequence[int]) -> list[list[float]]:
        """The probability of "The answer is (X)." for each choice X, among the `counts` choices of each prompt."""
        policy, size = self.answerer, self.config.generate.batch_size
        letters = [Example("", answer_sentence(letter)) for letter in LETTERS[: max(counts)]]
        targets = policy.encode_targets(letters, max_tokens=self.config.lora.max_output_tokens)
        inputs = policy.encode(prompts).to(policy.device)
        rows = [(row, choice) for row, count in enumerate(counts) for choice in range(count)]
        sums = []
        for part in (rows[start : start + size] for start in range(0, len(rows), size)):
            ids = pad_right([targets[choice] for _, choice in part], policy.pad_id).to(policy.device)
            lengths = [len(targets[choice]) for _, choice in part]
            with policy.frozen():
                found = policy.token_logprobs(inputs.select([row for row, _ in part]), ids, lengths)
            sums.append(found.double().sum(-1).cpu())
        return [own.softmax(0).tolist() for own in torch.cat(sums).split(list(counts))]


def load(folder: str | Path, *, device: str | None = None) -> Model:
    """Opens a run, or a folder that `stage=export` wrote: its last policy with the adapter that answers.

    `device`: of torch, None for a GPU if there is one. Raises AresError where the folder holds no such model, and for a
    device that this machine does not have.
    """
    quieten()
    place = _usable(chosen_device(device))
    found = answering_of(Path(folder))
    config, kind = found.config, _policy_class(found.config)
    features = None if config.model.reads_images else features_of(config.features)
    with opening(f"The model in {found.policy} cannot be loaded", "copy its files again"):
        width = kind.feature_dim(found.policy) if features else None
    if features and width and width != features.shape[1]:
        raise AresError(
            f"{folder} was trained on image features of {width} numbers, and features={config.features.name} gives "
            f"{features.shape[1]}; features of other origin cannot be made for new images."
        )
    limits = {"max_input_tokens": config.text.max_input_tokens, "newline": config.text.newline}
    with without_bars():
        policy = kind.load(found.policy, dropout=0.0, features=features, **limits).to(place)
    return Model(policy, policy.answerer(found.adapter), config, features)


def _usable(device: str) -> str:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        reason = str(error).partition("\n")[0].rstrip(".")
        raise AresError(
            f"device={device} cannot be used ({reason}); leave it out, or give device=cpu."
        ) from None
    return device


def _policy_class(config: Config) -> type[Policy]:
    try:
        kind = policy_class(config)
    except (ImportError, ValueError):
        kind = None
    if kind is None or not issubclass(kind, Policy):
        raise AresError(
            f"model._target_={config.model._target_} is no policy of this version of ares; train or export the model again."
        )
    return kind
