"""generate: greedy rationales, the only ones there are; every later step reads them from here."""

from ares.ranks import is_first
from ares.steps.generation import greedy_rationales
from ares.steps.inputs import examples_of, features_of, policy_of, problems_of
from ares.store import Outputs, Run, write_rationales
from ares.text.sentences import repetition_rate
from ares.types import Config


def generate(config: Config, run: Run) -> Outputs:
    """Writes `rationales-<split>.parquet`: of train inside a round, of all splits at the end."""
    problems, splits = problems_of(config, run)
    model, tokenizer = policy_of(config, run.inputs["policy"], dropout=0.0)
    features = features_of(run)
    files, metrics = {}, {}
    for split in ("train",) if run.round else ("train", "val", "test"):
        rationales = greedy_rationales(
            model,
            tokenizer,
            examples_of(problems, splits[split], "QCM-E", config),
            features,
            max_input_tokens=config.text.max_input_tokens,
            max_new_tokens=config.generate.max_new_tokens,
            batch_size=config.generate.batch_size,
            label=f"{run.key} {split}",
        )
        if not is_first():
            continue
        path = run.folder / f"rationales-{split}.parquet"
        write_rationales(path, rationales, run.provenance)
        files["rationales" if run.round else f"rationales-{split}"] = path
        count = max(1, len(rationales))
        metrics[f"{split}/truncated"] = sum(r.truncated for r in rationales) / count
        metrics[f"{split}/repetition"] = sum(repetition_rate(r.text) for r in rationales) / count
        metrics[f"{split}/tokens"] = sum(len(r.token_ids) for r in rationales) / count
    return Outputs(files, metrics)
