"""Inputs that several steps need: problems, features, policies, prompts, trainers and loggers."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_class

from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.steps.prepare import read_problems, source_hash
from ares.storage.files import hash_of
from ares.text.prompts import LETTERS, answer_sentence, build_examples
from ares.types import AresError, Example, Problem
from ares.vision.features import FeatureStore

# Importing transformers takes seconds; mistakes in the configuration are reported before that.
if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
    from pytorch_lightning.strategies import Strategy

    from ares.models.policy import Policy


def load_problems(config: Config, context: StepContext) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split, in the split's order."""
    return read_problems(config.data, context.inputs["data"])


def require_own_data(config: Config, root: Path, hashes: Mapping[str, str]) -> None:
    """Raises AresError if finished steps (their data's hash by key) read other data than the configuration's.

    With on_change=keep it does not.
    """
    if config.on_change == "keep":
        return
    own = source_hash(config)
    other = [key for key, sha256 in hashes.items() if sha256 != own]
    if other:
        raise AresError(
            f"run={config.run}: {', '.join(other)} read other data than data={config.data.name} with the present "
            f"settings; use the run's own settings, which are in {root / 'config.yaml'}, or on_change=keep."
        )


def examples_of(
    problems: Mapping[str, Problem],
    pids: Iterable[str],
    prompt_format: str,
    config: Config,
    rationales: Mapping[str, str] | None = None,
) -> dict[str, Example]:
    """The examples of the given problems by pid, in a prompt format; some formats need `rationales` by pid."""
    return build_examples(problems, pids, prompt_format, rationales=rationales, **text_of(config))


def texts_of(train: Mapping[str, Example]) -> list[str]:
    """The texts that a new tokenizer is trained on, once for all steps: training examples, and the words of answers."""
    texts = [text for example in train.values() for text in (example.prompt, example.target)]
    return texts + [f"Answer: {answer_sentence(letter)}" for letter in LETTERS]


def text_of(config: Config) -> dict[str, Any]:
    """The settings of `build_example`."""
    return {"use_caption": config.text.use_caption, "newline": config.text.newline}


def policy_class(config: Config) -> type["Policy"]:
    """The class of the configured model (`model._target_`)."""
    return get_class(config.model._target_ or "")


def model_settings(config: Config) -> dict[str, Any]:
    """The settings of the configured model, as its class takes them."""
    return {"name": config.model.name, "init": config.model.init, **config.model.arguments}


def base_policy(
    config: Config,
    context: StepContext,
    problems: Mapping[str, Problem],
    pids: Iterable[str],
    *,
    dropout: float,
) -> "Policy":
    """The model that fine-tuning starts from, on the run's device; a new tokenizer is trained on the problems in `pids`."""
    policy = policy_class(config).start(
        model_settings(config),
        texts_of(examples_of(problems, pids, "QCM-E", config)),
        tokenizer=asdict(config.tokenizer),
        seed=config.seed,
        dropout=dropout,
        **reading_of(config, context),
    )
    return policy.to(device_of(config))


def policy_of(config: Config, context: StepContext, folder: Path, *, dropout: float = 0.0) -> "Policy":
    """The policy in a folder, on the run's device, with the given dropout."""
    reading = reading_of(config, context)
    return policy_class(config).load(folder, dropout=dropout, **reading).to(device_of(config))


def reading_of(config: Config, context: StepContext) -> dict[str, Any]:
    """A policy's settings for inputs, texts and memory: image features, the longest prompt, the newline rule."""
    features = context.inputs.get("features")
    return {
        "features": FeatureStore(features) if features else None,
        "max_input_tokens": config.text.max_input_tokens,
        "newline": config.text.newline,
        "checkpointing": config.trainer.activation_checkpointing,
    }


def device_of(config: Config) -> str:
    """The device of a policy: a GPU if there is one, unless trainer.accelerator=cpu; its products are exact in float32."""
    import torch

    # TF32 would change a probability by more than `check_first_ratio` allows; who wants speed has bfloat16.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda" if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def trainer_arguments(config: Config, context: StepContext) -> dict[str, Any]:
    """The arguments that every Lightning Trainer of a run shares."""
    from ares.modules.interruption import StopOnSignal
    from ares.modules.progress import FitProgress

    return {
        "accelerator": config.trainer.accelerator,
        "devices": config.trainer.devices,
        "num_nodes": config.trainer.num_nodes,
        "precision": config.trainer.precision,
        "strategy": strategy_of(config, context),
        "logger": loggers_of(config, context),
        "default_root_dir": context.folder,
        "enable_model_summary": False,
        "log_every_n_steps": 10,
        "callbacks": [FitProgress(), StopOnSignal(context.key)],
    }


def strategy_of(config: Config, context: StepContext) -> "Strategy | str":
    """Lightning's strategy for a step; on one device "auto", whatever strategy is configured.

    fsdp shards steps that train all weights; `lora` trains a small adapter, with ddp.
    """
    world = config.trainer.devices * config.trainer.num_nodes
    if world == 1:
        return "auto"
    timeout = timedelta(seconds=config.strategy.timeout.seconds)
    if config.strategy.name != "fsdp":
        return config.strategy.build(timeout=timeout)
    if not context.key.endswith("/lora"):
        return config.strategy.build(timeout=timeout, data_parallel_size=world)
    from pytorch_lightning.strategies import DDPStrategy

    return DDPStrategy(timeout=timeout)


def logs_folder(run_root: Path, key: str) -> Path:
    """The folder of a step's metrics.csv."""
    return run_root / "logs" / key


def loggers_of(config: Config, context: StepContext) -> list["Logger"]:
    """A CSV logger, whose curves the report draws, and Weights & Biases or TensorBoard if configured.

    A resumed fit continues its curves.
    """
    from ares.steps.common.curves import CurveLogger

    curves = CurveLogger(logs_folder(context.root, context.key) / "metrics.csv", prefix=context.key)
    if config.logger.name == "wandb":
        return [curves, wandb_logger(config, context.root, context.key)]
    if config.logger.name == "tensorboard":
        return [curves, _tensorboard_logger(context)]
    return [curves]


def _tensorboard_logger(context: StepContext) -> "TensorBoardLogger":
    from pytorch_lightning.loggers import TensorBoardLogger

    # One folder for all steps, whose keys precede the names of their curves.
    logger = TensorBoardLogger(context.root, name="tensorboard", version="", prefix=context.key)
    logger.LOGGER_JOIN_CHAR = "/"
    return logger


def wandb_logger(config: Config, root: Path, prefix: str) -> "WandbLogger":
    """The run folder's one wandb run, with the full configuration; offline without a key. It starts on first use."""
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.logger.group,
        name=config.run,
        id=hash_of(str(root.resolve()))[:12],
        resume="allow",
        offline=not os.environ.get("WANDB_API_KEY"),
        save_dir=str(root),
        prefix=prefix,
        config=to_plain(config),
    )
    logger.LOGGER_JOIN_CHAR = "/"
    return logger


def log_metrics(config: Config, root: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Adds the metrics of finished steps (by key) to the summary of the wandb run, if configured.

    Not as curves, because a curve may have the same name.
    """
    if config.logger.name != "wandb":
        return
    flat = {f"{key}/{name}": value for key, step in metrics.items() for name, value in step.items()}
    wandb_logger(config, root, "").experiment.summary.update(flat)
    if config.trainer.devices * config.trainer.num_nodes > 1:
        import wandb

        wandb.finish()  # the first rank of the next step writes the same run
