"""rationale: fine-tunes an encoder-decoder to write the gold rationales; its result is the policy that RL improves."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_method

from ares.datamodules.problems import ProblemData, RationaleData
from ares.evaluation.rationales import rouge_l
from ares.models.loading import save_policy
from ares.ranks import gather, is_first
from ares.schema import Config, FitConfig
from ares.step import Outputs, Run
from ares.steps.fitting import data_arguments, fit_data
from ares.steps.inputs import device_of, examples_of, features_of, problems_of
from ares.store import atomic_folder
from ares.text.tokenizers import load_tokenizer, train_tokenizer
from ares.types import Example


def rationale(config: Config, run: Run) -> Outputs:
    """Writes `policy/`; keeps the weights of the best validation by generated ROUGE-L."""
    problems, splits = problems_of(config, run)
    train = examples_of(problems, splits["train"], "QCM-E", config)
    tokenizer = _tokenizer(config, run, train)
    model = _initial_policy(config, run, tokenizer)
    data = RationaleData(problems, splits, tokenizer, **data_arguments(config, run, config.rationale))
    return fine_tune(config, run, config.rationale, model, data)


def fine_tune(config: Config, run: Run, fit: FitConfig, model: Any, data: ProblemData) -> Outputs:
    """Fits a policy to rationales and saves it with dropout 0, as RL and generation want it."""
    figures = fit_data(config, run, fit, model, data, score=rouge_l, metric="val/rouge_l")
    if not is_first():
        return Outputs({})
    folder = run.folder / "policy"
    model.config.dropout_rate = 0.0
    with atomic_folder(folder) as temporary:
        save_policy(model, data.tokenizer, temporary)
    return Outputs({"policy": folder}, figures)


def _tokenizer(config: Config, run: Run, train: Mapping[str, Example]) -> Any:
    source = config.tokenizer.path or config.model["init"]
    if source:
        return load_tokenizer(source)
    texts = [text for example in train.values() for text in (example.prompt, example.target)]
    # The answer step's words too: the tokenizer is trained once for all steps.
    texts += [f"Answer: The answer is ({letter})." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    folder = run.folder / "tokenizer"
    trained = (
        train_tokenizer(texts, vocab_size=config.tokenizer.vocab_size, path=folder) if is_first() else None
    )
    gather(None)
    return trained or load_tokenizer(folder)


def _initial_policy(config: Config, run: Run, tokenizer: Any) -> Any:
    settings = {key: value for key, value in config.model.items() if key not in ("name", "_target_", "init")}
    make = get_method(config.model["_target_"])
    features = features_of(run)
    if config.model["init"]:
        model = make(
            config.model["init"], dropout=config.rationale.dropout, features=features is not None, **settings
        )
    else:
        patches, dim = features.shape if features is not None else (1, 8)
        model = make(
            tokenizer,
            patch_num=patches,
            patch_dim=dim,
            dropout=config.rationale.dropout,
            seed=config.seed,
            features=features is not None,
            **settings,
        )
    return model.to(device_of(config))
