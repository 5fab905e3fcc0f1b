"""Reinforcement learning on tensors: rewards, advantages and losses. Torch only."""
