"""rollout: k sampled rationales a question with their sentences and log-probabilities, part by part."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from ares.datamodules.collate import pad_right
from ares.models.generation import sample, token_logprobs
from ares.ranks import gather, is_first, share
from ares.steps.generation import encode_prompts, prompt_batch
from ares.steps.inputs import examples_of, features_of, policy_of, problems_of, progress
from ares.store import Outputs, Run, read_rollouts, write_rollouts
from ares.text.sentences import repetition_rate, sentence_spans
from ares.types import Config, Rollout


def rollout(config: Config, run: Run) -> Outputs:
    """Writes `rollouts/part-<n>.parquet` of 64 questions each; parts of this hash that are there stay.

    Ranks share the parts, and no part depends on which rank writes it.
    """
    problems, splits = problems_of(config, run)
    policy, tokenizer = policy_of(config, run.inputs["policy"], dropout=0.0)
    reference = None
    if config.rl.reference == "initial" and run.inputs["initial"].resolve() != run.inputs["policy"].resolve():
        reference, _ = policy_of(config, run.inputs["initial"], dropout=0.0)
    pids = splits["train"][: config.rl.questions]
    prompts = encode_prompts(
        tokenizer, examples_of(problems, pids, "QCM-E", config), config.text.max_input_tokens
    )
    features = features_of(run)
    size = config.rl.questions_per_part
    parts = [pids[start : start + size] for start in range(0, len(pids), size)]
    missing = [n for n in range(len(parts)) if not _made(run.folder / f"part-{n}.parquet", run.hash)]
    gather(None)  # all have looked before one writes
    mine = share(missing)
    for number in progress(mine, total=len(mine), label=run.key):
        rows = _part(config, run, number, parts[number], prompts, policy, reference, tokenizer, features)
        write_rollouts(run.folder / f"part-{number}.parquet", rows, run.provenance)
    gather(None)
    if not is_first():
        return Outputs({})
    for stale in set(run.folder.glob("part-*.parquet")) - {
        run.folder / f"part-{n}.parquet" for n in range(len(parts))
    }:
        stale.unlink()
    return Outputs({"rollouts": run.folder}, _figures(read_rollouts(run.folder)))


def _made(path: Path, digest: str) -> bool:
    if not path.exists():
        return False
    return (pq.read_schema(path).metadata or {}).get(b"ares.hash", b"").decode() == digest


def part_seed(seed: int, round_number: int, part: int) -> int:
    """The seed of a part: the first 8 bytes of sha256(f'{seed}/{round}/{part}'), so that it depends on nothing else."""
    digest = hashlib.sha256(f"{seed}/{round_number}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _part(
    config: Config,
    run: Run,
    number: int,
    pids: list[str],
    prompts: dict[str, list[int]],
    policy: Any,
    reference: Any,
    tokenizer: Any,
    features: Any,
) -> list[Rollout]:
    rl, pad = config.rl, tokenizer.pad_token_id
    generator = torch.Generator(policy.device)
    generator.manual_seed(part_seed(config.seed, run.round, number) % 2**63)
    rows: list[Rollout] = []
    for start in range(0, len(pids), rl.generation_batch):
        batch = pids[start : start + rl.generation_batch]
        ids, mask, images = prompt_batch([prompts[pid] for pid in batch], batch, features, pad, policy.device)
        responses = sample(
            policy,
            ids,
            mask,
            images,
            k=rl.k,
            top_k=rl.top_k,
            top_p=rl.top_p,
            temperature=rl.temperature,
            max_new_tokens=rl.max_new_tokens,
            generator=generator,
        )
        repeated = [pid for pid in batch for _ in range(rl.k)]
        ids, mask, images = prompt_batch(
            [prompts[pid] for pid in repeated], repeated, features, pad, policy.device
        )
        response_ids = pad_right(responses, pad).to(policy.device)
        response_mask = pad_right([[1.0] * len(response) for response in responses], 0.0).to(policy.device)
        with torch.no_grad():
            logprobs = token_logprobs(policy, ids, mask, images, response_ids, response_mask).cpu()
            ref_logprobs = logprobs
            if reference is not None:
                ref_logprobs = token_logprobs(reference, ids, mask, images, response_ids, response_mask).cpu()
        for row, (pid, response) in enumerate(zip(repeated, responses, strict=True)):
            text, spans, ends = sentence_spans(tokenizer, response, newline=config.text.newline)
            length = len(response)
            rows.append(
                Rollout(
                    row_id=f"{pid}/{row % rl.k}",
                    pid=pid,
                    sample=row % rl.k,
                    text=text,
                    token_ids=tuple(response),
                    truncated=tokenizer.eos_token_id not in response,
                    spans=tuple(spans),
                    token_ends=tuple(ends),
                    logprobs=tuple(logprobs[row, :length].tolist()),
                    ref_logprobs=tuple(ref_logprobs[row, :length].tolist()),
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
