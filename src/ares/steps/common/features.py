"""The folder of a data set's image features: what it is called, whether it is up to date, and how it is made.

What features are made from are images and an encoder; what else is said of a problem does not touch them.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ares.config.commands import command
from ares.config.schema import Config
from ares.storage.files import hash_of, read_json, write_json
from ares.types import AresError
from ares.vision.features import FeatureStore
from ares.vision.reading import stamp, stamps


def features_folder(config: Config, shared: Path, images: Mapping[str, Path], *, make: bool) -> Path:
    """The folder of the features of problems' `images` (pid to path): `features.path`, or one in `shared`.

    With `make` what is absent or out of date is made. Raises AresError where it is and may not be made, or where
    problems' images have no features and `features.on_corrupt` does not say skip.
    """
    if config.features.path:
        folder = Path(config.features.path).resolve()
    else:
        folder = _own_folder(config, shared, images, make)
    store = FeatureStore(folder)
    store.check_owners(images)
    if config.features.on_corrupt != "skip":
        _check_complete(store, images)
    return folder


@contextmanager
def making(folder: Path) -> Iterator[bool]:
    """Holds a folder's lock; yields whether the folder is already complete, that is, has its `prepared.json`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        yield (folder / "prepared.json").exists()


def _own_folder(config: Config, shared: Path, images: Mapping[str, Path], make: bool) -> Path:
    folder = shared / f"features-{_key(config, images)}"
    made_of = _stamp(config, images)
    if not make and _made_of(folder) != made_of:
        raise AresError(
            f"The image features of data={config.data.name} are not extracted yet, or of other images than there are now; "
            f"make them with `{command('prepare')}`, or do without images: features=none."
        )
    with making(folder):
        if _made_of(folder) != made_of:
            (folder / "prepared.json").unlink(missing_ok=True)
            _make(config, images, folder)
            write_json(folder / "prepared.json", {**_encoder(config), "images": made_of})
    return folder


def _encoder(config: Config) -> dict[str, Any]:
    return {"_target_": config.features._target_, **config.features.arguments}


def _key(config: Config, images: Mapping[str, Path]) -> str:
    if config.features.arrays:
        # Their content is hashed when they are imported; gigabytes are not read again at every start.
        files = [Path(path) for path in (config.features.arrays, config.features.name_map) if path]
        known = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files if p.is_file()]
        return hash_of([known, config.features.arguments.get("repeat", 1)])[:16]
    settings = _encoder(config)
    weights = [stamps(Path(settings[key])) for key in ("checkpoint", "model") if settings.get(key)]
    # Absolute, or else data sets in different places whose files are called the same would share a folder.
    owners = sorted([pid, os.path.abspath(path)] for pid, path in images.items())
    return hash_of([owners, settings, weights])[:16]


def _stamp(config: Config, images: Mapping[str, Path]) -> str:
    """What shows that images were added, repaired, replaced or removed: where each is, its size and its time.

    It is no part of the folder's name: after a repair an interrupted extraction goes on in the same folder.
    """
    if config.features.arrays:
        return "those of the key"  # by which the folder is named
    return hash_of(sorted([os.path.abspath(path), *stamp(path)] for path in set(images.values())))


def _made_of(folder: Path) -> str | None:
    """The stamp of the images that the features in a folder were made of, None where there are none."""
    made = folder / "prepared.json"
    return read_json(made).get("images") if made.exists() else None


def _check_complete(store: FeatureStore, images: Mapping[str, Path]) -> None:
    missing = store.missing(images)
    if missing:
        pid, reason = next((pid, why.split("; ")[0]) for pid, why in missing.items())
        raise AresError(
            f"The image features in {store.folder} leave out {len(missing)} problems' images (problem {pid}: {reason}); "
            "repair the images and run stage=prepare again, name features that have them, or do without them: "
            "features.on_corrupt=skip."
        )


def _make(config: Config, images: Mapping[str, Path], folder: Path) -> None:
    features = config.features
    if features.arrays:
        from ares.original.feature_arrays import import_features

        name_map = features.name_map or Path(features.arrays).parent / "name_map.json"
        import_features(features.arrays, name_map, folder, repeat=features.arguments.get("repeat", 1))
        return
    from ares.vision.extraction import extract_features

    extract_features(
        images,
        features.build(),
        folder,
        batch_size=features.batch_size,
        workers=features.workers,
        on_corrupt=features.on_corrupt,
    )
