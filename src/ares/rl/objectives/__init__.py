"""Objectives of reinforcement learning, one file each: how sentence rewards become advantages, and the loss they weight."""

from ares.rl.objectives.base import LossSettings, Objective, Rollouts, Targets, load_objective

__all__ = ["LossSettings", "Objective", "Rollouts", "Targets", "load_objective"]
