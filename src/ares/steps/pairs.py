"""pairs: preference pairs from scored rollouts, from the Teacher's repairs or from the data, with reference log-probabilities."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.data.sibling_pairs import WAYS
from ares.ranks import gather, is_first, shard
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.prepare import read_problems
from ares.storage.pairs import write_pairs
from ares.storage.tables import read_corrections, read_feedback, read_rollouts
from ares.text.prompts import rationale_target
from ares.types import AresError, Example, Pair, Problem, Rollout, Side

if TYPE_CHECKING:
    from ares.models.policy import Policy


_NONE_BROUGHT = (
    "data={} brings no pairs; use data=preferences, or pairs of rollouts (pairs.source=best_worst)."
)


def follows(config: Config) -> str:
    """The step of stage=ares after which pairs are made; `prefer` starts from the policy at that point."""
    return {"corrections": "correct", "brought": "rationale"}.get(config.pairs.source, "score")


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    sources = {"corrections": ("corrections",), "brought": ()}
    return ("data", "features", "policy", *sources.get(config.pairs.source, ("rollouts", "feedback")))


SPEC = StepSpec(
    name="pairs",
    reads=_reads,
    writes=("pairs",),
    settings=("text", "model._target_", "pairs"),
    runs_on="device",
    place="round",
    folder="pairs",
    shared=True,
    headline=("pairs", "tied", "difference"),
    wanted=lambda config, place: _wanted(config),
    check_data=lambda config, source: check_brought(config, source),
    after=follows,
)


def _wanted(config: Config) -> bool:
    """Whether pairs are for more than a reward model that is trained on scores alone."""
    steps = config.stage.steps
    return "reward" not in steps or "prefer" in steps or "pairs" in config.reward.on


def check_brought(config: Config, source: Mapping[str, Path]) -> None:
    """Raises AresError if `pairs.source=brought` is set for data without pairs."""
    if config.pairs.source == "brought" and "data" in source:
        problems, splits = read_problems(config.data, source["data"])
        if not _brought(problems, splits):
            raise AresError(_NONE_BROUGHT.format(config.data.name))


def _brought(problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]]) -> list[str]:
    return [pid for split in ("train", "val") for pid in splits[split] if problems[pid].rejected]


def pairs(config: Config, context: StepContext) -> StepResult:
    """Writes `pairs.parquet`; the reference is the policy that `prefer` will start from."""
    problems, splits = load_problems(config, context)
    policy = policy_of(config, context, context.inputs["policy"])
    source = config.pairs.source
    if source == "corrections":
        found, metrics = _of_corrections(config, context, problems, policy)
    elif source == "brought":
        found, metrics = _of_data(config, problems, splits, policy)
    else:
        found, metrics = _of_rollouts(config, context)
    found = with_reference(config, problems, found, policy)
    if not is_first():
        return StepResult({})
    path = context.folder / "pairs.parquet"
    write_pairs(path, found, context.provenance)
    return StepResult({"pairs": path}, {"pairs": len(found), **metrics, **mean_lengths(found)})


def _of_rollouts(config: Config, context: StepContext) -> tuple[list[Pair], dict[str, float]]:
    settings, rollouts = config.pairs, read_rollouts(context.inputs["rollouts"])
    scores = {
        row.row_id: row.scores for row in read_feedback(context.inputs["feedback"]) if row.status == "ok"
    }
    scored = {row_id: found for row_id, found in scores.items() if found}
    origin = "same_prefix" if settings.source == "same_prefix" else "rollouts"
    found: list[Pair] = []
    tied, differences = 0, []
    for pid, group in groupby((row for row in rollouts if row.row_id in scored), key=lambda row: row.pid):
        for pair in WAYS[settings.source](list(group), scored, settings.by):
            if pair.difference <= settings.margin or pair.chosen.token_ids == pair.rejected.token_ids:
                tied += 1
                continue
            chosen, rejected = (_side_of(row, scored[row.row_id]) for row in (pair.chosen, pair.rejected))
            row_id = f"{pid}/{pair.chosen.sample}-{pair.rejected.sample}"
            found.append(Pair(row_id, pid, origin, chosen, rejected))
            differences.append(pair.difference)
    if not found:
        raise AresError(
            f"No two of {len(rollouts)} rollouts make a pair with pairs.source={settings.source}: {len(scored)} have scores, "
            f"and {tied} pairs differ by no more than pairs.margin={settings.margin}; lower it, or raise rl.k."
        )
    return found, {"tied": tied, "difference": sum(differences) / len(found)}


def _side_of(row: Rollout, scores: Sequence[float]) -> Side:
    return Side(row.text, row.token_ids, row.spans, row.token_ends, tuple(scores), row.logprobs)


def _of_corrections(
    config: Config, context: StepContext, problems: Mapping[str, Problem], policy: "Policy"
) -> tuple[list[Pair], dict[str, float]]:
    path, newline = context.inputs["corrections"], config.text.newline
    rows = [row for row in read_corrections(path) if row.status == "ok" and row.corrected]
    examples = examples_of(problems, [row.pid for row in rows], "QCM-E", config)
    texts = {
        row.pid: (rationale_target(row.corrected or "", newline), rationale_target(row.rationale, newline))
        for row in rows
    }
    found, same = encoded_pairs(config, examples, texts, policy, "corrections")
    if not found:
        raise AresError(f"None of the {len(rows)} repairs in {path} differs from its rationale: no pairs.")
    return found, {"tied": same}


def _of_data(
    config: Config, problems: Mapping[str, Problem], splits: Mapping[str, Sequence[str]], policy: "Policy"
) -> tuple[list[Pair], dict[str, float]]:
    examples = examples_of(problems, _brought(problems, splits), "QCM-E", config)
    texts = {pid: (example.target, problems[pid].rejected) for pid, example in examples.items()}
    found, same = encoded_pairs(config, examples, texts, policy, "brought")
    if not found:
        raise AresError(_NONE_BROUGHT.format(config.data.name))
    return found, {"tied": same}


def encoded_pairs(
    config: Config,
    examples: Mapping[str, Example],
    texts: Mapping[str, tuple[str, str]],
    policy: "Policy",
    origin: str,
) -> tuple[list[Pair], int]:
    """Pairs of (chosen, rejected) texts by pid, and how many are the same response once encoded."""
    sides = []
    for index in (0, 1):
        targets = [replace(examples[pid], target=both[index]) for pid, both in texts.items()]
        rows = policy.encode_targets(targets, max_tokens=config.pairs.max_output_tokens)
        sides.append([_side_of_ids(policy, ids) for ids in rows])
    found = [
        Pair(pid, pid, origin, chosen, rejected)
        for pid, chosen, rejected in zip(texts, *sides, strict=True)
        if chosen.token_ids != rejected.token_ids
    ]
    return found, len(texts) - len(found)


def _side_of_ids(policy: "Policy", ids: Sequence[int]) -> Side:
    text, spans, ends = policy.sentences(ids)
    return Side(text, tuple(ids), tuple(spans), tuple(ends))


def with_reference(
    config: Config, problems: Mapping[str, Problem], found: Sequence[Pair], policy: "Policy"
) -> list[Pair]:
    """The pairs with the policy's log-probabilities of both sides; ranks share the work.

    Rollouts have those of the policy that wrote them; if they agree for a first batch, it was this one.
    """
    size = config.pairs.batch_size
    ordered = sorted(found, key=lambda pair: len(pair.chosen.token_ids) + len(pair.rejected.token_ids))
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    examples = examples_of(problems, {pair.pid for pair in found}, "QCM-E", config)
    known = all(pair.chosen.ref_logprobs and pair.rejected.ref_logprobs for pair in found)
    if found and known and _is_of(batches[0], _measured(batches[0], examples, policy)):
        return list(found)
    own = [pair for batch in shard(batches) for pair in _measured(batch, examples, policy)]
    measured = {pair.row_id: pair for part in gather(own) for pair in part}
    return [measured[pair.row_id] for pair in found]


def _is_of(given: Sequence[Pair], measured: Sequence[Pair]) -> bool:
    """Whether pairs have the log-probabilities that were measured."""
    from ares.modules.checks import is_same_policy

    differences = [
        abs(math.expm1(b - a))
        for pair, found in zip(given, measured, strict=True)
        for own, other in ((pair.chosen, found.chosen), (pair.rejected, found.rejected))
        for a, b in zip(own.ref_logprobs or (), other.ref_logprobs or (), strict=True)
    ]
    return is_same_policy(fmean(differences), max(differences))


def _measured(batch: Sequence[Pair], examples: Mapping[str, Example], policy: "Policy") -> list[Pair]:
    import torch

    from ares.rl.masked import pad_right

    rows = [side.token_ids for pair in batch for side in (pair.chosen, pair.rejected)]
    inputs = policy.encode([examples[pair.pid] for pair in batch]).repeat(2).to(policy.device)
    ids = pad_right(rows, policy.pad_id).to(policy.device)
    with torch.no_grad():
        logprobs = policy.token_logprobs(inputs, ids, list(map(len, rows))).cpu().tolist()
    known = [tuple(values[: len(row)]) for values, row in zip(logprobs, rows, strict=True)]
    return [
        replace(
            pair,
            chosen=replace(pair.chosen, ref_logprobs=known[2 * number]),
            rejected=replace(pair.rejected, ref_logprobs=known[2 * number + 1]),
        )
        for number, pair in enumerate(batch)
    ]


def mean_lengths(found: Sequence[Pair]) -> dict[str, float]:
    """Tokens of the chosen and of the rejected responses, means."""
    return {
        f"{name}_tokens": sum(len(getattr(pair, name).token_ids) for pair in found) / max(1, len(found))
        for name in ("chosen", "rejected")
    }
