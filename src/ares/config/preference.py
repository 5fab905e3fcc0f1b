"""Settings of preference optimization: pairs and prefer."""

from dataclasses import dataclass, field

from ares.config.fields import bounded, choice


@dataclass
class PairsConfig:
    """Where pairs come from (docs/preferences.md)."""

    source: str = choice("best_worst", "all", "same_prefix", "corrections", "brought")  # of pairs
    by: str = choice(
        "mean", "total"
    )  # what a response is worth: the mean or the sum of its sentences' scores
    margin: float = bounded(0.0, at_least=0)  # of scores that a pair of rollouts must exceed
    max_output_tokens: int = bounded(512, at_least=1)  # of texts that are encoded; longer ones are cut
    batch_size: int = bounded(16, at_least=1)  # pairs per forward pass of the reference


@dataclass
class DdpoConfig:
    """The weights of tokens with prefer.loss=ddpo; those that do not differ have 1."""

    gamma: float = bounded(5.0, above=0)  # weight of tokens that differ between the sides
    min_match: int = bounded(3, at_least=1)  # tokens in a row that count as the same
    normalize: bool = True  # divide by the sum of a response's weights
    mask_unchanged: bool = False  # count changed tokens only, as VL-RLHF does


@dataclass
class PreferConfig:
    """Preference optimization (docs/preferences.md)."""

    loss: str = choice("dpo", "ipo", "hinge", "ddpo", "kto_pair", "kto", "apo_zero")  # of a pair
    beta: float = bounded(0.1, above=0)  # how strongly the policy is held to the reference
    label_smoothing: float = bounded(0.0, at_least=0, below=0.5)  # of dpo and ddpo: share of wrong pairs
    length_norm: bool = False  # means over tokens instead of sums
    desirable_weight: float = bounded(1.0, at_least=0)  # of chosen responses, kto
    undesirable_weight: float = bounded(1.0, at_least=0)  # of rejected responses, kto
    ddpo: DdpoConfig = field(default_factory=DdpoConfig)
    epochs: int = bounded(1, at_least=1)  # passes over the pairs
    lr: float = bounded(5e-6, above=0)  # peak learning rate
    global_batch_size: int = bounded(32, at_least=1)  # pairs per optimizer step, on all devices
    micro_batch_size: int = bounded(4, at_least=1)  # pairs per forward pass on a device
    micro_batch_tokens: int | None = bounded(None, at_least=1)  # tokens instead, null: pairs
    warmup_fraction: float = bounded(0.1, at_least=0, at_most=1)  # of the steps
    decay: str = choice("constant", "linear", default="linear")  # of the learning rate
    weight_decay: float = bounded(0.0, at_least=0)  # of matrices
    adam_beta2: float = bounded(0.999, at_least=0, below=1)  # decay of the second moments
    gradient_clip: float | None = bounded(1.0, above=0)  # largest norm, null: no limit
    holdout: float = bounded(0.05, at_least=0, at_most=0.9)  # fraction of questions to measure on
