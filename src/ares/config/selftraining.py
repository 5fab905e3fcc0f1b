"""Settings of self-training and of selection at test time."""

from dataclasses import dataclass, field

from ares.config.fields import bounded, choice, text_with


@dataclass
class ReflectionConfig:
    """How earlier solutions are shown to the policy; between question and cue."""

    refine: str = text_with("{solution}", default="Possibly wrong: {solution}")  # the solution to correct
    candidate: str = text_with(
        "{number}", "{solution}", default="Candidate {number}: {solution}"
    )  # to select


@dataclass
class SelftrainConfig:
    """Self-training: sample, check, build lessons, fine-tune. docs/selftrain.md explains the options.

    Fits that start from the base use the settings of `rationale`, others those of `sft`.
    """

    iterations: int = bounded(3, at_least=1)
    method: str = choice("r3v", "star")  # lessons: cot, refine and select, or cot alone
    n: int = bounded(3, at_least=1)  # solutions per train question, of each model
    questions: int | None = bounded(None, at_least=1)  # train questions, from the first, null: all
    temperature: float = bounded(1.0, above=0)  # of sampling
    top_p: float = bounded(1.0, at_least=0, at_most=1)  # sample from tokens of this probability
    window: int | None = bounded(None, at_least=1)  # latest iterations whose solutions count, null: all
    start: str = choice("base", "warmup", "previous")  # the policy that an iteration trains
    given: bool = True  # iterations train on the warm-up's lessons, too
    filter: str = choice("answer", "sentences")  # right answers; whose sentences the Teacher approves
    threshold: float = bounded(0.5, at_least=0, at_most=1)  # the lowest score of a sentence to keep
    prompts: ReflectionConfig = field(default_factory=ReflectionConfig)
