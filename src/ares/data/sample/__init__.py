"""A generated data set in ScienceQA's schema whose every possible sentence can be labeled exactly."""

from ares.data.sample.generator import DEFAULT_SIZES, generate, read_sample, write_sample
from ares.data.sample.items import Item, SampleProblem, Truth

__all__ = ["DEFAULT_SIZES", "Item", "SampleProblem", "Truth", "generate", "read_sample", "write_sample"]
