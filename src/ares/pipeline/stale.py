"""Fingerprints: what a step's result depends on, its hash, and how a finished step differs from the configuration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.config.schema import Config
from ares.pipeline.manifest import Artefact, StepEntry, is_unaltered, read_manifest
from ares.pipeline.plan import PREPARED, Source, Step, full_plan, stage_of, steps_of
from ares.steps.common.asking import make_teacher
from ares.steps.prepare import images_hash, source_hash
from ares.storage.files import hash_of, read_object, sha256_path
from ares.types import AresError


@dataclass(frozen=True)
class Fingerprint:
    """The settings and the inputs that a step's result depends on."""

    settings: Mapping[str, Any]
    inputs: Mapping[str, Artefact]

    @property
    def hash(self) -> str:
        """The hash of settings and contents of inputs; paths do not count."""
        return hash_of({"settings": self.settings, "inputs": _contents(self.inputs)})


def run_folder(config: Config) -> Path:
    """The run's folder, absolute."""
    return (Path(config.paths.runs) / config.run).resolve()


@dataclass(frozen=True)
class Run:
    """A run folder, its configuration, the steps of the stage and the prepared folders (`data`, `features`)."""

    root: Path
    config: Config
    steps: Sequence[Step]
    source: Mapping[str, Path]

    def fingerprint(self, step: Step) -> Fingerprint:
        """The fingerprint of a step. Raises AresError if an input is missing or was altered."""
        manifest = read_manifest(self.root)
        inputs = {name: self.input_of(step, source, manifest) for name, source in step.inputs.items()}
        reads = step.spec.reads_of(self.config, step.place)
        for name in [n for n in PREPARED if n in self.source and n in reads]:
            index = self.source[name] / "index.json"
            sha256 = source_hash(self.config) if name == "data" else read_object(index).get("sha256", "")
            inputs[name] = Artefact(str(self.source[name]), sha256)
        if "features" in reads and self.config.model.reads_images:
            data = self.source["data"]
            inputs["images"] = Artefact(str(data), images_hash(self.config, data))
        for name, (path, sha256) in step.spec.files(self.config).items():
            inputs[name] = Artefact(str(path.resolve()), sha256)
        return Fingerprint(settings_of(step, self.config), inputs)

    def input_of(self, step: Step, source: Source, manifest: Mapping[str, StepEntry]) -> Artefact:
        """One input of a step; `policy=` replaces policies that no step of the stage writes.

        Raises AresError if the input is missing or was altered.
        """
        path = self._path_of(step, source, manifest)
        if self._is_named(source):
            return Artefact(str(path.resolve()), sha256_path(path))
        output = manifest[source.key].outputs[source.artefact]
        if is_unaltered(self.root, output):
            return Artefact(output.path, output.sha256)
        if self.config.on_change == "keep":
            return Artefact(output.path, sha256_path(path))
        raise AresError(
            f"{path} was altered since {source.key} wrote it; run it again with "
            f"`{self._command(source, on_change='rerun')}`, or use it as it is with on_change=keep."
        )

    def missing_inputs(self, steps: Sequence[Step]) -> Iterator[str]:
        """One sentence for each input of the steps that an earlier stage should have written; nothing is read."""
        manifest, own = read_manifest(self.root), {step.key for step in self.steps}
        needed = {source: step for step in reversed(steps) for source in step.inputs.values()}
        for source, step in reversed(needed.items()):
            if source.key not in own:
                try:
                    self._path_of(step, source, manifest)
                except AresError as error:
                    yield str(error)

    def _is_named(self, source: Source) -> bool:
        named = source.artefact == "policy" and self.config.policy
        return bool(named) and source.key not in {step.key for step in self.steps}

    def _path_of(self, step: Step, source: Source, manifest: Mapping[str, StepEntry]) -> Path:
        """Where an input is. Raises AresError if it is missing."""
        if self._is_named(source):
            return named_policy(self.config)
        entry = manifest.get(source.key)
        output = entry.outputs.get(source.artefact) if entry else None
        if output and (self.root / output.path).exists():
            return self.root / output.path
        start = " or start from a policy with policy=<run or folder>" if source.artefact == "policy" else ""
        raise AresError(
            f"{step.key} needs {source.artefact} of {source.key}, which is not in {self.root}; run "
            f"`{self._command(source)}`{start}."
        )

    def _command(self, source: Source, **settings: str) -> str:
        plan = [*full_plan(self.config), *self.steps]
        maker = next(step for step in plan if step.key == source.key)
        return command(stage_of(maker, self.config), run=self.config.run, **settings)


def settings_of(step: Step, config: Config) -> dict[str, Any]:
    """The values of the settings that a step declares, by key, as JSON values.

    Of the Teacher only those on which its replies depend, not its concurrency or its cap, for example.
    """
    found = {key: _value(config, key) for key in step.spec.settings if key != "teacher"}
    if step.spec.asks_teacher:
        fingerprint = make_teacher(config).fingerprint()
        found["teacher"] = {"_target_": config.teacher._target_, "fingerprint": fingerprint}
    return json.loads(json.dumps(found, default=asdict))


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


def named_policy(config: Config) -> Path:
    """The folder of `policy=<run or folder>`; of a run, its last policy. Raises AresError if there is none."""
    assert config.policy is not None
    folder = Path(config.policy)
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return folder
    other = Path(config.paths.runs) / config.policy
    found = [entry.outputs["policy"] for entry in read_manifest(other).values() if "policy" in entry.outputs]
    policies = [other / output.path for output in found if (other / output.path).exists()]
    if not policies:
        raise AresError(
            f"policy={config.policy} is neither a folder of a model or adapter nor a run with a policy in "
            f"{config.paths.runs}; give one of them."
        )
    return policies[-1]


def difference(done: StepEntry, now: Fingerprint, altered: Sequence[str]) -> str:
    """How a finished step differs from the configuration: settings, inputs, outputs that were `altered` since."""
    before, after = _flatten(done.settings), _flatten(now.settings)
    changed = [
        f"{key.replace('.arguments.', '.')} ({before.get(key)} → {after.get(key)})"
        for key in _changed(before, after)
    ]
    changed += [f"input {name}" for name in _changed(_contents(done.inputs), _contents(now.inputs))]
    clauses = [f"was made with another {', '.join(changed)}"] if changed else []
    clauses += [f"has an output altered since it was made ({', '.join(altered)})"] if altered else []
    return " and ".join(clauses) or "was made by another version of the program"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]


def _contents(inputs: Mapping[str, Artefact]) -> dict[str, str]:
    return {name: artefact.sha256 for name, artefact in inputs.items()}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix.rstrip("."): value}
    return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}{name}.").items()}


def refusal(step: Step, config: Config, manifest: Mapping[str, StepEntry], changed: str) -> str:
    """The message about a finished step that differs (`changed`, see `difference`), with the steps it invalidates."""
    later = [key for key in _followers(step, config) if key in manifest]
    invalid = f" and all steps that depend on it ({', '.join(later)})" if later else ""
    return (
        f"run={config.run}: {step.key} {changed}; it{invalid} would be "
        "invalid. Use another run=<name>, on_change=rerun to run it again, or on_change=keep to keep it as it is."
    )


def _followers(step: Step, config: Config) -> list[str]:
    """The keys of all steps that read, directly or not, what a step writes."""
    plan = {other.key: other for other in [*full_plan(config), *steps_of(config)]}
    found = [step.key]
    for other in plan.values():
        if any(source.key in found for source in other.inputs.values()):
            found.append(other.key)
    return found[1:]
