"""Checks before a run that every prompt fits the model and every image can be read."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ares.config.schema import Config
from ares.steps.common.inputs import examples_of, model_settings, policy_class, texts_of
from ares.steps.prepare import images_hash, read_problems, source_hash
from ares.storage.files import hash_of, write_json


def check_prompts(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError, with the pid, for the first prompt that the configured model refuses.

    A data set that passed is not read again until it, its images or the model's settings change.
    """
    if not config.model.reads_images:
        return
    limits = [config.text.max_input_tokens, config.text.use_caption, asdict(config.tokenizer)]
    key = hash_of([source_hash(config), images_hash(config, source["data"]), model_settings(config), limits])
    passed = Path(config.paths.runs).resolve() / "shared" / f"prompts-{key[:16]}.json"
    if passed.exists():
        return
    problems, splits = read_problems(config.data, source["data"])
    train = examples_of(problems, splits["train"], "QCM-E", config)
    examples = examples_of(problems, problems, "QCM-E", config)
    policy_class(config).check_prompts(
        model_settings(config),
        texts_of(train),
        list(examples.values()),
        tokenizer=asdict(config.tokenizer),
        max_input_tokens=config.text.max_input_tokens,
    )
    write_json(passed, {"problems": len(problems)})
