"""Encoders that turn image files into patch features: frozen networks, and raw pixels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ares.storage.files import sha256_file
from ares.types import AresError
from ares.vision.images import open_image


class Encoder(ABC):
    """Turns an image into P patches of D numbers.

    `read` prepares one file and may run in worker processes; `encode` takes a batch of what `read` returned.
    """

    repeat: int = 1  # how often each patch is repeated when features are read (see FeatureStore)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(P, D): patches per image and numbers per patch."""

    @abstractmethod
    def read(self, path: Path) -> Any:
        """Loads an image file as an input of `encode`; raises AresError for a file that is not a readable image."""

    @abstractmethod
    def encode(self, images: Sequence[Any]) -> np.ndarray:
        """The features of images, (len(images), P, D) float32."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the features, as JSON: equal fingerprints mean equal features."""


class PatchEncoder(Encoder):
    """The pixels and positions of square patches, for small drawn images and small models.

    An image is resized to `image_size` × `image_size` pixels; a patch is its `patch_size`² RGB values, scaled from
    [0, 255] to [−1, 1], followed by the one-hot position of the patch in reading order: (16, 784) for sizes 64 and
    16. The position is `patch_size` instead of 1, to balance the number of pixels.
    """

    def __init__(self, patch_size: int = 16, image_size: int = 64) -> None:
        if image_size % patch_size:
            raise AresError(
                f"features.image_size={image_size} is not a multiple of features.patch_size={patch_size}; change one of them."
            )
        self.patch_size, self.image_size = patch_size, image_size

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D)."""
        count = (self.image_size // self.patch_size) ** 2
        return count, 3 * self.patch_size**2 + count

    def read(self, path: Path) -> np.ndarray:
        """The pixels (image_size, image_size, 3) uint8."""
        return np.asarray(open_image(path, self.image_size))

    def encode(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The features of images, (len(images), P, D) float32."""
        side, size, count = self.image_size // self.patch_size, self.patch_size, len(images)
        pixels = np.stack(images)
        patches = pixels.reshape(count, side, size, side, size, 3).swapaxes(2, 3)
        values = patches.reshape(count, side * side, -1).astype(np.float32) / 127.5 - 1.0
        position = size * np.eye(side * side, dtype=np.float32)
        position = np.broadcast_to(position, (count, *position.shape))
        return np.concatenate([values, position], axis=-1)

    def fingerprint(self) -> dict[str, Any]:
        """The encoder's settings."""
        size = self.patch_size
        return {"encoder": "patches", "patch_size": size, "image_size": self.image_size, "position": size}


class TimmEncoder(Encoder):
    """The last tokens (prefix tokens such as CLS included) of any timm model; with `pooled`, its one pooled vector.

    A convolutional network's map is read row by row. Weights come from timm's hub (`pretrained`), from a local
    file (`checkpoint`, .safetensors or .pth), or, with neither, from `seed`. `model_args` go to
    `timm.create_model` (`img_size`, ...). `precision` "auto" is bf16 on a GPU and 32 bits elsewhere. The network
    is built on first use.
    """

    def __init__(
        self,
        model: str,
        checkpoint: str | Path | None = None,
        pretrained: bool = True,
        seed: int = 0,
        device: str | None = None,
        model_args: Mapping[str, Any] | None = None,
        pooled: bool = False,
        repeat: int = 1,
        precision: str = "auto",
    ) -> None:
        self.model, self.pretrained, self.seed = model, pretrained, seed
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.device, self.model_args = device, dict(model_args or {})
        self.pooled, self.repeat, self.precision = pooled, repeat, precision

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D), measured on a blank image."""
        from PIL import Image

        _, transform = self._loaded
        _, patches, dim = self.encode([transform(Image.new("RGB", (8, 8)))]).shape
        return patches, dim

    def read(self, path: Path) -> Any:
        """Returns the preprocessed pixels, (3, H, W) float32."""
        _, transform = self._loaded
        return transform(open_image(path))

    def encode(self, images: Sequence[Any]) -> np.ndarray:
        """The features of images, (len(images), P, D) float32."""
        import torch

        network, _ = self._loaded
        device = next(network.parameters()).device
        batch = torch.stack(list(images)).to(device)
        with torch.inference_mode(), half_precision(self.precision, device):
            found = network(batch)[:, None] if self.pooled else network.forward_features(batch)
        if not isinstance(found, torch.Tensor):
            raise AresError(
                f"features.model={self.model} gives several maps, not one; choose another model of timm."
            )
        if found.ndim == 4:  # timm gives (B, D, H, W) or (B, H, W, D)
            found = found.flatten(2).mT if found.shape[1] == network.num_features else found.flatten(1, 2)
        return found.float().cpu().numpy()

    def fingerprint(self) -> dict[str, Any]:
        """The model and where its weights come from: a local file by its content, fresh ones by their seed."""
        import timm

        weights: dict[str, Any] = {"pretrained": True} if self.pretrained else {"seed": self.seed}
        if self.checkpoint:
            weights = {"checkpoint": sha256_file(self.checkpoint)}
        return {
            "encoder": "timm",
            "model": self.model,
            "timm": timm.__version__,
            "model_args": {name: self.model_args[name] for name in sorted(self.model_args)},
            "pooled": self.pooled,
            "repeat": self.repeat,
            "precision": resolved_precision(self.precision, chosen_device(self.device)),
            **weights,
        }

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The network and its preprocessing of an image."""
        import timm
        import torch

        args = dict(self.model_args)
        if self.checkpoint:
            if not self.checkpoint.is_file():
                raise AresError(
                    f"features.checkpoint={self.checkpoint} is not a file; give the weights' path, or null."
                )
            args["pretrained_cfg_overlay"] = {"file": str(self.checkpoint)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                pretrained = self.pretrained or self.checkpoint is not None
                network = timm.create_model(self.model, pretrained=pretrained, num_classes=0, **args)
            except Exception as error:  # a torn or foreign file fails in as many ways as there are formats
                raise AresError(
                    f"timm cannot create features.model={self.model} ({str(error).splitlines()[0]}); check the name, "
                    "features.model_args and the connection, or give the weights as a file with features.checkpoint=<path>."
                ) from error
        network = network.eval().requires_grad_(False).to(chosen_device(self.device))
        side = self.model_args.get("img_size")
        # timm takes one side under this name and two under another.
        sides = {"input_size": (3, *side)} if isinstance(side, Sequence) else {}
        settings = timm.data.resolve_model_data_config(network, args={**self.model_args, **sides})
        return network, timm.data.create_transform(**settings, is_training=False)


def chosen_device(device: str | None) -> str:
    """Returns `device`; for None, a GPU if there is one."""
    import torch

    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def resolved_precision(precision: str, device: str) -> str:
    """Returns "32" or "bf16"; "auto" is bf16 on a GPU and 32 bits elsewhere."""
    if precision == "auto":
        return "bf16" if device.startswith("cuda") else "32"
    return precision


def half_precision(precision: str, device: Any) -> Any:
    """The context in which a network on `device` runs in `precision`."""
    import torch

    half = resolved_precision(precision, str(device)) == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half)
