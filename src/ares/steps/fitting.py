"""Supervised fine-tuning as the steps want it: examples in, a model trained in place and its figures out."""

from collections.abc import Mapping
from typing import Any

from ares.datamodules.base import encode_examples
from ares.modules.seq2seq import Score, fit_seq2seq
from ares.schema import Config, FitConfig
from ares.step import Run
from ares.steps.inputs import features_of, trainer_arguments
from ares.types import Example


def fit_examples(
    config: Config,
    run: Run,
    fit: FitConfig,
    model: Any,
    tokenizer: Any,
    train: Mapping[str, Example],
    val: Mapping[str, Example],
    *,
    score: Score,
    metric: str,
) -> dict[str, float]:
    """Trains `model` on the examples' targets; it is left with the weights of its best validation by `score`."""
    lengths = {"max_input_tokens": config.text.max_input_tokens, "max_output_tokens": fit.max_output_tokens}
    return fit_seq2seq(
        model,
        tokenizer,
        encode_examples(tokenizer, train, **lengths),
        encode_examples(tokenizer, val, **lengths),
        fit,
        score=score,
        metric=metric,
        features=features_of(run),
        devices=config.trainer.devices * config.trainer.num_nodes,
        eval_batch=config.generate.batch_size,
        seed=config.seed,
        checkpoints=run.checkpoints,
        trainer_arguments=trainer_arguments(config, run),
    )
