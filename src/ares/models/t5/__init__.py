"""T5 with image fusion: the paper's model, and the first implementation of a policy."""

from ares.models.t5.fusion import FusionT5Config
from ares.models.t5.model import T5ForMultimodalGeneration, T5ForMultimodalValue

__all__ = ["FusionT5Config", "T5ForMultimodalGeneration", "T5ForMultimodalValue"]
