"""Settings of self-training and of selection at test time."""

from dataclasses import dataclass, field

from ares.config.fields import bounded, choice, choices_of, numbers, text_with
from ares.config.fits import FitConfig

SEARCHES = ("steps", "repair")  # under scores of single sentences
RULES = ("first", "majority", "self_select", "oracle", "teacher", "reward", *SEARCHES)


@dataclass
class ReflectionConfig:
    """How earlier solutions are shown to the policy; between question and cue."""

    refine: str = text_with("{solution}", default="Possibly wrong: {solution}")  # the solution to correct
    candidate: str = text_with(
        "{number}", "{solution}", default="Candidate {number}: {solution}"
    )  # to select


@dataclass
class SelftrainConfig(FitConfig):
    """Self-training: sample, check, build lessons, fine-tune (docs/selftrain.md). The warm-up has the settings of `rationale`."""

    iterations: int = bounded(3, at_least=1)  # of sampling and fine-tuning
    method: str = choice("r3v", "star", "star_dpo")  # which lessons, and whether DPO follows
    n: int = bounded(3, at_least=1)  # solutions per train question, of each model
    questions: int | None = bounded(None, at_least=1)  # that are sampled, from the first, null: all
    temperature: float = bounded(1.0, above=0)  # of sampling
    top_p: float = bounded(1.0, at_least=0, at_most=1)  # sample from tokens of this probability
    window: int | None = bounded(None, at_least=1)  # latest iterations whose solutions count, null: all
    start: str = choice("base", "warmup", "previous")  # the policy that an iteration trains
    given: bool = True  # iterations train on the warm-up's lessons, too
    filter: str = choice("answer", "sentences")  # right answers, or those with approved sentences
    threshold: float = bounded(0.5, at_least=0, at_most=1)  # the lowest score of an approved sentence
    prompts: ReflectionConfig = field(default_factory=ReflectionConfig)


@dataclass
class SelectConfig:
    """Selection among `n` sampled answers per question of `evaluate.split`, by several rules (docs/selection.md)."""

    n: list[int] = numbers(1, 2, 4, 8, at_least=1)  # candidates, which share their samples
    by: list[str] = choices_of(*RULES, default=RULES[:4])  # rules of selection
    answers: str = choice("text", "adapter")  # a sample's answer: in its text, or the adapter's
    questions: int | None = bounded(None, at_least=1)  # of the split, from the first, null: all
    temperature: float = bounded(1.0, above=0)  # of sampling
    top_p: float = bounded(1.0, at_least=0, at_most=1)  # sample from tokens of this probability
    threshold: float = bounded(0.5, at_least=0, at_most=1)  # by=repair: scores below it are weak
    longest: int = bounded(16, at_least=1)  # by=steps: sentences
    pool: str = choice("mean", "min")  # by=teacher, reward: a candidate's score from its sentences
    reward: str | None = None  # run or folder of a reward model, for reward, steps and repair
