"""export: a run's last models and texts in the original ARES's layout, for its scripts."""

from pathlib import Path
from typing import Any

from ares.config.commands import command
from ares.config.schema import Config
from ares.evaluation.answers import accuracy_table, failed_extractions
from ares.original.checkpoints import export_policy, export_value
from ares.original.predictions import write_published
from ares.steps.common.inputs import examples_of, require_own_data
from ares.steps.prepare import prepared, read_problems
from ares.storage.files import read_json
from ares.storage.tables import read_predictions, read_rationales
from ares.types import AresError


def export(config: Config) -> list[str]:
    """Writes `export/` in the run's folder and returns a line for each thing in it.

    `policy/` and, after RL, `policy/value_function.pth`; `rationales/predictions_ans_{train,eval,test}.json`;
    `answers/predictions_ans_<split>.json`. Raises AresError for a run without a policy, or of other data than the
    configuration's.
    """
    root = (Path(config.paths.runs) / config.run).resolve()
    steps = read_json(root / "manifest.json")["steps"] if (root / "manifest.json").exists() else {}
    # In the manifest's order: of what was made more than once, the last.
    made = {
        name: root / output["path"] for entry in steps.values() for name, output in entry["outputs"].items()
    }
    if "policy" not in made:
        raise AresError(
            f"{root} holds no policy to export; make one with `{command('rationale', run=config.run)}`."
        )
    inputs = {key: entry["inputs"] for key, entry in steps.items()}
    require_own_data(config, root, {k: own["data"]["sha256"] for k, own in inputs.items() if "data" in own})
    folder = root / "export"
    export_policy(made["policy"], folder / "policy", dropout=config.sft.dropout)
    lines = [f"policy: {folder / 'policy'}"]
    if "value" in made:
        export_value(made["value"], made["policy"], folder / "policy/value_function.pth")
        lines.append(f"value: {folder / 'policy/value_function.pth'}")
    return lines + _texts(config, made, folder)


def _texts(config: Config, made: dict[str, Path], folder: Path) -> list[str]:
    problems, splits = read_problems(config.data, prepared(config, make=False)["data"])
    lines = []

    def labels(split: str, prompt_format: str, texts: Any) -> dict[str, str]:
        examples = examples_of(problems, splits[split], prompt_format, config, texts)
        return {pid: example.target for pid, example in examples.items()}

    for split, pids in splits.items():
        if f"rationales-{split}" in made and pids:
            texts = {row.pid: row.text for row in read_rationales(made[f"rationales-{split}"])}
            path = write_published(
                folder / "rationales", split, texts, labels(split, "QCM-E", None), pids=pids
            )
            lines.append(f"rationales: {path}")
    if "predictions" in made:
        rows = {row.pid: row for row in read_predictions(made["predictions"])}
        # That of evaluate.split when they were made.
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
