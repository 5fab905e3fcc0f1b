"""export: writes a run's last model for answering without the run, and models and texts for other programs.

T5 and the texts as the original ARES has them.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ares.config.commands import command
from ares.config.options import FeaturesConfig
from ares.config.schema import Config
from ares.evaluation.answers import accuracy_table, failed_extractions
from ares.original.checkpoints import export_policy, export_value
from ares.original.predictions import write_published
from ares.steps.common.answering import answering_of, export_answering, finished_steps
from ares.steps.common.hub import check_push, push
from ares.steps.common.inputs import examples_of, policy_class, require_own_data
from ares.steps.common.model_card import model_card
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import atomic_folder
from ares.storage.tables import read_predictions, read_rationales
from ares.types import AresError, Problem


def export(config: Config) -> list[str]:
    """Writes `export/` in the run's folder; returns one line for each artefact in it.

    `model/` opens with `ares.load`, and goes to the hub with `export.push`; a run without an adapter that answers has none.
    `policy/` and, after RL, the value model, in the original's layout where it has such models (`Policy.original`);
    `rationales/predictions_ans_{train,eval,test}.json`; `answers/predictions_ans_<split>.json`. Raises AresError for a run
    without a policy, for a run on other data than the configuration's, and where the upload cannot work.
    """
    if config.export.push:
        check_push(config.export.push)
    root = (Path(config.paths.runs) / config.run).resolve()
    steps = finished_steps(root)
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
    lines = _answering(config, root, latest, folder / "model")
    lines += _models(config, latest, folder) + _texts(config, latest, folder)
    if config.export.push:
        lines.append(f"pushed: {push(folder / 'model', config.export.push, private=config.export.private)}")
    return lines


def _answering(config: Config, root: Path, latest: Mapping[str, Path], folder: Path) -> list[str]:
    if "adapter" not in latest and not config.export.push:
        return []
    try:
        found = answering_of(root)
    except AresError as error:
        if config.export.push:
            raise
        return [f"warning: {error}"]
    _, splits = _problems(config)
    sizes = {split: len(pids) for split, pids in splits.items()}
    export_answering(found, folder, model_card(config.run, found, sizes, license=config.export.license))
    return [f"model: {folder}"]


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


def _problems(config: Config) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    without_features = replace(config, features=FeaturesConfig())  # which only training reads
    return read_problems(config.data, prepared(without_features, make=False)["data"])


def _texts(config: Config, latest: Mapping[str, Path], folder: Path) -> list[str]:
    problems, splits = _problems(config)
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
