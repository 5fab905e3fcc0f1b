"""Sweeps: many settings of one stage; steps that all jobs share run once."""
