"""DETR's object queries as image features: 100 x 256, as Multimodal-CoT published them.

Carion et al. 2020, "End-to-End Object Detection with Transformers"; the last states of the decoder.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ares.storage.files import sha256_path
from ares.types import AresError
from ares.vision.encoders import Encoder, chosen_device, half_precision, resolved_precision
from ares.vision.images import open_image

# In pixels, for any shorter side: DETR's own limit. Multimodal-CoT, at 224 pixels, had none; only images at least six
# times as long as wide reach it.
LONGEST_SIDE = 1333


class DetrEncoder(Encoder):
    """A DETR of transformers, from a folder or hub id, or, with `pretrained=False`, from `seed`.

    `model_args` are then those of `DetrConfig`. Images keep their proportions, the shorter side `image_size`
    pixels, fewer where the longer one would exceed `LONGEST_SIDE`; only images of equal size are batched, so
    that padding never enters the features.
    """

    def __init__(
        self,
        model: str = "facebook/detr-resnet-101-dc5",
        pretrained: bool = True,
        image_size: int = 800,
        seed: int = 0,
        device: str | None = None,
        model_args: Mapping[str, Any] | None = None,
        precision: str = "auto",
    ) -> None:
        self.model, self.pretrained, self.image_size, self.seed = model, pretrained, image_size, seed
        self.device, self.model_args, self.precision = device, dict(model_args or {}), precision

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D): the queries and their width."""
        network, _ = self._loaded
        config = network.config
        return config.num_queries, config.d_model

    def read(self, path: Path) -> Any:
        """Returns the preprocessed pixels, (3, H, W) float32."""
        _, processor = self._loaded
        return processor(images=open_image(path), return_tensors="pt")["pixel_values"][0]

    def encode(self, images: Sequence[Any]) -> np.ndarray:
        """The features of images, (len(images), P, D) float32."""
        import torch

        network, _ = self._loaded
        found = np.empty((len(images), *self.shape), dtype=np.float32)
        order = sorted(range(len(images)), key=lambda row: tuple(images[row].shape))
        for _, group in groupby(order, key=lambda row: tuple(images[row].shape)):
            rows = list(group)
            batch = torch.stack([images[row] for row in rows]).to(network.device)
            with torch.inference_mode(), half_precision(self.precision, network.device):
                states = network(pixel_values=batch).last_hidden_state
            found[rows] = states.float().cpu().numpy()
        return found

    def fingerprint(self) -> dict[str, Any]:
        """The model, where its weights come from, and the sizes of its images."""
        import transformers

        weights: dict[str, Any] = {"model": self.model}
        if not self.pretrained:
            weights = {"seed": self.seed, "model_args": self.model_args}
        elif Path(self.model).is_dir():
            weights = {"checkpoint": sha256_path(self.model)}
        return {
            "encoder": "detr",
            "transformers": transformers.__version__,
            "image_size": [self.image_size, LONGEST_SIDE],
            "precision": resolved_precision(self.precision, chosen_device(self.device)),
            **weights,
        }

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The network and its preprocessing of an image."""
        import torch
        from transformers import DetrConfig, DetrImageProcessor, DetrModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                network = self._pretrained() if self.pretrained else DetrModel(DetrConfig(**self.model_args))
            except AresError:
                raise
            except Exception as error:  # a torn or foreign file fails in as many ways as there are formats
                raise AresError(
                    f"features.model={self.model} cannot be loaded ({str(error).splitlines()[0]}); give a DETR's "
                    "folder, or the id of one that can be downloaded."
                ) from error
        size = {"shortest_edge": self.image_size, "longest_edge": max(self.image_size, LONGEST_SIDE)}
        network = network.eval().requires_grad_(False).to(chosen_device(self.device))
        return network, DetrImageProcessor(size=size, do_pad=False)

    def _pretrained(self) -> Any:
        from transformers import DetrModel

        loaded: Any = DetrModel.from_pretrained(self.model, output_loading_info=True)
        network, info = loaded
        if info["missing_keys"]:
            raise AresError(
                f"The checkpoint in features.model={self.model} lacks {sorted(info['missing_keys'])[0]}; it is not a complete DETR."
            )
        return network
