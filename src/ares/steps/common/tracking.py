"""What Weights & Biases gets of a finished step besides metrics: a table of scored rollouts, and artifacts."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.steps.common.inputs import wandb_logger
from ares.storage.files import hash_of
from ares.storage.rollout_texts import read_pids, read_sentences
from ares.storage.tables import read_feedback

if TYPE_CHECKING:
    import wandb

_ARTIFACTS = ("rollouts", "feedback", "policy", "adapter")  # outputs that become artifacts, by their names
_QUESTIONS = 200  # of the table of scored rollouts, drawn by a hash


@dataclass(frozen=True)
class StepFiles:
    """A finished step's inputs and outputs as {name: (path, sha256)}."""

    key: str
    inputs: Mapping[str, tuple[Path, str]]
    outputs: Mapping[str, tuple[Path, str]]


def log_files(config: Config, root: Path, step: StepFiles) -> None:
    """Adds a step's table and artifacts to the run's wandb run, if configured; call it before `log_metrics`.

    An artifact refers to the files where they are. Its metadata holds the step, the hash of its contents, and names and
    hashes of all inputs. wandb's own lineage connects runs: inputs that another run made are declared as used, which
    wandb refuses offline.
    """
    made = {name: file for name, file in step.outputs.items() if name in _ARTIFACTS}
    if config.logger.name != "wandb" or not made:
        return
    run, runs = wandb_logger(config, root, "").experiment, Path(config.paths.runs).resolve()
    inputs: dict[str, dict[str, str]] = {}
    for name, (path, sha256) in step.inputs.items():
        inputs[name] = {"sha256": sha256}
        if name in _ARTIFACTS:
            inputs[name]["artifact"] = _title(path, runs)
            if not run.offline and not path.resolve().is_relative_to(root.resolve()):
                run.use_artifact(_artifact(path, runs, name, {"sha256": sha256}))
    for name, (path, sha256) in made.items():
        metadata = {"step": step.key, "sha256": sha256, "inputs": inputs}
        run.log_artifact(_artifact(path, runs, name, metadata))
    if "feedback" in made and "rollouts" in step.inputs:
        run.log({f"{step.key}/rollouts": _table(step.inputs["rollouts"][0], made["feedback"][0])})


def finish_wandb() -> None:
    """Closes this process's wandb run, if it has one: the next job of a sweep, or another process, opens its own."""
    if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
        sys.modules["wandb"].finish()


def _artifact(path: Path, runs: Path, kind: str, metadata: Mapping[str, object]) -> "wandb.Artifact":
    import wandb

    artifact = wandb.Artifact(_title(path, runs), type=kind, metadata=dict(metadata))
    artifact.add_reference(path.resolve().as_uri())
    return artifact


def _title(path: Path, runs: Path) -> str:
    """The artifact of a path, the same for the run that made it and for those that read it: `demo-round-1-ppo-policy`."""
    own = path.resolve().with_suffix("") if path.is_file() else path.resolve()
    parts = own.relative_to(runs) if own.is_relative_to(runs) else Path(own.name)
    return re.sub(r"[^\w.-]", "-", str(parts))[-128:]


def _table(rollouts: Path, feedback: Path) -> "wandb.Table":
    """One row per sentence of some questions' rollouts, with its score; None where the Teacher's reply was unusable."""
    import wandb

    pids = frozenset(sorted(read_pids(rollouts), key=hash_of)[:_QUESTIONS])
    scores = {row.row_id: row.scores for row in read_feedback(feedback)}
    table = wandb.Table(["rollout", "question", "number", "sentence", "score"])
    for row_id, pid, sentences in read_sentences(rollouts, pids):
        found = scores.get(row_id) or [None] * len(sentences)
        for number, (sentence, score) in enumerate(zip(sentences, found, strict=True), start=1):
            table.add_data(row_id, pid, number, sentence, score)
    return table
