"""Writing alone: on a GPU by CUDA graphs, by the same steps launched one kernel at a time, and by cohorts; rows per second.

`ours` is what the steps of a run do: graphs on a GPU, cohorts on a CPU. All write the same rows, of real lengths.
"""

import argparse

import torch

from ares.models.inputs import Sampling
from ares.models.sampling import drawn, uniforms_of
from benchmarks.baselines import build_policy, questions
from benchmarks.lengths import response_lengths
from benchmarks.rollout import EOS, PAD, QUESTIONS, K
from benchmarks.turns import alternate, table


def main(args: argparse.Namespace) -> dict[str, float]:
    """Measures the three in turn."""
    policy = build_policy(args.policy, args.size, device=args.device)
    inputs, limits = questions(policy, QUESTIONS).to(args.device), response_lengths(QUESTIONS * K)
    uniforms = uniforms_of(0, len(limits), max(limits) + 1).to(args.device)
    choose = drawn(Sampling(), uniforms, [PAD, EOS])
    sides = {
        "ours": lambda: policy.write(inputs, choose, limits, k=K),
        "launched": lambda: policy.write(inputs, choose, limits, k=K, capture=lambda step: step),
        "cohorts": lambda: policy.write(inputs, choose, limits, k=K, capture=None),
    }
    with torch.no_grad():
        return table(
            alternate(sides, device=args.device, limit=args.seconds), dict.fromkeys(sides, QUESTIONS * K)
        )
