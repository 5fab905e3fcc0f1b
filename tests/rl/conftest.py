"""Hypothesis without a deadline: the first call pays for torch's imports."""

from hypothesis import settings

settings.register_profile("ares", deadline=None)
settings.load_profile("ares")
