"""The settings of supervised fits, and of reward models."""

from dataclasses import dataclass

from ares.config.fields import bounded, choice, choices_of

LABELS = ("scores", "pairs")
FACTS = ("image", "rationale", "hint", "lecture", "caption")  # see ares.text.facts


@dataclass
class FitConfig:
    """Supervised fine-tuning (rationale, sft, lora)."""

    epochs: int = bounded(20, at_least=1)  # passes over the training rows
    lr: float = bounded(8e-5, above=0)  # peak learning rate of AdamW
    global_batch_size: int = bounded(8, at_least=1)  # rows per optimizer step, on all devices
    micro_batch_size: int = bounded(8, at_least=1)  # rows per forward pass on a device
    micro_batch_tokens: int | None = bounded(None, at_least=1)  # tokens instead, null: rows
    warmup_fraction: float = bounded(0.0, at_least=0, at_most=1)  # of the steps
    decay: str = choice("constant", "linear")  # of the learning rate after its warm-up
    weight_decay: float = bounded(0.01, at_least=0)  # of matrices; other weights have none
    adam_beta2: float = bounded(0.999, at_least=0, below=1)  # decay of the second moments
    gradient_clip: float | None = bounded(1.0, above=0)  # largest norm of gradients, null: no limit
    dropout: float = bounded(0.1, at_least=0, below=1)  # while training
    max_output_tokens: int = bounded(512, at_least=1)  # longer targets are cut
    eval_questions: int = bounded(200, at_least=0)  # val questions generated after an epoch
    eval_every_epochs: int = bounded(1, at_least=1)  # epochs between validations


@dataclass
class RewardConfig(FitConfig):
    """A reward model, trained `on` scores or pairs, with the `facts` of a problem in its prompt (docs/reward_models.md).

    Batches count questions, with all their rationales, and pairs.
    """

    on: list[str] = choices_of(*LABELS, default=["scores"])  # a field
    facts: list[str] = choices_of(*FACTS, default=FACTS)  # a field
    pool: str = choice("mean", "last")  # a rationale's reward: its sentences' mean, or the last one's
    likelihood: bool = True  # sentences that the backbone finds unlikely score less
    center: float = bounded(1e-3, at_least=0)  # of pairs: pulls their mean reward to 0
    holdout: float = bounded(0.1, at_least=0, at_most=0.9)  # fraction of questions to measure on
    epochs: int = bounded(4, at_least=1)
