"""export: writes a run's last models and texts for use outside of this package: T5 and texts as the original ARES does."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.answers import accuracy_table, failed_extractions
from ares.original.checkpoints import export_policy, export_value
from ares.original.predictions import write_published
from ares.steps.common.inputs import examples_of, policy_class, require_own_data
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import atomic_folder, read_object
from ares.storage.tables import read_predictions, read_rationales
from ares.types import AresError


def export(config: Config) -> list[str]:
    """Writes `export/` in the run's folder; returns one line for each artefact in it.

    `policy/` and, after RL, the value model, in the original's layout where it has such models (`Policy.original`);
    `rationales/predictions_ans_{train,eval,test}.json`; `answers/predictions_ans_<split>.json`. Raises AresError for a run without a policy, and for a run on other data
    than the configuration's.
    """
    root = (Path(config.paths.runs) / config.run).resolve()
    steps = _steps(root / "manifest.json")
    # The manifest is in order of time: the last artefact of a name wins, unless it is the baseline's.
    latest = {
        name: root / output["path"]
        for key, entry in steps.items()
        if not key.startswith("baseline/")
        for name, output in entry["outputs"].items()
    }
    if "policy" not in latest:
        raise AresError(
            f"{root} holds no policy to export; train one with `{command('rationale', run=config.run)}`."
        )
    inputs = {key: entry["inputs"] for key, entry in steps.items()}
    require_own_data(config, root, {k: own["data"]["sha256"] for k, own in inputs.items() if "data" in own})
    folder = root / "export"
    return _models(config, latest, folder) + _texts(config, latest, folder)


def _models(config: Config, latest: Mapping[str, Path], folder: Path) -> list[str]:
    policy, value = folder / "policy", folder / "value"
    cls = policy_class(config)
    lines = [f"policy: {policy}"]
    if cls.original:
        export_policy(latest["policy"], policy, dropout=config.sft.dropout)
    else:
        lines += [f"warning: {text}" for text in cls.export(latest["policy"], policy)]
    if "value" not in latest:
        return lines
    if cls.original:
        value = policy / "value_function.pth"
        export_value(latest["value"], latest["policy"], value)
    else:
        with atomic_folder(value) as temporary:
            shutil.copytree(latest["value"], temporary, dirs_exist_ok=True)
    return [*lines, f"value: {value}"]


def _steps(manifest: Path) -> dict[str, Any]:
    """The steps of a manifest that finished, {} without one. Raises AresError for a file that is no manifest."""
    steps = read_object(manifest).get("steps") if manifest.exists() else {}
    if not isinstance(steps, dict) or not all(isinstance(step, dict) for step in steps.values()):
        raise AresError(f"{manifest} is no manifest of a run; give another run=<name>.")
    return steps


def _texts(config: Config, latest: Mapping[str, Path], folder: Path) -> list[str]:
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    lines = []

    def labels(split: str, prompt_format: str, rationales: Mapping[str, str] | None = None) -> dict[str, str]:
        examples = examples_of(problems, splits[split], prompt_format, config, rationales)
        return {pid: example.target for pid, example in examples.items()}

    for split, pids in splits.items():
        if f"rationales-{split}" in latest and pids:
            texts = {row.pid: row.text for row in read_rationales(latest[f"rationales-{split}"])}
            path = write_published(folder / "rationales", split, texts, labels(split, "QCM-E"), pids=pids)
            lines.append(f"rationales: {path}")
    if "predictions" in latest:
        rows = {row.pid: row for row in read_predictions(latest["predictions"])}
        # The value of evaluate.split when they were written.
        split = next(name for name, pids in splits.items() if rows.keys() == set(pids))
        answers = {pid: row.answer for pid, row in rows.items()}
        path = write_published(
            folder / "answers",
            split,
            {pid: row.output for pid, row in rows.items()},
            labels(split, "QCMG-A", {pid: row.rationale for pid, row in rows.items()}),
            pids=splits[split],
            scores={"answer": accuracy_table(problems, answers)},
            failed=failed_extractions(answers),
        )
        lines.append(f"answers: {path}")
    return lines
