"""What several steps read and how they train: problems, features, policies, prompts, loggers, progress."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from hydra.utils import instantiate

from ares.config.schema import Config
from ares.ranks import is_first
from ares.steps.common.contract import StepContext
from ares.steps.prepare import read_problems, source_hash
from ares.text.prompts import build_examples
from ares.types import AresError, Example, Problem
from ares.vision.features import FeatureStore

T = TypeVar("T")


def load_problems(config: Config, context: StepContext) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split, in the split's order."""
    return read_problems(config.data, context.inputs["data"])


def require_own_data(config: Config, root: Path, steps: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises AresError where a run's finished `steps` were made from other data than the configuration's.

    Not with on_change=keep.
    """
    if config.on_change == "keep":
        return
    given = source_hash(config)
    other = [key for key, entry in steps.items() if entry["inputs"]["data"]["sha256"] != given]
    if other:
        raise AresError(
            f"run={config.run}: {', '.join(other)} were made from other data than data={config.data['name']} as it is "
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


def policy_of(config: Config, folder: Path, *, dropout: float) -> tuple[Any, Any]:
    """The policy in a folder, on the run's device with the given dropout, and its tokenizer."""
    # transformers takes seconds to import, which a mistake in the configuration need not wait for
    from ares.models.t5.loading import load_policy
    from ares.text.tokenizers import load_tokenizer

    features = config.features["_target_"] is not None
    model: Any = load_policy(folder, dropout=dropout, features=features)
    return model.to(device_of(config)), load_tokenizer(folder)


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
    settings = {key: value for key, value in config.strategy.items() if key != "name"}
    if config.strategy["name"] != "fsdp":
        return instantiate(settings)
    if context.key.endswith("/ppo"):
        return instantiate({**settings, "data_parallel_size": world})
    from pytorch_lightning.strategies import DDPStrategy

    return DDPStrategy(timeout=instantiate(settings["timeout"]))


def logs_folder(run_root: Path, key: str) -> Path:
    """Where a step's metrics.csv lies."""
    return run_root / "logs" / key


def loggers_of(config: Config, context: StepContext) -> list[Any]:
    """A CSV logger always, so that the report has its curves; Weights & Biases beside it when asked for.

    The curves of a fit that is resumed go on; those of one that starts afresh begin anew.
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
    """The run folder's wandb run, with the whole configuration; offline without a key. It is begun on first use."""
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
        config=asdict(config),
    )
    logger.LOGGER_JOIN_CHAR = "/"
    return logger


def log_figures(config: Config, root: Path, steps: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts the figures of a manifest's `steps` into the summary of the wandb run, where there is one.

    In the summary, because a curve of the same name may stand beside it.
    """
    if config.logger.name != "wandb":
        return
    figures = {
        f"{key}/{name}": value for key, step in steps.items() for name, value in step["metrics"].items()
    }
    wandb_logger(config, root, "").experiment.summary.update(figures)
    if config.trainer.devices * config.trainer.num_nodes > 1:
        import wandb

        wandb.finish()  # the next step's first rank writes the same run


def wandb_id(root: Path) -> str:
    """One wandb run for one run folder, however often it is resumed."""
    from ares.storage.files import hash_of

    return hash_of(str(root.resolve()))[:12]


def progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """The items, with rank 0's bar that shows how many are done, how fast, and when the rest will be."""
    from tqdm import tqdm

    return iter(tqdm(items, total=total, desc=label, dynamic_ncols=True, disable=not is_first()))
