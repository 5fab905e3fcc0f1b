"""prepare: problems, captions and image features as files, made once for all runs that use the same ones."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import get_method, instantiate

from ares.commands import command
from ares.schema import Config
from ares.step import Outputs, Run
from ares.store import hash_of, read_json, sha256_file, write_json
from ares.types import AresError, Problem
from ares.vision.features import FeatureStore
from ares.vision.reading import stamp, stamps

# What the settings of a group say to this step rather than to the reader or the encoder.
_NOT_THE_READERS = ("name", "_target_", "root", "hub", "sizes", "captioner")
_NOT_THE_ENCODERS = ("name", "path", "arrays", "name_map", "batch_size", "workers", "on_corrupt")
PROBLEM_FILES = ("problems.json", "aokvqa_v1p0_*.json", "problems.jsonl", "problems.parquet")
_SOURCES = (*PROBLEM_FILES, "pid_splits.json")


def read_problems(data: Mapping[str, Any], root: Path) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split in order, through the reader that `data._target_` names."""
    settings = {key: value for key, value in data.items() if key not in _NOT_THE_READERS}
    # Not instantiate(), which would wrap the reader's own words about bad data in its own.
    return get_method(data["_target_"])(str(root), **settings)


def source_hash(config: Config) -> str:
    """The hash of the problems' files and of how they are read, or of what a generated data set is made from."""
    if config.data["name"] == "sample":
        return hash_of({"sample": _sample_settings(config)})
    captions = captions_file(config.data)
    files = [*_source_files(Path(config.data["root"])), *([captions] if captions.exists() else [])]
    reading = {key: config.data.get(key) for key in ("rationale", "seed") if key in config.data}
    return hash_of([[[path.name, sha256_file(path)] for path in files], reading])


def captions_file(data: Mapping[str, Any]) -> Path:
    """Where a data set's captions are, if it has any."""
    root = Path(data["root"])
    return Path(data["captions"] or (root if root.is_dir() else root.parent) / "captions.json")


def prepared(config: Config, *, make: bool) -> dict[str, Path]:
    """The folders of the problems (`data`) and, unless features=none, of the image features (`features`).

    Generated data and features live in `<paths.runs>/shared`, named by the hash of what they are made from;
    with `make` what is absent is made. Raises AresError where something is absent and may not be made.
    """
    shared = (Path(config.paths.runs) / "shared").resolve()
    data = _sample(config, shared, make) if config.data["name"] == "sample" else _source(config, make)
    if make and (config.data.get("captioner") or {}).get("model"):
        _captions(config, data)
    found = {"data": data}
    if config.features["_target_"] is not None:
        found["features"] = _features(config, shared, data, make)
    return found


def prepare(config: Config, run: Run) -> Outputs:
    """Makes what `prepared` names, in a process that may use a GPU."""
    prepared(config, make=True)
    return Outputs({})


def prepare_alone(config: Config) -> list[str]:
    """`stage=prepare`: makes all of it on one device, whatever the strategy, and says what is there, a line each."""
    found = prepared(config, make=True)
    problems, splits = read_problems(config.data, found["data"])
    images = {problem.image for problem in problems.values() if problem.image is not None}
    captions = sum(bool(problem.caption) for problem in problems.values())
    sizes = ", ".join(f"{split} {len(pids):,}" for split, pids in splits.items())
    lines = [
        f"problems: {len(problems):,} ({sizes}), {len(images):,} images, {captions:,} captions in {found['data']}"
    ]
    if "features" in found:
        store = FeatureStore(found["features"])
        known = sum(pid in store for pid in problems)
        lines.append(
            f"features: {store.shape[0]} x {store.shape[1]} of {known:,} problems in {found['features']}"
        )
        for pid, reason in store.skipped.items():
            lines.append(f"skipped: problem {pid}, {reason}")
    return lines


def _source_files(root: Path, names: Iterable[str] = _SOURCES) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for name in names for path in root.glob(name))


def _source(config: Config, make: bool) -> Path:
    root, hub = Path(config.data["root"]), config.data.get("hub")
    # By the problems alone: a fetch that was killed may have left the splits, which it writes first.
    if not _source_files(root, PROBLEM_FILES) and make and hub:
        from ares.data.hub import fetch_hub

        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".hub.lock"):
            if not _source_files(root, PROBLEM_FILES):
                fetch_hub(hub, root)
    if not root.exists():
        fetch = (
            f"fetch {hub} with `python train.py stage=prepare data={config.data['name']}`, " if hub else ""
        )
        raise AresError(
            f"There is no data in {root.resolve()} (data.root); put it there, {fetch}or try the built-in problems "
            "with `python train.py experiment=demo`."
        )
    return root.resolve()


def _sample_settings(config: Config) -> dict[str, Any]:
    import ares.data.sample

    # The generator is part of what the data are made from: other code, other data.
    code = sorted(Path(ares.data.sample.__path__[0]).rglob("*.py"))
    return {
        "sizes": dict(config.data["sizes"]),
        "seed": config.seed,
        "generator": hash_of([[path.name, sha256_file(path)] for path in code]),
    }


def _sample(config: Config, shared: Path, make: bool) -> Path:
    folder = shared / f"sample-{source_hash(config)[:16]}"
    with _making(folder) as whole:
        if not whole:
            from ares.data.sample import write_sample

            write_sample(folder, sizes=dict(config.data["sizes"]), seed=config.seed)
            write_json(folder / "prepared.json", _sample_settings(config))
    return folder


def _images(config: Config, data: Path) -> dict[str, Path]:
    # Images are the same whatever is said of them: no captions, which may not be written yet.
    problems, _ = read_problems({**config.data, "captions": None}, data)
    return {pid: problem.image for pid, problem in problems.items() if problem.image is not None}


def _captions(config: Config, data: Path) -> None:
    from ares.vision.captions import Captioner, write_captions

    settings = dict(config.data["captioner"])
    reading = {key: settings.pop(key) for key in ("batch_size", "workers", "on_corrupt")}
    path = captions_file({**config.data, "root": data})
    with FileLock(path.with_name(f".{path.name}.lock")):
        write_captions(_images(config, data), Captioner(**settings), path, **reading)


def _features(config: Config, shared: Path, data: Path, make: bool) -> Path:
    if config.features["path"]:
        folder = Path(config.features["path"]).resolve()
        FeatureStore(folder).check_owners(_images(config, data))
        return folder
    settings = {key: value for key, value in config.features.items() if key not in _NOT_THE_ENCODERS}
    folder = shared / f"features-{_features_key(config, settings)}"
    images = _stamp(config, data)
    if not make and _made_of(folder) != images:
        raise AresError(
            f"The image features of data={config.data['name']} are not extracted yet, or of other images than there are now; "
            f"make them with `{command('prepare')}`, or do without images: features=none."
        )
    with _making(folder):
        if _made_of(folder) != images:
            (folder / "prepared.json").unlink(missing_ok=True)
            _make_features(config, settings, data, folder)
            write_json(folder / "prepared.json", {**settings, "images": images})
    if config.features.get("arrays"):
        FeatureStore(folder).check_owners(_images(config, data))
    _check_skipped(config, folder)
    return folder


def _stamp(config: Config, data: Path) -> str:
    """What shows that images were added, repaired, replaced or removed: where each is, its size and its time.

    It is no part of the folder's name: after a repair an interrupted extraction goes on in the same folder.
    """
    if config.features.get("arrays") or config.data["name"] == "sample":
        return "those of the key"  # by which the folder is named
    images = set(_images(config, data).values())
    return hash_of(sorted([os.path.relpath(path, data), *stamp(path)] for path in images))


def _made_of(folder: Path) -> str | None:
    """The stamp of the images that the features in a folder were made of, None where there are none."""
    made = folder / "prepared.json"
    return read_json(made).get("images") if made.exists() else None


def _check_skipped(config: Config, folder: Path) -> None:
    skipped = FeatureStore(folder).skipped
    if skipped and config.features.get("on_corrupt") == "refuse":
        raise AresError(
            f"The image features in {folder} leave out {len(skipped)} problems' images ({next(iter(skipped.values()))}); "
            "repair the images and run stage=prepare again, or do without them: features.on_corrupt=skip."
        )


def _features_key(config: Config, settings: Mapping[str, Any]) -> str:
    if config.features.get("arrays"):
        # Their content is hashed when they are imported; gigabytes are not read again at every start.
        files = [Path(config.features[key]) for key in ("arrays", "name_map") if config.features[key]]
        known = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in files if p.is_file()]
        return hash_of([known, config.features.get("repeat", 1)])[:16]
    if config.data["name"] == "sample":
        return hash_of([source_hash(config), settings])[:16]
    root = Path(config.data["root"])
    sources = [[path.name, sha256_file(path)] for path in _source_files(root)]
    weights = [stamps(Path(settings[key])) for key in ("checkpoint", "model") if settings.get(key)]
    return hash_of([sources, str(config.data.get("coco")), settings, weights])[:16]


def _make_features(config: Config, settings: Mapping[str, Any], data: Path, folder: Path) -> None:
    features = config.features
    if features.get("arrays"):
        from ares.vision.published import import_features

        name_map = features["name_map"] or Path(features["arrays"]).parent / "name_map.json"
        import_features(features["arrays"], name_map, folder, repeat=features.get("repeat", 1))
        return
    from ares.vision.extraction import extract_features

    reading = {key: features[key] for key in ("batch_size", "workers", "on_corrupt") if key in features}
    extract_features(_images(config, data), instantiate(settings), folder, **reading)


class _making:
    """Holds the folder's lock; says whether the folder is whole already."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder, self.lock = folder, FileLock(folder.parent / f".{folder.name}.lock")

    def __enter__(self) -> bool:
        self.lock.acquire()
        return (self.folder / "prepared.json").exists() and bool(read_json(self.folder / "prepared.json"))

    def __exit__(self, *_: object) -> None:
        self.lock.release()
