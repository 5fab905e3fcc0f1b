"""Data, images, features and checkpoints: found, missing, readable, fitting together."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.config.schema import Config
from ares.doctor.findings import Finding, parts
from ares.models.t5.names import checkpoint_patch_dim, checkpoint_shapes
from ares.pipeline.stale import named_policy
from ares.steps.evaluate import check_split
from ares.steps.prepare import PROBLEM_FILES, prepared, read_problems
from ares.types import AresError, Problem
from ares.vision.features import FeatureStore

Problems = dict[str, Problem]
Splits = dict[str, list[str]]


def check_data(config: Config, steps: Sequence[str]) -> tuple[Problems, Splits, list[Finding]]:
    """The problems and their splits, empty where they cannot be read, and what is to be said of them."""
    root = Path(config.data.root or "")
    if config.data.name == "sample":
        return {}, {}, [Finding("ok", "data", "sample: made on the spot")]
    try:
        problems, splits = read_problems(config.data, root)
    except AresError as error:
        hub = config.data.hub
        text, remedy = parts(error)
        if hub and not any(any(root.glob(name)) for name in PROBLEM_FILES):
            if "prepare" in steps:
                return {}, {}, [_fetched(root, hub)]
            remedy = f"{command('prepare')} fetches {hub}; or data.root=<folder>"
        return {}, {}, [Finding("problem", "data", text, remedy)]
    sizes = ", ".join(f"{split} {len(pids):,}" for split, pids in splits.items())
    captions = sum(bool(problem.caption) for problem in problems.values())
    text = f"{len(problems):,} problems ({sizes}), {captions:,} captions in {config.data.root}"
    findings = (
        [Finding("ok", "data", text)]
        if splits["train"]
        else [
            Finding(
                "problem", "data", f"{text}: no train split", "name the split in pid_splits.json or the rows"
            )
        ]
    )
    if "evaluate" in steps and splits["train"]:
        findings += _unanswered(config, root)
    return problems, splits, [*findings, *_images(config, problems)]


def _fetched(root: Path, hub: str) -> Finding:
    if hub.startswith(("/", ".", "~")) and not Path(hub).is_dir():
        return Finding("problem", "data", f"data.hub={hub} is no folder", "data.hub=<hub id or folder>")
    return Finding("note", "data", f"none in {root} yet", f"it is fetched from {hub}")


def _unanswered(config: Config, root: Path) -> Iterator[Finding]:
    try:
        check_split(config, root)
    except AresError as error:
        yield Finding("problem", "data", *parts(error))


def _images(config: Config, problems: Mapping[str, Problem]) -> Iterator[Finding]:
    images = {problem.image: pid for pid, problem in problems.items() if problem.image is not None}
    missing = [image for image in images if not image.is_file()]
    text = f"{len(images) - len(missing):,} of {len(images):,} found"
    if not missing:
        yield Finding("ok", "images", text)
        return
    example = f"{text}; missing: {missing[0]} (problem {images[missing[0]]})"
    if config.features._target_ is None:
        yield Finding(
            "note", "images", example, "none is needed with features=none, but the Teacher sees none either"
        )
    else:
        place = (
            ", or say where COCO's folders are: data.coco=<folder>" if "coco" in config.data.arguments else ""
        )
        yield Finding(
            "note" if isinstance(_existing(config), Path) else "problem",
            "images",
            example,
            f"put them there{place}, or do without those: features.on_corrupt=skip, or without any: features=none",
        )


def _existing(config: Config) -> Path | AresError:
    """The folder of the image features, or why a run would refuse it."""
    try:
        folder = prepared(config, make=False)["features"]
        FeatureStore(folder)
    except (AresError, OSError) as error:
        return AresError(str(error))
    return folder


def check_features(
    config: Config, problems: Mapping[str, Problem], steps: Sequence[str]
) -> tuple[list[Finding], int | None]:
    """What is to be said of the image features, and the numbers of a patch where they exist."""
    if config.features._target_ is None:
        return [Finding("ok", "features", "none: the model sees text only")], None
    if config.data.name == "sample":
        return [Finding("ok", "features", "made with the sample")], None
    folder = _existing(config)
    if isinstance(folder, AresError):
        if "prepare" in steps and not config.features.path:
            return [*_makeable(config)], None
        text, remedy = parts(folder)
        return [Finding("problem", "features", text, remedy or command("prepare"))], None
    store = FeatureStore(folder)
    known = sum(pid in store for pid in problems)
    missing = store.missing(pid for pid, problem in problems.items() if problem.image is not None)
    text = f"{store.shape[0]} x {store.shape[1]} of {known:,} problems in {folder}"
    if missing:
        remedy = "the model sees zeros there; repair the images and run stage=prepare again"
        return [Finding("note", "features", f"{text}; {len(missing):,} have none", remedy)], store.shape[1]
    return [Finding("ok", "features", text)], store.shape[1]


def _makeable(config: Config) -> Iterator[Finding]:
    """Whether the files that features are made from are there."""
    features = config.features
    files = {
        "arrays": features.arrays,
        "name_map": features.name_map,
        "checkpoint": features.arguments.get("checkpoint"),
    }
    gone = [f"features.{key}={path}" for key, path in files.items() if path and not Path(path).is_file()]
    for name in gone:
        yield Finding("problem", "features", f"{name} is not a file", "give its path, or null")
    if not gone:
        yield Finding("ok", "features", f"features={config.features.name} are made by this stage")


def check_checkpoints(config: Config, steps: Sequence[str], patch_dim: int | None) -> Iterator[Finding]:
    """The model to start from, or the policy, readable and of the features' width."""
    if "rationale" in steps and not config.policy:
        init = config.model.init
        if init is None:
            yield Finding("ok", "model", f"{config.model.name}: from scratch")
        else:
            yield from _checkpoint("model", f"model.init={init}", init, patch_dim)
    elif {"rollout", "ppo"} & set(steps) or (config.policy and {"generate", "sft", "lora"} & set(steps)):
        yield from _policy(config, patch_dim)


def _policy(config: Config, patch_dim: int | None) -> Iterator[Finding]:
    stage = config.doctor.stage
    run = config.run.replace("doctor-", f"{stage}-", 1)
    own = Path(config.paths.runs) / run / "rationale/policy"
    if config.policy is None and not own.is_dir():
        yield Finding(
            "problem",
            "policy",
            f"stage={stage} starts from a policy, and {own} is not there",
            f"{command('rationale', run=run)}, or policy=<run or folder>",
        )
        return
    try:
        place = own if config.policy is None else named_policy(config)
    except AresError as error:
        yield Finding("problem", "policy", *parts(error))
        return
    yield from _checkpoint("policy", f"policy={config.policy or own}", str(place), patch_dim)


def _checkpoint(subject: str, name: str, path: str, patch_dim: int | None) -> Iterator[Finding]:
    local = Path(path).is_dir()
    try:
        shapes = checkpoint_shapes(path, **({} if local else {"local_files_only": True}))
    except Exception as error:  # a torn file fails in as many ways as there are formats
        remedy = "copy it again, or name another: model.init=<folder>, policy=<folder>"
        yield Finding("problem", subject, f"{name} cannot be read ({str(error).splitlines()[0]})", remedy)
        return
    if not shapes and not local and not os.environ.get("HF_HUB_OFFLINE"):
        yield Finding(
            "note", subject, f"{name} is not in the hub's cache", "it is downloaded at the start of the run"
        )
    elif not shapes:
        yield Finding(
            "problem",
            subject,
            f"{name} has no weights here",
            "give a folder: model.init=<folder>, policy=<folder>",
        )
    else:
        yield from _fitting(subject, name, path, local, patch_dim)


def _fitting(subject: str, name: str, path: str, local: bool, patch_dim: int | None) -> Iterator[Finding]:
    where: dict[str, Any] = {} if local else {"local_files_only": True}
    own = checkpoint_patch_dim(path, **where)
    if own is None:
        yield Finding("ok", subject, f"{name} is readable; its image fusion is initialised")
    elif patch_dim is not None and own != patch_dim:
        yield Finding(
            "problem",
            subject,
            f"{name} reads patches of {own} numbers, the features have {patch_dim}",
            "choose the features it was trained with: features=vit (1024), clip (2048), detr (256)",
        )
    else:
        yield Finding("ok", subject, f"{name} is readable; patches of {own} numbers")
