"""What several steps need of a run: problems, features, policies, prompts, trainers and loggers."""

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_class

from ares.config.compose import to_plain
from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import StepContext
from ares.steps.prepare import read_problems, source_hash
from ares.text.prompts import build_examples
from ares.types import AresError, Example, Problem
from ares.vision.features import FeatureStore

if (
    TYPE_CHECKING
):  # transformers takes seconds to import, which a mistake in the configuration need not wait for
    from ares.models.policy import Policy


def load_problems(config: Config, context: StepContext) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split, in the split's order."""
    return read_problems(config.data, context.inputs["data"])


def require_own_data(config: Config, root: Path, hashes: Mapping[str, str]) -> None:
    """Raises AresError where finished steps (the hash of their data by key) read other data than the configuration's.

    Not with on_change=keep.
    """
    if config.on_change == "keep":
        return
    own = source_hash(config)
    other = [key for key, sha256 in hashes.items() if sha256 != own]
    if other:
        raise AresError(
            f"run={config.run}: {', '.join(other)} were made from other data than data={config.data.name} as it is "
            f"set now; give the run's own settings, which {root / 'config.yaml'} holds, or on_change=keep."
        )


def features_of(context: StepContext) -> FeatureStore | None:
    """The image features, None with features=none."""
    return FeatureStore(context.inputs["features"]) if "features" in context.inputs else None


def examples_of(
    problems: Mapping[str, Problem],
    pids: Iterable[str],
    prompt_format: str,
    config: Config,
    rationales: Mapping[str, str] | None = None,
) -> dict[str, Example]:
    """The examples of the given problems in a prompt format, with a rationale each where the format wants one."""
    return build_examples(problems, pids, prompt_format, rationales=rationales, **text_of(config))


def text_of(config: Config) -> dict[str, Any]:
    """How problems become texts, for `build_example`."""
    return {"use_caption": config.text.use_caption, "newline": config.text.newline}


def policy_class(config: Config) -> type["Policy"]:
    """The class of the configured model (`model._target_`)."""
    return get_class(config.model._target_ or "")


def model_settings(config: Config) -> dict[str, Any]:
    """The settings of the configured model, as its class takes them."""
    return {"name": config.model.name, "init": config.model.init, **config.model.arguments}


def policy_of(config: Config, context: StepContext, folder: Path, *, dropout: float = 0.0) -> "Policy":
    """The policy in a folder, on the run's device, with the given dropout."""
    reading = reading_of(config, context)
    return policy_class(config).load(folder, dropout=dropout, **reading).to(device_of(config))


def reading_of(config: Config, context: StepContext) -> dict[str, Any]:
    """How a policy reads problems: image features, the longest prompt, and the rule from ids to text."""
    return {
        "features": features_of(context),
        "max_input_tokens": config.text.max_input_tokens,
        "newline": config.text.newline,
    }


def device_of(config: Config) -> str:
    """The device of generation and scoring: a GPU where there is one and it is not declined."""
    import torch

    return "cuda" if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def trainer_arguments(config: Config, context: StepContext) -> dict[str, Any]:
    """The arguments that every Lightning Trainer of a run shares."""
    from pytorch_lightning.callbacks import TQDMProgressBar

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
        "callbacks": [TQDMProgressBar(refresh_rate=20)],
    }


def strategy_of(config: Config, context: StepContext) -> Any:
    """Lightning's strategy for a step; on one device there is no group, whatever the strategy is called."""
    world = config.trainer.devices * config.trainer.num_nodes
    if world == 1:
        return "auto"
    timeout = timedelta(seconds=config.strategy.timeout.seconds)
    if config.strategy.name != "fsdp":
        return config.strategy.build(timeout=timeout)
    if context.key.endswith("/ppo"):
        return config.strategy.build(timeout=timeout, data_parallel_size=world)
    from pytorch_lightning.strategies import DDPStrategy

    return DDPStrategy(timeout=timeout)


def logs_folder(run_root: Path, key: str) -> Path:
    """Where a step's metrics.csv lies."""
    return run_root / "logs" / key


def loggers_of(config: Config, context: StepContext) -> list[Any]:
    """A CSV logger, from which the report draws its curves, and Weights & Biases if configured.

    The curves of a resumed fit continue; a fit that starts again begins new ones.
    """
    from ares.steps.common.curves import CurveLogger

    folder = logs_folder(context.root, context.key)
    if is_first() and not (context.checkpoints / "last.ckpt").exists():
        (folder / "metrics.csv").unlink(missing_ok=True)
    curves = CurveLogger(
        folder.parent, name=folder.name, version="", prefix=context.key, flush_logs_every_n_steps=20
    )
    return (
        [curves, wandb_logger(config, context.root, context.key)]
        if config.logger.name == "wandb"
        else [curves]
    )


def wandb_logger(config: Config, root: Path, prefix: str) -> Any:
    """The run folder's wandb run, with the full configuration; offline without a key. It starts on first use."""
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(
        project=config.logger.project,
        entity=config.logger.entity,
        group=config.logger.group,
        name=config.run,
        id=wandb_id(root),
        resume="allow",
        offline=not os.environ.get("WANDB_API_KEY"),
        save_dir=str(root),
        prefix=prefix,
        config=to_plain(config),
    )
    logger.LOGGER_JOIN_CHAR = "/"
    return logger


def log_metrics(config: Config, root: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Puts the metrics of finished steps, by the steps' keys, into the summary of the wandb run, if there is one.

    In the summary, because there may be a curve of the same name.
    """
    if config.logger.name != "wandb":
        return
    flat = {f"{key}/{name}": value for key, step in metrics.items() for name, value in step.items()}
    wandb_logger(config, root, "").experiment.summary.update(flat)
    if config.trainer.devices * config.trainer.num_nodes > 1:
        import wandb

        wandb.finish()  # the next step's first rank writes the same run


def wandb_id(root: Path) -> str:
    """One wandb run for one run folder, however often it is resumed."""
    from ares.storage.files import hash_of

    return hash_of(str(root.resolve()))[:12]
