"""What it takes to answer questions with a trained model: in a run, and in a folder that works without the run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ares.config.commands import command
from ares.config.compose import to_config, to_plain
from ares.config.schema import Config
from ares.steps.common.inputs import policy_class
from ares.storage.files import atomic_folder, read_object, write_json
from ares.types import AresError

FILE, FORMAT = "answering.json", 1
# The settings on which answers depend, beyond what the policy's own folder records.
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "model": ("name", "_target_", "reads_images"),
    "text": ("newline", "use_caption", "max_input_tokens"),
    "generate": ("max_new_tokens", "batch_size"),
    "lora": ("max_output_tokens",),
}
_NO_INPUTS = dict.fromkeys(("path", "arrays", "name_map"))  # features of a data set's own images


@dataclass(frozen=True)
class Answering:
    """The model in the folder `root`: a policy, the adapter that answers given its rationales, the configuration of both.

    `steps` are a run's finished steps by key, as the manifest has them. An exported folder has none, and of the
    configuration only what answers depend on.
    """

    root: Path
    config: Config
    policy: Path
    adapter: Path
    steps: Mapping[str, Any]


def answering_of(folder: Path) -> Answering:
    """What a run's folder or an exported folder holds. Raises AresError where it is neither, or incomplete."""
    if (folder / FILE).is_file():
        return _exported(folder)
    if (folder / "model" / FILE).is_file():  # what stage=export wrote, with the files for other programs
        return _exported(folder / "model")
    if (folder / "manifest.json").is_file():
        return _of_run(folder.resolve())
    raise AresError(f"{folder} is neither a run nor an exported model; give the folder of one.")


def named_folder(name: str, runs: str) -> Path:
    """The folder of a run in `runs` by its name or, if there is none, the folder called `name`."""
    own = Path(runs) / name
    return own if own.is_dir() else Path(name)


def finished_steps(root: Path) -> dict[str, Any]:
    """A run's finished steps by key in the order of time, {} without any.

    Raises AresError for a file that is no manifest.
    """
    manifest = root / "manifest.json"
    steps = read_object(manifest).get("steps") if manifest.exists() else {}
    if not isinstance(steps, dict) or not all(map(_is_step, steps.values())):
        raise AresError(f"{manifest} is no manifest of a run; give another run=<name>.")
    return steps


def _is_step(step: Any) -> bool:
    sides = [step.get(side) if isinstance(step, dict) else None for side in ("inputs", "outputs")]
    artefacts = [artefact for side in sides if isinstance(side, dict) for artefact in side.values()]
    return all(isinstance(side, dict) for side in sides) and all(
        isinstance(artefact, dict) and isinstance(artefact.get("path"), str) for artefact in artefacts
    )


def _of_run(root: Path) -> Answering:
    """The run's last policy, and the last adapter that was trained on it."""
    steps = finished_steps(root)
    policies = [step["outputs"]["policy"] for step in steps.values() if "policy" in step["outputs"]]
    adapted = [step for step in steps.values() if "adapter" in step["outputs"]]
    if policies:
        last = policies[-1].get("sha256")
        adapted = [step for step in adapted if step["inputs"]["policy"]["sha256"] == last]
    if not adapted:
        raise AresError(
            f"{root} has no adapter that answers with the help of its last policy; train one with the run's own settings: "
            f"`{command('generate', run=root.name)}` and `{command('lora', run=root.name)}`."
        )
    policy, adapter = adapted[-1]["inputs"]["policy"]["path"], adapted[-1]["outputs"]["adapter"]["path"]
    return Answering(root, _config(root / "config.yaml"), root / policy, root / adapter, steps)


def _config(path: Path) -> Config:
    try:
        return to_config(OmegaConf.create(path.read_text(encoding="utf-8")))
    except OSError:
        raise AresError(
            f"{path} is missing, so that the run's settings are unknown; give another run."
        ) from None
    except (OmegaConfBaseException, YAMLError, ValueError, AttributeError):
        raise AresError(
            f"{path} was made by another version of ares; use that version, or another run."
        ) from None


def _exported(folder: Path) -> Answering:
    found = read_object(folder / FILE)
    try:
        config = to_config(OmegaConf.create(found["settings"])) if found["format"] == FORMAT else None
    except (OmegaConfBaseException, KeyError, TypeError, ValueError, AttributeError):
        config = None
    if config is None:
        raise AresError(f"{folder / FILE} was made by another version of ares; export the model again.")
    for name, file in _local_weights(config, folder).items():
        config.features.arguments[name] = str(file)
    return Answering(folder, config, folder / "policy", folder / "adapter", {})


def export_answering(found: Answering, folder: Path, card: str) -> None:
    """Writes a folder that `answering_of` opens anywhere: policy, adapter, settings, local weights of the encoder.

    `card` becomes its README.md.
    """
    with atomic_folder(folder) as temporary:
        policy_class(found.config).bundle(found.policy, temporary / "policy")
        shutil.copytree(found.adapter, temporary / "adapter")
        _forget_place(temporary / "adapter/adapter_config.json")
        _forget_place(temporary / "policy/adapter_config.json")
        write_json(temporary / FILE, {"format": FORMAT, "settings": _settings(found.config, temporary)})
        (temporary / "README.md").write_text(card, encoding="utf-8")


def _settings(config: Config, folder: Path) -> dict[str, Any]:
    """The settings that answers depend on; local weights of the encoder are copied into the folder."""
    plain = to_plain(config)
    features = {**plain["features"], **_NO_INPUTS}
    for name, file in _local_weights(config, Path()).items():
        (folder / "encoder").mkdir(exist_ok=True)
        copy: Any = shutil.copytree if file.is_dir() else shutil.copy
        copy(file, folder / "encoder" / file.name)
        features[name] = f"encoder/{file.name}"
    chosen = {block: {name: plain[block][name] for name in names} for block, names in _SETTINGS.items()}
    return {**chosen, "features": features}


def _local_weights(config: Config, folder: Path) -> dict[str, Path]:
    """The encoder's arguments that name weights in files, relative to a folder, with the files."""
    arguments = config.features.arguments
    files = {name: folder / arguments[name] for name in ("checkpoint", "model") if arguments.get(name)}
    return {
        name: file
        for name, file in files.items()
        if (file.is_file() if name == "checkpoint" else (file / "config.json").is_file())
    }


def _forget_place(path: Path) -> None:
    """Removes the name of the base from an adapter's file if it is a folder on this machine."""
    settings = read_object(path) if path.exists() else {}
    base = settings.get("base_model_name_or_path")
    if base and Path(base).exists():
        write_json(path, {**settings, "base_model_name_or_path": None})
