"""GRPO per sentence: rewards normalized over the rationales of a question (Shao et al. 2024, process supervision)."""

from ares.rl.advantages import grpo_advantages
from ares.rl.objectives.base import comparison

OBJECTIVE = comparison(grpo_advantages)
