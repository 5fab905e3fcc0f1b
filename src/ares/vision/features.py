"""Image features: extracted once by a frozen encoder into a memory-mapped file, looked up by problem afterwards.

`features.npy` is (images, P, D) float32: P patches of D numbers an image. `index.json` says which row is whose,
which encoder made them, and the sha256 of `features.npy`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.format import open_memmap

from ares.store import atomic_path, hash_of, read_json, sha256_file, write_json
from ares.types import AresError
from ares.vision.images import open_image


class Encoder(Protocol):
    """A frozen network, or fixed function, that turns image files into patches."""

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D): the patches of an image and the numbers of a patch."""

    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        """The features of image files, (len(paths), P, D) float32."""

    def fingerprint(self) -> dict[str, Any]:
        """What determines the features, as JSON: equal fingerprints, equal features."""


class PatchEncoder:
    """The pixels of square patches and where they are: for small drawn images and small models.

    An image is resized to `image_size` pixels square; a patch is its `patch_size`² RGB values, scaled from
    [0, 255] to [−1, 1], followed by the one-hot position of the patch in reading order, 64 and 16 pixels
    giving (16, 784). The position is `patch_size` instead of 1, or else the many pixels would drown it.
    """

    def __init__(self, patch_size: int = 16, image_size: int = 64) -> None:
        if image_size % patch_size:
            raise AresError(
                f"features.image_size={image_size} is no multiple of features.patch_size={patch_size}; choose one that is."
            )
        self.patch_size, self.image_size = patch_size, image_size

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D)."""
        count = (self.image_size // self.patch_size) ** 2
        return count, 3 * self.patch_size**2 + count

    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        """The features of image files, (len(paths), P, D) float32; raises AresError for a file that is no image."""
        side, size = self.image_size // self.patch_size, self.patch_size
        pixels = np.stack([np.asarray(open_image(path, self.image_size)) for path in paths])
        patches = pixels.reshape(len(paths), side, size, side, size, 3).swapaxes(2, 3)
        values = patches.reshape(len(paths), side * side, -1).astype(np.float32) / 127.5 - 1.0
        position = np.broadcast_to(
            size * np.eye(side * side, dtype=np.float32), (len(paths), side * side, side * side)
        )
        return np.concatenate([values, position], axis=-1)

    def fingerprint(self) -> dict[str, Any]:
        """The encoder's settings."""
        return {
            "encoder": "patches",
            "patch_size": self.patch_size,
            "image_size": self.image_size,
            "position": self.patch_size,
        }


class TimmEncoder:
    """The last tokens (prefix tokens such as CLS included) of any timm model with `forward_features`.

    Weights come from timm's hub (`pretrained`), from a local file (`checkpoint`, .safetensors or .pth), or, with
    neither, from `seed`. `model_args` go to `timm.create_model` (`img_size`, ...). The network is made at first use.
    """

    def __init__(
        self,
        model: str,
        checkpoint: str | Path | None = None,
        pretrained: bool = True,
        seed: int = 0,
        device: str | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.pretrained, self.seed = model, pretrained, seed
        self.checkpoint = Path(checkpoint) if checkpoint else None
        self.device, self.model_args = device, dict(model_args or {})
        self._network: Any = None
        self._transform: Any = None

    @property
    def shape(self) -> tuple[int, int]:
        """(P, D), as a blank image shows it."""
        from PIL import Image

        _, patches, dim = self._tokens([Image.new("RGB", (8, 8))]).shape
        return patches, dim

    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        """The features of image files, (len(paths), P, D) float32; raises AresError for a file that is no image."""
        return self._tokens([open_image(path) for path in paths])

    def fingerprint(self) -> dict[str, Any]:
        """The model and where its weights come from: a local file by its content, fresh ones by their seed."""
        import timm

        weights: dict[str, Any] = {"pretrained": True} if self.pretrained else {"seed": self.seed}
        if self.checkpoint:
            weights = {"checkpoint": sha256_file(self.checkpoint)}
        args = {name: self.model_args[name] for name in sorted(self.model_args)}
        return {
            "encoder": "timm",
            "model": self.model,
            "timm": timm.__version__,
            "model_args": args,
            **weights,
        }

    def _tokens(self, images: Sequence[Any]) -> np.ndarray:
        import torch

        network = self._load()
        batch = torch.stack([self._transform(image) for image in images]).to(
            next(network.parameters()).device
        )
        with torch.inference_mode():
            found = network.forward_features(batch)
        if found.ndim == 4:  # a convolutional network's map; timm gives (B, D, H, W) or (B, H, W, D)
            found = found.flatten(2).mT if found.shape[1] == network.num_features else found.flatten(1, 2)
        return found.float().cpu().numpy()

    def _load(self) -> Any:
        if self._network is not None:
            return self._network
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
            except (OSError, RuntimeError) as error:
                raise AresError(
                    f"timm cannot make features.model={self.model} ({str(error).splitlines()[0]}); check the name "
                    "and the connection, or give the weights as a file with features.checkpoint=<path>."
                ) from error
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().requires_grad_(False).to(device)
        settings = timm.data.resolve_model_data_config(network, args=self.model_args)
        self._transform = timm.data.create_transform(**settings, is_training=False)
        return self._network


def extract_features(
    images: Mapping[str, Path],
    encoder: Encoder,
    folder: Path | str,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> None:
    """Writes `features.npy` and `index.json` of the images of problems (pid to path) into a folder.

    Each file appears whole or not at all, the index last. Problems that share an image file share a row.
    Raises AresError naming the problem where a file is missing.
    """
    for pid, path in images.items():
        if not Path(path).is_file():
            raise AresError(
                f"Problem {pid} has no image in {path}; put the images there (data.root), or do without: features=none."
            )
    folder = Path(folder)
    paths = list(dict.fromkeys(Path(path) for path in images.values()))
    row_of = {path: row for row, path in enumerate(paths)}
    with atomic_path(folder / "features.npy") as temporary:
        _write_features(paths, encoder, temporary, batch_size, progress)
    shape, fingerprint = list(encoder.shape), encoder.fingerprint()
    digest = sha256_file(folder / "features.npy")
    rows = {pid: row_of[Path(path)] for pid, path in images.items()}
    index = {"rows": rows, "shape": shape, "encoder": fingerprint, "features_sha256": digest}
    # One hash for rows, encoder and numbers: what depends on the features depends on all three.
    write_json(folder / "index.json", {"sha256": hash_of(index), **index})


def _write_features(
    paths: Sequence[Path], encoder: Encoder, file: Path, batch_size: int, progress: bool
) -> None:
    from tqdm import tqdm

    features = open_memmap(file, mode="w+", dtype=np.float32, shape=(len(paths), *encoder.shape))
    starts = range(0, len(paths), batch_size)
    for start in tqdm(starts, desc="image features", unit="batch", disable=not progress):
        features[start : start + batch_size] = encoder.encode(paths[start : start + batch_size])
    features.flush()


class FeatureStore:
    """The features of a folder that `extract_features` wrote, read from the disk as they are asked for.

    The file is opened at the first `get` of each process, so that a store can be pickled and forked freely.
    Raises AresError where the folder holds no features.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / "index.json").is_file():
            raise AresError(
                f"There are no image features in {self.folder}; make them with stage=prepare, or do without: features=none."
            )
        index = read_json(self.folder / "index.json")
        self.shape: tuple[int, int] = (index["shape"][0], index["shape"][1])
        self.sha256: str = index["sha256"]
        self.encoder: dict[str, Any] = index["encoder"]
        self._rows: dict[str, int] = index["rows"]
        self._features: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": None}

    def __contains__(self, pid: str) -> bool:
        return pid in self._rows

    def get(self, pids: Iterable[str]) -> np.ndarray:
        """The features (B, P, D) float32 of problems; zeros for those without an image."""
        rows = [self._rows.get(pid) for pid in pids]
        found = np.zeros((len(rows), *self.shape), dtype=np.float32)
        if self._features is None and any(row is not None for row in rows):
            # Forked workers share the read-only pages; each process that asks first maps the file itself.
            self._features = np.load(self.folder / "features.npy", mmap_mode="r")
        for place, row in enumerate(rows):
            if row is not None:
                assert self._features is not None
                found[place] = self._features[row]
        return found
