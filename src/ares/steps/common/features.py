"""The folder of a data set's image features: its name, whether it is up to date, and the extraction.

Features depend on images and an encoder only, not on the problems' texts.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ares.config.commands import command
from ares.config.schema import Config
from ares.storage.files import hash_of, read_object, write_json
from ares.types import AresError
from ares.vision.features import FeatureStore
from ares.vision.reading import stamp, stamps


def features_folder(config: Config, shared: Path, images: Mapping[str, Path], *, make: bool) -> Path:
    """The folder of the features of problems' `images` (pid to path): `features.path`, or one in `shared`.

    With `make`, absent or outdated features are extracted. Raises AresError if they are absent or outdated without
    `make`, or if images have no features and `features.on_corrupt` is not skip.
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
    """Holds a folder's lock; yields whether the folder is already complete (has its `prepared.json`)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        yield (folder / "prepared.json").exists()


def _own_folder(config: Config, shared: Path, images: Mapping[str, Path], make: bool) -> Path:
    folder = shared / f"features-{_key(config, images)}"
    stamp_now = _stamp(config, images)
    if not make and _recorded_stamp(folder) != stamp_now:
        raise AresError(
            f"The image features of data={config.data.name} are not extracted yet, or the images have changed since; "
            f"extract them with `{command('prepare')}`, or do without images: features=none."
        )
    with making(folder):
        if _recorded_stamp(folder) != stamp_now:
            (folder / "prepared.json").unlink(missing_ok=True)
            _extract(config, images, folder)
            write_json(folder / "prepared.json", {**_encoder(config), "images": stamp_now})
    return folder


def _encoder(config: Config) -> dict[str, Any]:
    return {"_target_": config.features._target_, **config.features.arguments}


def _key(config: Config, images: Mapping[str, Path]) -> str:
    if config.features.arrays:
        # Contents are hashed at import; gigabytes are not read again at every start.
        files = [Path(path) for path in (config.features.arrays, config.features.name_map) if path]
        known = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files if p.is_file()]
        return hash_of([known, config.features.arguments.get("repeat", 1)])[:16]
    settings = _encoder(config)
    weights = [stamps(Path(settings[key])) for key in ("checkpoint", "model") if settings.get(key)]
    # Absolute paths: data sets in different places may have files of the same names.
    owners = sorted([pid, os.path.abspath(path)] for pid, path in images.items())
    return hash_of([owners, settings, weights])[:16]


def _stamp(config: Config, images: Mapping[str, Path]) -> str:
    """A hash of the images' paths, sizes and times, which changes when one is added, repaired, replaced or removed.

    It is not in the folder's name, so that after a repair an interrupted extraction resumes in the same folder.
    """
    if config.features.arrays:
        return "those of the key"  # the folder's name already depends on the files
    return hash_of(sorted([os.path.abspath(path), *stamp(path)] for path in set(images.values())))


def _recorded_stamp(folder: Path) -> str | None:
    """The stamp of the images from which a folder's features were extracted, None without features."""
    path = folder / "prepared.json"
    return read_object(path).get("images") if path.exists() else None


def _check_complete(store: FeatureStore, images: Mapping[str, Path]) -> None:
    if missing := store.missing(images):
        pid, reason = next(iter(missing.items()))
        raise AresError(
            f"The image features in {store.folder} leave out {len(missing)} problems' images (problem {pid}: "
            f"{reason.split('; ')[0]}); repair the images and run stage=prepare again, use features that have them, or "
            "do without them: features.on_corrupt=skip."
        )


def _extract(config: Config, images: Mapping[str, Path], folder: Path) -> None:
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
