"""RLOO per sentence: each sentence against the other rationales of its question (Ahmadian et al. 2024)."""

from ares.rl.advantages import rloo_advantages
from ares.rl.objectives.base import comparison

OBJECTIVE = comparison(rloo_advantages)
