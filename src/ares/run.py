"""Runs a stage's steps in a run folder: skips what is done, resumes what is not, refuses what changed."""

import dataclasses
import importlib
import logging
import os
import platform
import shutil
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from ares.launch import check_devices
from ares.steps.asking import TEACHER_STEPS, check_teacher
from ares.steps.plan import Step, full_plan, select, settings_of
from ares.steps.prepare import prepared, source_hash
from ares.store import Outputs, Run, atomic_path, hash_of, read_json, sha256_path, write_json
from ares.types import AresError, Config

_PACKAGES = ("ares", "torch", "transformers", "pytorch-lightning", "peft", "tokenizers", "numpy")


def run_stage(config: Config) -> None:
    """Runs `config.stage` in `<paths.runs>/<run>`.

    Raises AresError where an upstream artefact is missing, a finished step's configuration or inputs
    differ (`on_change=refuse`), or another process writes the same run.
    """
    _quieten()
    check_devices(config)
    root = (Path(config.paths.runs) / config.run).resolve()
    root.mkdir(parents=True, exist_ok=True)
    if config.trainer.threads:
        import torch

        torch.set_num_threads(config.trainer.threads)
    with _lock(root):
        steps = select(full_plan(config.rounds), config.stage.name, list(config.stage.steps))
        made = read_manifest(root)["steps"]
        if any(step.name in TEACHER_STEPS and step.key not in made for step in steps):
            check_teacher(config)  # before hours of training, not after them
        source = prepared(config, make=config.data["name"] == "sample" or "prepare" in config.stage.steps)
        _write_config(root, config)
        if config.policy:
            steps = [step for step in steps if step.name != "rationale"]
        own = {path for step in steps for path in step.outputs.values()}
        ran = [_run_step(root, config, step, source, own) for step in steps]
        if "report" in config.stage.steps:
            from ares.steps.report import report

            page = report(config, root)
            print(f"report: {page.resolve()}")
        elif not any(ran):
            print(f"{config.run}: everything that stage={config.stage.name} makes is there; nothing to do.")


def _quieten() -> None:
    # Libraries' notices that a user of this suite can do nothing about.
    for name in (
        "pytorch_lightning",
        "pytorch_lightning.utilities.rank_zero",
        "lightning_fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for message in (".*does not have many workers.*", ".*tie_word_embeddings.*", ".*isinstance.*LeafSpec.*"):
        warnings.filterwarnings("ignore", message=message)


def _lock(root: Path) -> AbstractContextManager[Any]:
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise AresError(
            f"{root} is being written by another process; wait for it, or choose another run=<name>."
        ) from None
    return lock


def _write_config(root: Path, config: Config) -> None:
    with atomic_path(root / "config.yaml") as path:
        path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


# --------------------------------------------------------------------------------------------------
# The manifest
# --------------------------------------------------------------------------------------------------


def read_manifest(root: Path) -> dict[str, Any]:
    """The run's manifest: `{"run": name, "steps": {key: entry}}`, empty before the first step has ended."""
    path = root / "manifest.json"
    return read_json(path) if path.exists() else {"run": root.name, "steps": {}}


def _write_entry(root: Path, key: str, entry: Mapping[str, Any]) -> None:
    manifest = read_manifest(root)
    manifest["steps"][key] = entry
    write_json(root / "manifest.json", manifest)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# --------------------------------------------------------------------------------------------------
# One step
# --------------------------------------------------------------------------------------------------


def _run_step(root: Path, config: Config, step: Step, source: Mapping[str, Path], own: set[str]) -> bool:
    manifest = read_manifest(root)
    inputs = {
        name: _input(root, config, step, name, path, manifest, own) for name, path in step.inputs.items()
    }
    inputs |= {"data": {"path": str(source["data"]), "sha256": source_hash(config)}}
    if "features" in source and step.name not in ("score", "correct", "evaluate", "judge"):
        inputs["features"] = {"path": str(source["features"]), "sha256": _features_hash(source["features"])}
    settings = _plain(settings_of(step, config))
    digest = hash_of(
        {"settings": settings, "inputs": {name: value["sha256"] for name, value in inputs.items()}}
    )
    done = manifest["steps"].get(step.key)
    if done and _whole(root, done):
        if done["hash"] == digest:
            print(f"{step.key}: done")
            return False
        if config.on_change == "keep":
            print(f"{step.key}: kept, though {_difference(done, settings, inputs)} differs")
            return False
        if config.on_change == "refuse":
            raise AresError(_refusal(step, config, done, settings, inputs, manifest))
    _execute(root, config, step, settings, inputs, digest)
    return True


def _execute(
    root: Path, config: Config, step: Step, settings: Any, inputs: dict[str, dict[str, str]], digest: str
) -> None:
    paths = {name: _resolve(root, value["path"]) for name, value in inputs.items()}
    run = Run(root, step.key, root / step.folder, step.round, config, digest, paths)
    run.folder.mkdir(parents=True, exist_ok=True)
    print(f"{step.key}: started", flush=True)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    function = getattr(importlib.import_module(f"ares.steps.{step.name}"), step.name)
    made: Outputs = function(config, run)
    seconds = time.monotonic() - clock
    outputs = {
        name: {"path": os.path.relpath(path, root), "sha256": sha256_path(path)}
        for name, path in made.files.items()
    }
    entry = {
        "hash": digest,
        "settings": settings,
        "inputs": inputs,
        "outputs": outputs,
        "versions": _versions(),
        "started": started,
        "seconds": round(seconds, 2),
        "usd": made.usd,
        "requests": made.requests,
        "metrics": {name: float(value) for name, value in made.metrics.items()},
    }
    _write_entry(root, step.key, entry)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    print(f"{step.key}: {_summary(made)}{seconds:.1f} s", flush=True)


def _summary(made: Outputs) -> str:
    return "".join(
        f"{name.rsplit('/', 1)[-1]} {value:.4g} · " for name, value in list(made.metrics.items())[:6]
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _resolve(root: Path, path: str) -> Path:
    return Path(path) if Path(path).is_absolute() else root / path


def _whole(root: Path, entry: Mapping[str, Any]) -> bool:
    return all((root / output["path"]).exists() for output in entry["outputs"].values())


def _features_hash(folder: Path) -> str:
    return read_json(folder / "index.json")["sha256"]


# --------------------------------------------------------------------------------------------------
# Where a step's inputs come from
# --------------------------------------------------------------------------------------------------


def _input(
    root: Path, config: Config, step: Step, name: str, path: str, manifest: Mapping[str, Any], own: set[str]
) -> dict[str, str]:
    if name in ("policy", "initial") and config.policy and path not in own:
        folder = _named_policy(config)
        return {"path": str(folder.resolve()), "sha256": sha256_path(folder)}
    for entry in manifest["steps"].values():
        for output in entry["outputs"].values():
            if output["path"] == path and (root / path).exists():
                return {"path": path, "sha256": output["sha256"]}
    maker = next(s for s in full_plan(config.rounds) if path in s.outputs.values())
    stage = "ares" if maker.round > 1 else ("correct" if maker.key == "round-1/generate" else maker.name)
    start = " or start from a policy with policy=<run or folder>" if name in ("policy", "initial") else ""
    raise AresError(
        f"{step.key} needs {root / path}, which is not there; make it with `python train.py stage={stage} "
        f"run={config.run}`{start}."
    )


def _named_policy(config: Config) -> Path:
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


# --------------------------------------------------------------------------------------------------
# Changes
# --------------------------------------------------------------------------------------------------


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix.rstrip("."): value}
    return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}{name}.").items()}


def _difference(done: Mapping[str, Any], settings: Any, inputs: Mapping[str, Mapping[str, str]]) -> str:
    before, now = _flatten(done["settings"]), _flatten(settings)
    changed = [
        f"{key} ({before.get(key)} → {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    old = done["inputs"]
    changed += [
        f"its input {name}"
        for name in sorted(old.keys() | inputs.keys())
        if old.get(name, {}).get("sha256") != inputs.get(name, {}).get("sha256")
    ]
    return ", ".join(changed) or "the program"


def _refusal(
    step: Step,
    config: Config,
    done: Mapping[str, Any],
    settings: Any,
    inputs: Mapping[str, Mapping[str, str]],
    manifest: Mapping[str, Any],
) -> str:
    keys = [other.key for other in full_plan(config.rounds)]
    after = keys[keys.index(step.key) + 1 :] if step.key in keys else []
    later = [key for key in after if key in manifest["steps"]]
    invalid = f" and everything made from it ({', '.join(later)})" if later else ""
    return (
        f"run={config.run}: {step.key} was made with another {_difference(done, settings, inputs)}; it{invalid} would be "
        "invalid. Use another run=<name>, on_change=rerun to make it again, or on_change=keep to keep it."
    )
