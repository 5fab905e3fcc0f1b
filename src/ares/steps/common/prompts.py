"""Checks before a run that every prompt fits the model and every image can be read."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ares.config.schema import Config
from ares.ranks import world_size
from ares.steps.common.inputs import examples_of, model_settings, policy_class, texts_of
from ares.steps.prepare import images_hash, read_problems, source_hash
from ares.storage.failures import expected
from ares.storage.files import hash_of, read_object, write_json
from ares.text.prompts import may_exceed, shortened_note


def check_prompts(config: Config, source: Mapping[str, Path]) -> int:
    """How many prompts are too long for the model, so that their contexts are shortened.

    Raises AresError, with the pid, for the first prompt that the configured model refuses. A data set that passed is not
    read again until it, its images or the model's settings change.
    """
    if "data" not in source:
        return 0
    passed = Path(config.paths.runs).resolve() / "shared" / f"prompts-{_key(config, source)[:16]}.json"
    if not passed.exists():
        problems, splits = read_problems(config.data, source["data"])
        examples = list(examples_of(problems, problems, "QCM-E", config).values())
        limit = config.text.max_input_tokens
        if not config.model.reads_images:  # most need not be tokenized
            examples = [example for example in examples if may_exceed(example, limit)]
        shortened = examples and policy_class(config).check_prompts(
            model_settings(config),
            texts_of(examples_of(problems, splits["train"], "QCM-E", config)),
            examples,
            tokenizer=asdict(config.tokenizer),
            max_input_tokens=limit,
        )
        write_json(passed, {"problems": len(problems), "shortened": shortened or 0})
    with expected(passed):
        return int(read_object(passed)["shortened"])


def warn_shortened(count: int) -> None:
    """Reports how many contexts a step's policy shortened; of several ranks, none knows."""
    if count and world_size() == 1:
        print(f"warning: {shortened_note(count)}", file=sys.stderr)


def _key(config: Config, source: Mapping[str, Path]) -> str:
    """The hash of all that decides whether the prompts fit."""
    images = images_hash(config, source["data"]) if config.model.reads_images else None
    limits = [config.text.max_input_tokens, config.text.use_caption, asdict(config.tokenizer)]
    return hash_of([source_hash(config), images, model_settings(config), limits])
