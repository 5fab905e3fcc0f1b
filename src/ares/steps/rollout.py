"""rollout: k sampled rationales a question with their sentences and log-probabilities, part by part."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ares.config.schema import Config
from ares.ranks import gather, is_first, shard
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.generation import encode_prompts, prompt_batch
from ares.steps.common.inputs import examples_of, features_of, load_problems, policy_of, progress
from ares.storage.tables import read_rollouts, write_rollouts
from ares.text.sentences import repetition_rate, sentence_spans
from ares.types import Example, Rollout

SPEC = StepSpec(
    name="rollout",
    reads=("data", "features", "policy", "initial"),
    writes=("rollouts",),
    settings=(
        "seed",
        "text",
        *keys_of("rl", "questions k top_k top_p temperature max_new_tokens questions_per_part"),
        *keys_of("rl", "generation_batch reference"),
    ),
    runs_on="device",
    places=("round",),
    folder="rollouts",
    shared=True,
)


@dataclass(frozen=True)
class _Writer:
    """What writes rationales, and about what: `reference` is None where the policy is its own, `prompts` ids by pid."""

    policy: Any
    reference: Any
    tokenizer: Any
    features: Any
    prompts: dict[str, list[int]]

    def inputs(self, pids: Sequence[str]) -> tuple[Any, ...]:
        """The prompts of some problems as a batch on the policy's device."""
        pad = self.tokenizer.pad_token_id
        return prompt_batch([self.prompts[pid] for pid in pids], pids, self.features, pad, self.policy.device)


def rollout(config: Config, context: StepContext) -> StepResult:
    """Writes `rollouts/part-<n>.parquet` of 64 questions each; parts of this hash that are there stay.

    Ranks share the parts, and no part depends on which rank writes it.
    """
    problems, splits = load_problems(config, context)
    pids = splits["train"][: config.rl.questions]
    writer = _writer(config, context, examples_of(problems, pids, "QCM-E", config))
    size = config.rl.questions_per_part
    parts = [pids[start : start + size] for start in range(0, len(pids), size)]
    paths = [context.folder / f"part-{number}.parquet" for number in range(len(parts))]
    missing = [number for number, path in enumerate(paths) if not _made(path, context.hash)]
    gather(None)  # all have looked before one writes
    mine = shard(missing)
    for number in progress(mine, total=len(mine), label=context.key):
        write_rollouts(
            paths[number], _part(config, context, number, parts[number], writer), context.provenance
        )
    gather(None)
    if not is_first():
        return StepResult({})
    for stale in set(context.folder.glob("part-*.parquet")) - set(paths):
        stale.unlink()
    return StepResult({"rollouts": context.folder}, _figures(read_rollouts(context.folder)))


def _writer(config: Config, context: StepContext, examples: Mapping[str, Example]) -> _Writer:
    policy, tokenizer = policy_of(config, context.inputs["policy"], dropout=0.0)
    reference = None
    is_own = context.inputs["initial"].resolve() == context.inputs["policy"].resolve()
    if config.rl.reference == "initial" and not is_own:
        reference, _ = policy_of(config, context.inputs["initial"], dropout=0.0)
    prompts = encode_prompts(tokenizer, examples, config.text.max_input_tokens)
    return _Writer(policy, reference, tokenizer, features_of(context), prompts)


def _made(path: Path, digest: str) -> bool:
    import pyarrow.parquet as pq

    if not path.exists():
        return False
    return (pq.read_schema(path).metadata or {}).get(b"ares.hash", b"").decode() == digest


def part_seed(seed: int, round_number: int, part: int) -> int:
    """The seed of a part: the first 8 bytes of sha256(f'{seed}/{round}/{part}'), so that it depends on nothing else."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _part(
    config: Config, context: StepContext, number: int, pids: list[str], writer: _Writer
) -> list[Rollout]:
    import torch

    from ares.models.t5.generation import sample

    rl = config.rl
    generator = torch.Generator(writer.policy.device)
    generator.manual_seed(part_seed(config.seed, context.round, number) % 2**63)
    rows: list[Rollout] = []
    for start in range(0, len(pids), rl.generation_batch):
        batch = pids[start : start + rl.generation_batch]
        responses = sample(
            writer.policy,
            *writer.inputs(batch),
            k=rl.k,
            top_k=rl.top_k,
            top_p=rl.top_p,
            temperature=rl.temperature,
            max_new_tokens=rl.max_new_tokens,
            generator=generator,
        )
        rows += _rows(writer, batch, responses, rl.k, config.text.newline)
    return rows


def _rows(
    writer: _Writer, pids: Sequence[str], responses: list[list[int]], k: int, newline: str
) -> list[Rollout]:
    """The responses, k for each problem, with their sentences and log-probabilities."""
    import torch

    from ares.datamodules.collate import pad_right
    from ares.models.t5.generation import token_logprobs

    tokenizer, device = writer.tokenizer, writer.policy.device
    repeated = [pid for pid in pids for _ in range(k)]
    inputs = (
        *writer.inputs(repeated),
        pad_right(responses, tokenizer.pad_token_id).to(device),
        pad_right([[1.0] * len(response) for response in responses], 0.0).to(device),
    )
    with torch.no_grad():
        logprobs = token_logprobs(writer.policy, *inputs).cpu()
        reference = writer.reference
        ref_logprobs = logprobs if reference is None else token_logprobs(reference, *inputs).cpu()
    rows = []
    for row, (pid, response) in enumerate(zip(repeated, responses, strict=True)):
        text, spans, ends = sentence_spans(tokenizer, response, newline=newline)
        rows.append(
            Rollout(
                row_id=f"{pid}/{row % k}",
                pid=pid,
                sample=row % k,
                text=text,
                token_ids=tuple(response),
                truncated=tokenizer.eos_token_id not in response,
                spans=tuple(spans),
                token_ends=tuple(ends),
                logprobs=tuple(logprobs[row, : len(response)].tolist()),
                ref_logprobs=tuple(ref_logprobs[row, : len(response)].tolist()),
            )
        )
    return rows


def _figures(rollouts: list[Rollout]) -> dict[str, float]:
    count = max(1, len(rollouts))
    return {
        "rows": len(rollouts),
        "sentences": sum(len(r.spans) for r in rollouts) / count,
        "tokens": sum(len(r.token_ids) for r in rollouts) / count,
        "truncated": sum(r.truncated for r in rollouts) / count,
        "repetition": sum(repetition_rate(r.text) for r in rollouts) / count,
    }
