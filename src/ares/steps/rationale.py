"""rationale: fine-tunes an encoder-decoder to write the gold rationales; its result is the policy that RL improves."""

from collections.abc import Mapping
from typing import Any

from ares.config.schema import Config, FitConfig
from ares.datamodules.problems import ProblemData, RationaleData
from ares.evaluation.rationales import rouge_l
from ares.models.t5.loading import save_policy
from ares.ranks import gather, is_first
from ares.steps.common.contract import StepContext, StepResult
from ares.steps.common.fitting import data_arguments, fit_data
from ares.steps.common.inputs import device_of, examples_of, features_of, load_problems
from ares.storage.files import atomic_folder
from ares.text.tokenizers import load_tokenizer, train_tokenizer
from ares.types import Example


def rationale(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`; keeps the weights of the best validation by generated ROUGE-L."""
    problems, splits = load_problems(config, context)
    train = examples_of(problems, splits["train"], "QCM-E", config)
    tokenizer = _tokenizer(config, context, train)
    model = _initial_policy(config, context, tokenizer)
    data = RationaleData(problems, splits, tokenizer, **data_arguments(config, context, config.rationale))
    return fine_tune(config, context, config.rationale, model, data)


def fine_tune(
    config: Config, context: StepContext, fit: FitConfig, model: Any, data: ProblemData
) -> StepResult:
    """Fits a policy to rationales and saves it with dropout 0, as RL and generation want it."""
    figures = fit_data(config, context, fit, model, data, score=rouge_l, metric="val/rouge_l")
    if not is_first():
        return StepResult({})
    folder = context.folder / "policy"
    model.config.dropout_rate = 0.0
    with atomic_folder(folder) as temporary:
        save_policy(model, data.tokenizer, temporary)
    return StepResult({"policy": folder}, figures)


def _tokenizer(config: Config, context: StepContext, train: Mapping[str, Example]) -> Any:
    source = config.tokenizer.path or config.model.init
    if source:
        return load_tokenizer(source)
    texts = [text for example in train.values() for text in (example.prompt, example.target)]
    # The answer step's words too: the tokenizer is trained once for all steps.
    texts += [f"Answer: The answer is ({letter})." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    folder = context.folder / "tokenizer"
    trained = (
        train_tokenizer(texts, vocab_size=config.tokenizer.vocab_size, path=folder) if is_first() else None
    )
    gather(None)
    return trained or load_tokenizer(folder)


def _initial_policy(config: Config, context: StepContext, tokenizer: Any) -> Any:
    features = features_of(context)
    if config.model.init:
        model = config.model.build(
            config.model.init, dropout=config.rationale.dropout, features=features is not None
        )
    else:
        patches, dim = features.shape if features is not None else (1, 8)
        model = config.model.build(
            tokenizer,
            patch_num=patches,
            patch_dim=dim,
            dropout=config.rationale.dropout,
            seed=config.seed,
            features=features is not None,
        )
    return model.to(device_of(config))
