"""Image features of questions that are in no data set, encoded when they are asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_object

from ares.config.options import FeaturesConfig
from ares.types import AresError
from ares.vision.encoders import Encoder


class AskedFeatures:
    """Features by question, as a policy looks them up: those of the images that `see` was given last."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        patches, dim = encoder.shape
        self.shape: tuple[int, int] = (patches * encoder.repeat, dim)
        self._known: dict[str, np.ndarray] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "AskedFeatures":
        return self  # the copy of a policy is asked the same questions

    def see(self, images: Mapping[str, Path]) -> None:
        """Encodes the images of questions (by pid). Raises AresError for one that cannot be read."""
        pixels = [self.encoder.read(path) for path in images.values()]
        self._known = dict(zip(images, self.encoder.encode(pixels), strict=True)) if pixels else {}

    def get(self, pids: Sequence[str]) -> np.ndarray:
        """The features (B, P, D) float32 of questions; zeros for those without an image."""
        found = np.zeros((len(pids), *self.shape), dtype=np.float32)
        for row, pid in enumerate(pids):
            if pid in self._known:
                found[row] = np.repeat(self._known[pid], self.encoder.repeat, axis=0)
        return found


def features_of(settings: FeaturesConfig) -> AskedFeatures | None:
    """Features by the encoder of a run's settings, None for a run without features.

    Raises AresError where the settings name no encoder of images.
    """
    if settings._target_ is None:
        return None
    try:
        known = get_object(settings._target_)
    except (ImportError, ValueError):
        known = None
    # Settings may come from a folder that somebody else exported: nothing but an encoder is called.
    if not (isinstance(known, type) and issubclass(known, Encoder)):
        raise AresError(f"features._target_={settings._target_} is no image encoder that is installed here.")
    return AskedFeatures(settings.build())
