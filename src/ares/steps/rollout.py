"""rollout: samples k rationales per question, with sentences and log-probabilities, part by part."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ares.config.schema import Config, RlConfig
from ares.ranks import barrier, is_first, shard
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.storage.tables import read_rollouts, write_rollouts
from ares.text.sentences import repetition_rate
from ares.types import Example, Rollout

if TYPE_CHECKING:
    from ares.models.policy import Policy


SPEC = StepSpec(
    name="rollout",
    reads=("data", "features", "policy", "initial"),
    writes=("rollouts",),
    settings=(
        "seed",
        "text",
        "model._target_",
        *keys_of("rl", "questions k top_k top_p temperature max_new_tokens questions_per_part"),
        *keys_of("rl", "generation_batch reference"),
    ),
    runs_on="device",
    place="round",
    folder="rollouts",
    shared=True,
)


def rollout(config: Config, context: StepContext) -> StepResult:
    """Writes `rollouts/part-<n>.parquet`, `rl.questions_per_part` questions each; keeps existing parts of this hash.

    The parts are divided among the ranks; their contents do not depend on which rank writes them.
    """
    problems, splits = load_problems(config, context)
    pids = splits["train"][: config.rl.questions]
    examples = examples_of(problems, pids, "QCM-E", config)
    policy = policy_of(config, context, context.inputs["policy"])
    reference = _reference(config, context, policy)
    size = config.rl.questions_per_part
    parts = [pids[start : start + size] for start in range(0, len(pids), size)]
    paths = [context.folder / f"part-{number}.parquet" for number in range(len(parts))]
    missing = [number for number, path in enumerate(paths) if not _is_written(path, context.hash)]
    barrier()  # every rank has listed the missing parts before one writes
    for number in tqdm(shard(missing), desc=context.key, dynamic_ncols=True):
        seed = part_seed(config.seed, context.round, number)
        rows = _part(config.rl, seed, [examples[pid] for pid in parts[number]], policy, reference)
        write_rollouts(paths[number], rows, context.provenance)
    barrier()
    if not is_first():
        return StepResult({})
    for stale in set(context.folder.glob("part-*.parquet")) - set(paths):
        stale.unlink()
    return StepResult({"rollouts": context.folder}, _metrics(read_rollouts(context.folder)))


def _reference(config: Config, context: StepContext, policy: "Policy") -> "Policy | None":
    """The reference policy, None if it is the sampling policy itself."""
    is_own = context.inputs["initial"].resolve() == context.inputs["policy"].resolve()
    if config.rl.reference == "initial" and not is_own:
        return policy.sibling(context.inputs["initial"])
    return None


def _is_written(path: Path, digest: str) -> bool:
    import pyarrow.parquet as pq

    return path.exists() and (pq.read_schema(path).metadata or {}).get(b"ares.hash") == digest.encode()


def part_seed(seed: int, round_number: int, part: int) -> int:
    """The seed of a part: the first 8 bytes of sha256(f'{seed}/{round}/{part}')."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _part(
    rl: RlConfig, seed: int, examples: Sequence[Example], policy: "Policy", reference: "Policy | None"
) -> list[Rollout]:
    import torch

    from ares.models.inputs import Sampling

    generator = torch.Generator(policy.device)
    generator.manual_seed(seed % 2**63)
    sampling = Sampling(rl.top_k, rl.top_p, rl.temperature)
    rows: list[Rollout] = []
    for start in range(0, len(examples), rl.generation_batch):
        batch = examples[start : start + rl.generation_batch]
        responses = policy.sample(
            policy.encode(batch),
            k=rl.k,
            max_new_tokens=rl.max_new_tokens,
            generator=generator,
            sampling=sampling,
        )
        rows += _rows(policy, reference, batch, responses, rl.k)
    return rows


def _rows(
    policy: "Policy",
    reference: "Policy | None",
    examples: Sequence[Example],
    responses: list[list[int]],
    k: int,
) -> list[Rollout]:
    """The responses, k for each example, with their sentences and log-probabilities."""
    import torch

    from ares.rl.masked import pad_right

    device = policy.device
    inputs = policy.encode(examples).repeat(k).to(device)
    ids = pad_right(responses, policy.pad_id).to(device)
    mask = pad_right([[1.0] * len(response) for response in responses], 0.0).to(device)
    with torch.no_grad():
        logprobs = policy.token_logprobs(inputs, ids, mask).cpu()
        ref_logprobs = logprobs if reference is None else reference.token_logprobs(inputs, ids, mask).cpu()
    rows = []
    for row, response in enumerate(responses):
        pid, length = examples[row // k].pid, len(response)
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
                logprobs=tuple(logprobs[row, :length].tolist()),
                ref_logprobs=tuple(ref_logprobs[row, :length].tolist()),
            )
        )
    return rows


def _metrics(rollouts: list[Rollout]) -> dict[str, float]:
    count = max(1, len(rollouts))
    return {
        "rows": len(rollouts),
        "sentences": sum(len(r.spans) for r in rollouts) / count,
        "tokens": sum(len(r.token_ids) for r in rollouts) / count,
        "truncated": sum(r.truncated for r in rollouts) / count,
        "repetition": sum(repetition_rate(r.text) for r in rollouts) / count,
    }
