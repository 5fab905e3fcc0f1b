"""rollout: samples k rationales per question, with sentences and log-probabilities, part by part."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ares.config.schema import Config, RlConfig
from ares.console import tqdm
from ares.ranks import barrier, is_first, shard
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import check_engine, engine_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.common.rows import check_questions
from ares.storage.tables import read_rollouts, readable, write_rollouts
from ares.text.sentences import repetition_rate
from ares.types import AresError, Example, Rollout

if TYPE_CHECKING:
    from ares.engines.base import Engine, Sample
    from ares.models.policy import Policy


SPEC = StepSpec(
    name="rollout",
    reads=("data", "features", "policy", "initial"),
    writes=("rollouts",),
    settings=(
        "seed",
        "text",
        "model._target_",
        "engine._target_",
        *keys_of("rl", "questions k top_k top_p temperature max_new_tokens questions_per_part"),
        *keys_of("rl", "generation_batch reference"),
    ),
    runs_on="device",
    place="round",
    folder="rollouts",
    shared=True,
    check=check_engine,
    check_data=check_questions,
)


def rollout(config: Config, context: StepContext) -> StepResult:
    """Writes `rollouts/part-<n>.parquet`, `rl.questions_per_part` questions each; keeps existing parts of this hash.

    The parts are divided among the ranks; their contents do not depend on which rank writes them.
    """
    problems, splits = load_problems(config, context)
    pids = splits["train"][: config.rl.questions]
    examples = examples_of(problems, pids, "QCM-E", config)
    size = config.rl.questions_per_part
    parts = [pids[start : start + size] for start in range(0, len(pids), size)]
    paths = [context.folder / f"part-{number}.parquet" for number in range(len(parts))]
    missing = [number for number, path in enumerate(paths) if not _is_written(path, context.hash)]
    barrier()  # every rank has listed the missing parts before one writes
    if missing:
        wanted = {number: [examples[pid] for pid in parts[number]] for number in shard(missing)}
        for number, rows in _sampled(config, context, wanted):
            write_rollouts(paths[number], rows, context.provenance)
    barrier()
    if not is_first():
        return StepResult({})
    for stale in set(context.folder.glob("part-*.parquet")) - set(paths):
        stale.unlink()
    return StepResult({"rollouts": context.folder}, _metrics(read_rollouts(context.folder)))


def _sampled(
    config: Config, context: StepContext, parts: Mapping[int, Sequence[Example]]
) -> Iterator[tuple[int, list[Rollout]]]:
    """The rows of each part, part by part."""
    policy = policy_of(config, context, context.inputs["policy"])
    reference = _reference(config, context, policy)
    with engine_of(config, context, policy, batch_size=config.rl.generation_batch) as engine:
        for number, examples in tqdm(parts.items(), desc=context.key, dynamic_ncols=True):
            seed = part_seed(config.seed, context.round, number)
            yield number, _part(config.rl, seed, examples, engine, policy, reference)


def _reference(config: Config, context: StepContext, policy: "Policy") -> "Policy | None":
    """The reference policy, None if it is the sampling policy itself."""
    is_own = context.inputs["initial"].resolve() == context.inputs["policy"].resolve()
    if config.rl.reference == "initial" and not is_own:
        return policy.sibling(context.inputs["initial"])
    return None


def _is_written(path: Path, digest: str) -> bool:
    import pyarrow.parquet as pq

    if not path.exists():
        return False
    try:
        with readable(path):
            return (pq.read_schema(path).metadata or {}).get(b"ares.hash") == digest.encode()
    except AresError:  # damaged: it is written again
        return False


def part_seed(seed: int, round_number: int, part: int) -> int:
    """The seed of a part: the first 8 bytes of sha256(f'{seed}/{round}/{part}')."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _part(
    rl: RlConfig,
    seed: int,
    examples: Sequence[Example],
    engine: "Engine",
    policy: "Policy",
    reference: "Policy | None",
) -> list[Rollout]:
    from ares.models.inputs import Sampling

    samples = engine.sample(
        examples,
        k=rl.k,
        seed=seed % 2**63,
        sampling=Sampling(rl.top_k, rl.top_p, rl.temperature),
        max_new_tokens=rl.max_new_tokens,
    )
    return _rows(policy, reference, examples, samples, rl.k)


def _rows(
    policy: "Policy",
    reference: "Policy | None",
    examples: Sequence[Example],
    samples: Sequence["Sample"],
    k: int,
) -> list[Rollout]:
    """The samples, k for each example, with their sentences and log-probabilities."""
    from ares.models.scoring import response_logprobs

    responses = [sample.ids for sample in samples]
    inputs = policy.encode(examples)
    if all(sample.exact for sample in samples):
        logprobs = [sample.logprobs or [] for sample in samples]
    else:
        logprobs = response_logprobs(policy, inputs, responses, k)
    ref_logprobs = logprobs if reference is None else response_logprobs(reference, inputs, responses, k)
    rows = []
    for row, (sample, response) in enumerate(zip(samples, responses, strict=True)):
        pid, own = examples[row // k].pid, tuple(logprobs[row])
        text, spans, ends = policy.sentences(response)
        rows.append(
            Rollout(
                row_id=f"{pid}/{row % k}",
                pid=pid,
                sample=row % k,
                text=text,
                token_ids=tuple(response),
                truncated=policy.is_truncated(response),
                spans=tuple(spans),
                token_ends=tuple(ends),
                logprobs=own,
                ref_logprobs=tuple(ref_logprobs[row]),
                sampler_logprobs=None if sample.exact else _of_sampler(sample, own),
                repetition=repetition_rate(text),
            )
        )
    return rows


def _of_sampler(sample: "Sample", own: tuple[float, ...]) -> tuple[float, ...] | None:
    """A server's log-probabilities; where it left EOS out, the policy's `own`."""
    found = sample.logprobs
    return None if found is None else (*found, *own[len(found) :])


def _metrics(rollouts: list[Rollout]) -> dict[str, float]:
    count = max(1, len(rollouts))
    return {
        "rows": len(rollouts),
        "sentences": sum(len(r.spans) for r in rollouts) / count,
        "tokens": sum(len(r.token_ids) for r in rollouts) / count,
        "truncated": sum(r.truncated for r in rollouts) / count,
        "repetition": sum(r.repetition for r in rollouts) / count,
        "sampler_gap": _sampler_gap(rollouts),
    }


def _sampler_gap(rollouts: list[Rollout]) -> float:
    """The mean difference, per token, between the log-probabilities of sampler and policy; 0 if they are the same."""
    found = [
        abs(own - other)
        for row in rollouts
        for own, other in zip(row.logprobs, row.sampler_logprobs or row.logprobs, strict=True)
    ]
    return sum(found) / max(1, len(found))
