"""What the numbers of a configuration may be; a test holds the table against the schema: no number is left out."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ares.config.schema import Config


@dataclass(frozen=True)
class Bound:
    """What a finite number has to be, as a test and in `words`; `null`: None is allowed and means none, or the default."""

    holds: Callable[[float], bool]
    words: str
    null: bool = False


_COUNT = Bound(lambda x: x >= 1 and x == int(x), "be a whole number of at least 1")
_NATURAL = Bound(lambda x: x >= 0 and x == int(x), "be a whole number and not negative")
_SEED = Bound(lambda x: 0 <= x < 2**32 and x == int(x), "be a whole number between 0 and 4294967295")
_POSITIVE = Bound(lambda x: x > 0, "be above 0")
_NOT_NEGATIVE = Bound(lambda x: x >= 0, "not be negative")
_SHARE = Bound(lambda x: 0 <= x <= 1, "lie between 0 and 1")
_BELOW_ONE = Bound(lambda x: 0 <= x < 1, "be at least 0 and below 1")
_COUNT_OR_NULL, _POSITIVE_OR_NULL, _NOT_NEGATIVE_OR_NULL = (
    replace(bound, null=True) for bound in (_COUNT, _POSITIVE, _NOT_NEGATIVE)
)
_FIT = {
    "epochs": _COUNT,
    "lr": _POSITIVE,
    "global_batch_size": _COUNT,
    "micro_batch_size": _COUNT,
    "warmup_fraction": _SHARE,
    "weight_decay": _NOT_NEGATIVE,
    "adam_beta2": _BELOW_ONE,
    "gradient_clip": _POSITIVE_OR_NULL,
    "dropout": _BELOW_ONE,
    "max_output_tokens": _COUNT,
    "eval_questions": _NATURAL,
    "eval_every_epochs": _COUNT,
}
BOUNDS: Mapping[str, Bound] = {
    "seed": _SEED,
    "rounds": _COUNT,
    "text.max_input_tokens": _COUNT,
    "tokenizer.vocab_size": _COUNT,
    **{f"{block}.{key}": bound for block in ("rationale", "sft", "lora") for key, bound in _FIT.items()},
    "lora.r": _COUNT,
    "lora.alpha": _COUNT,
    "generate.max_new_tokens": _COUNT,
    "generate.batch_size": _COUNT,
    "rl.questions": _COUNT_OR_NULL,
    "rl.k": _COUNT,
    "rl.top_k": _NATURAL,
    "rl.top_p": _SHARE,
    "rl.temperature": _POSITIVE,
    "rl.max_new_tokens": _COUNT,
    "rl.questions_per_part": _COUNT,
    "rl.generation_batch": _COUNT,
    "rl.neutral": _SHARE,
    "rl.kl_coef": _NOT_NEGATIVE,
    "rl.gamma": _SHARE,
    "rl.lam": _SHARE,
    "rl.clip_range": _POSITIVE,
    "rl.value_clip_range": _POSITIVE_OR_NULL,
    "rl.vf_coef": _NOT_NEGATIVE,
    "rl.log_ratio_clamp": _POSITIVE_OR_NULL,
    "rl.target_kl": _POSITIVE_OR_NULL,
    "rl.ppo_epochs": _COUNT,
    "rl.value_warmup_epochs": _NATURAL,
    "rl.value_lr": _POSITIVE_OR_NULL,
    "rl.lr": _POSITIVE,
    "rl.warmup_fraction": _SHARE,
    "rl.weight_decay": _NOT_NEGATIVE,
    "rl.adam_eps": _POSITIVE,
    "rl.gradient_clip": _POSITIVE_OR_NULL,
    "rl.global_batch_size": _COUNT,
    "rl.micro_batch_size": _COUNT,
    "rl.holdout": Bound(lambda x: 0 <= x <= 0.9, "lie between 0 and 0.9"),
    "rl.eval_questions": _NATURAL,
    "rl.lora.r": _NATURAL,
    "rl.lora.alpha": _COUNT,
    "judge.questions": _COUNT_OR_NULL,
    "report.examples": _NATURAL,
    "trainer.devices": _COUNT,
    "trainer.num_nodes": _COUNT,
    "trainer.threads": _COUNT_OR_NULL,
    "sweep.samples": _COUNT_OR_NULL,
    "sweep.seed": _NATURAL,
    # Free-form blocks: where the file that is chosen has the key.
    "data.seed": _NATURAL,
    "data.captioner.max_new_tokens": _COUNT,
    "data.captioner.batch_size": _COUNT,
    "data.captioner.workers": _NATURAL,
    **{f"model.{key}": _COUNT for key in ("d_model", "d_ff", "d_kv", "layers", "heads")},
    **{f"features.{key}": _COUNT for key in ("batch_size", "patch_size", "image_size", "repeat")},
    "features.workers": _NATURAL,
    "teacher.concurrency": _COUNT,
    "teacher.timeout": _POSITIVE,
    "teacher.deadline": _POSITIVE,
    "teacher.max_tokens": _COUNT_OR_NULL,
    "teacher.max_usd": _NOT_NEGATIVE_OR_NULL,
    "strategy.timeout.seconds": _POSITIVE,
}


def value_at(config: Config, key: str) -> Any:
    """The value of a dotted key. Raises KeyError where a free-form block has no such key."""
    value: Any = config
    for part in key.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


def out_of_bounds(config: Config) -> Iterator[str]:
    """One sentence for each number that is not what it has to be."""
    for key, bound in BOUNDS.items():
        try:
            value = value_at(config, key)
        except KeyError:
            continue
        if value is None and bound.null:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (number and bound.holds(value)):
            yield f"{key}={value}: it must {bound.words}{', or null' if bound.null else ''}."
