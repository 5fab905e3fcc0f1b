"""prepare: problems and image features as files, made once for all runs that use the same ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import get_method, instantiate

from ares.store import Outputs, Run, hash_of, read_json, sha256_file, write_json
from ares.types import AresError, Config, Problem


def read_problems(data: Mapping[str, Any], root: Path) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split in order, through the reader that `data._target_` names."""
    # Not instantiate(), which would wrap the reader's own words about bad data in its own.
    return get_method(data["_target_"])(str(root), data["captions"])


def source_hash(config: Config) -> str:
    """The hash of the problems' files, or of what a generated data set is made from."""
    if config.data["name"] == "sample":
        return hash_of({"sample": _sample_settings(config)})
    root = Path(config.data["root"])
    names = [root / "problems.json", root / "pid_splits.json", root / "captions.json"]
    if config.data["captions"]:
        names.append(Path(config.data["captions"]))
    return hash_of([[path.name, sha256_file(path)] for path in names if path.exists()])


def prepared(config: Config, *, make: bool) -> dict[str, Path]:
    """The folders of the problems (`data`) and, unless features=none, of the image features (`features`).

    They live in `<paths.runs>/shared`, named by the hash of what they are made from; with `make` what is
    absent is made. Raises AresError where something is absent and may not be made.
    """
    shared = (Path(config.paths.runs) / "shared").resolve()
    data = (
        _sample(config, shared, make)
        if config.data["name"] == "sample"
        else Path(config.data["root"]).resolve()
    )
    if not data.is_dir():
        raise AresError(
            f"There is no data in {data} (data.root); put problems.json and pid_splits.json there, or try the "
            "built-in problems with `python train.py experiment=demo`."
        )
    found = {"data": data}
    if config.features["_target_"] is not None:
        found["features"] = _features(config, shared, data, make)
    return found


def prepare(config: Config, run: Run) -> Outputs:
    """Makes what `prepared` names, in a process that may use a GPU."""
    prepared(config, make=True)
    return Outputs({})


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


def _features(config: Config, shared: Path, data: Path, make: bool) -> Path:
    if config.features["path"]:
        return Path(config.features["path"]).resolve()
    settings = {key: value for key, value in config.features.items() if key not in ("name", "path")}
    folder = shared / f"features-{hash_of([source_hash(config), settings])[:16]}"
    if not (folder / "prepared.json").exists() and not make:
        raise AresError(
            f"The image features of data={config.data['name']} are not extracted yet; make them with `python train.py "
            f"stage=prepare data={config.data['name']} features={config.features['name']}`, or do without images: features=none."
        )
    with _making(folder) as whole:
        if not whole:
            from ares.vision.features import extract_features

            problems, _ = read_problems(config.data, data)
            images = {pid: problem.image for pid, problem in problems.items() if problem.image is not None}
            extract_features(images, instantiate(settings), folder)
            write_json(folder / "prepared.json", settings)
    return folder


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
