"""A generated data set in ScienceQA's schema whose every statement can be judged true, false or irrelevant."""

from ares.data.sample.generator import DEFAULT_SIZES, generate, write_sample
from ares.data.sample.items import Item
from ares.data.sample.oracle import Oracle, statements

__all__ = ["DEFAULT_SIZES", "Item", "Oracle", "generate", "statements", "write_sample"]
