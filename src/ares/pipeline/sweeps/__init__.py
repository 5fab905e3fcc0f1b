"""Sweeps: many settings of one stage, with what they have in common computed once."""
