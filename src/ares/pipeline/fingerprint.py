"""What a step's result depends on: its settings and its inputs, wherever these come from, and the hash of both."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.config.schema import Config
from ares.original.predictions import published_hash
from ares.pipeline.manifest import is_unaltered, read_manifest
from ares.pipeline.plan import Step, full_plan, published_of, settings_of
from ares.steps.prepare import source_hash
from ares.storage.files import hash_of, read_json, sha256_path
from ares.types import AresError


def address(
    root: Path,
    config: Config,
    step: Step,
    source: Mapping[str, Path],
    own: set[str],
    manifest: Mapping[str, Any],
) -> tuple[Any, dict[str, dict[str, str]], str]:
    """The step's settings, its inputs (path, sha256) by name, and the hash of both.

    `source`: the folders of problems and features; `own`: the paths that this stage's steps write, which `policy=`
    does not replace. Raises AresError where an input is not there.
    """
    inputs = {
        name: input_of(root, config, step, name, path, manifest, own) for name, path in step.inputs.items()
    }
    inputs |= {"data": {"path": str(source["data"]), "sha256": source_hash(config)}}
    if "features" in source and step.name not in ("score", "correct", "evaluate", "judge"):
        inputs["features"] = {"path": str(source["features"]), "sha256": _features_hash(source["features"])}
    if published := published_of(step, config):
        inputs["published"] = {"path": str(Path(published).resolve()), "sha256": published_hash(published)}
    settings = _plain(settings_of(step, config))
    hashes = {name: value["sha256"] for name, value in inputs.items()}
    return settings, inputs, hash_of({"settings": settings, "inputs": hashes})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _features_hash(folder: Path) -> str:
    return read_json(folder / "index.json")["sha256"]


def input_of(
    root: Path, config: Config, step: Step, name: str, path: str, manifest: Mapping[str, Any], own: set[str]
) -> dict[str, str]:
    """An input (path, sha256) of a step, by its name and its path in the run; raises AresError where it is not there."""
    if name in ("policy", "initial") and config.policy and path not in own:
        folder = named_policy(config)
        return {"path": str(folder.resolve()), "sha256": sha256_path(folder)}
    maker = next(s for s in full_plan(config.rounds) if path in s.outputs.values())
    label = next(label for label, output in maker.outputs.items() if output == path)
    made = manifest["steps"].get(maker.key, {"outputs": {}})["outputs"].get(label)
    if made and (root / made["path"]).exists():
        if is_unaltered(root, made):
            return {"path": made["path"], "sha256": made["sha256"]}
        if config.on_change == "keep":
            return {"path": made["path"], "sha256": sha256_path(root / made["path"])}
        raise AresError(
            f"{root / made['path']} was altered since {maker.key} made it; make it again with "
            f"`{command(_stage(maker), run=config.run, on_change='rerun')}`, or take it as it is with on_change=keep."
        )
    start = " or start from a policy with policy=<run or folder>" if name in ("policy", "initial") else ""
    raise AresError(
        f"{step.key} needs {root / path}, which is not there; make it with "
        f"`{command(_stage(maker), run=config.run)}`{start}."
    )


def _stage(maker: Step) -> str:
    """The stage that makes what a step makes."""
    return "ares" if maker.round > 1 else ("correct" if maker.key == "round-1/generate" else maker.name)


def named_policy(config: Config) -> Path:
    """The folder of `policy=<run or folder>`, of a run its last; raises AresError where there is none."""
    assert config.policy is not None
    folder = Path(config.policy)
    if (folder / "config.json").exists():
        return folder
    other = Path(config.paths.runs) / config.policy
    policies = [
        other / output["path"]
        for entry in read_manifest(other)["steps"].values()
        for name, output in entry["outputs"].items()
        if name == "policy" and (other / output["path"]).exists()
    ]
    if not policies:
        raise AresError(
            f"policy={config.policy} is neither a folder with a config.json nor a run with a policy in "
            f"{config.paths.runs}; name one of them."
        )
    return policies[-1]
