"""prepare: writes problems, captions and image features once, for all runs that use them."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from ares.config.commands import call, command
from ares.config.options import DataConfig
from ares.config.schema import Config
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.features import features_folder, making
from ares.storage.files import hash_of, read_object, sha256_file, write_json
from ares.text.prompts import shortened_note
from ares.types import AresError, Problem
from ares.vision.features import FeatureStore
from ares.vision.reading import stamp

SPEC = StepSpec(name="prepare", reads=(), writes=(), runs_on="device")

PROBLEM_FILES = (
    *("problems.json", "aokvqa_v1p0_*.json", "problems.jsonl", "problems.parquet"),
    *("problems_*.json", "clevr-math-*.json", "train/train_*.json", "val/val_*.json", "test/test_*.json"),
    *("qa_tuning.json", "train.json*", "val.json*", "test.json*", "*.pk"),  # GeoQA's
)
_SOURCES = (*PROBLEM_FILES, "pid_splits.json")


def read_problems(data: DataConfig, root: Path) -> tuple[dict[str, Problem], dict[str, list[str]]]:
    """The problems by pid and the pids of each split in order, through the reader that `data._target_` names."""
    captions = {"captions": data.captions} if data.captions else {}
    return data.build(str(root), **captions)


def source_hash(config: Config) -> str:
    """The hash of the problems' files and of how they are read, or of the inputs of a generated data set."""
    if config.data.name == "sample":
        return hash_of({"sample": _sample_settings(config)})
    captions = captions_file(config.data)
    files = [*_source_files(_root(config.data)), *([captions] if captions.exists() else [])]
    # `coco` and `images` are where images are; they do not change how problems are read.
    reading = {key: value for key, value in config.data.arguments.items() if key not in ("coco", "images")}
    return hash_of([[[path.name, sha256_file(path)] for path in files], reading])


def captions_file(data: DataConfig) -> Path:
    """The path of a data set's captions, whether or not the file exists."""
    root = _root(data)
    return Path(data.captions or (root if root.is_dir() else root.parent) / "captions.json")


def prepared(config: Config, *, make: bool) -> dict[str, Path]:
    """The folders of the problems (`data`) and, unless features=none, of the image features (`features`).

    Generated data and features live in `<paths.runs>/shared`, named by the hash of their inputs. With `make`,
    missing ones are created. Raises AresError if one is missing and `make` is false.
    """
    shared = (Path(config.paths.runs) / "shared").resolve()
    data = _sample(config, shared, make) if config.data.name == "sample" else _source(config, make)
    if make and config.data.captioner.model:
        _captions(config, data)
    found = {"data": data}
    if config.features._target_ is not None:
        found["features"] = features_folder(config, shared, _images(config, data), make=make)
    return found


def prepare(config: Config, context: StepContext) -> StepResult:
    """Creates the folders of `prepared`, in a process that may use a GPU."""
    prepared(config, make=True)
    return StepResult({})


def prepare_alone(config: Config) -> list[str]:
    """Runs `stage=prepare` on one device, whatever the strategy; returns one line for each result."""
    from ares.steps.common.prompts import check_prompts  # which reads the problems through this module

    found = prepared(config, make=True)
    shortened = check_prompts(config, found)
    problems, splits = read_problems(config.data, found["data"])
    images = {pid: problem.image for pid, problem in problems.items() if problem.image is not None}
    shown = len({image for problem in problems.values() for image in problem.images})
    captions = sum(bool(problem.caption) for problem in problems.values())
    sizes = ", ".join(f"{split} {len(pids):,}" for split, pids in splits.items())
    lines = [
        f"problems: {len(problems):,} ({sizes}), {shown:,} images, {captions:,} captions in {found['data']}"
    ]
    if "features" in found:
        store = FeatureStore(found["features"])
        known = sum(pid in store for pid in problems)
        lines.append(
            f"features: {store.shape[0]} x {store.shape[1]} of {known:,} problems in {found['features']}"
        )
        lines += [f"skipped: problem {pid}, {reason}" for pid, reason in store.missing(images).items()]
    if blank := sum(not problem.has_solution for problem in problems.values()):
        lines.append(f"without a solution, left out of fine-tuning: {blank:,} problems")
    if shortened:
        lines.append(f"warning: {shortened_note(shortened)}")
    return lines


def check_root(config: Config) -> None:
    """Raises AresError if the data are neither there nor generated nor on a hub; nothing is read or fetched."""
    if config.data.name != "sample":
        _source(config, make=False)


def _root(data: DataConfig) -> Path:
    if not data.root:
        raise AresError(f"data.root is not set; give the folder or file of data={data.name}.")
    return Path(data.root)


def _source_files(root: Path, names: Iterable[str] = _SOURCES) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for name in names for path in root.glob(name))


def _source(config: Config, make: bool) -> Path:
    root, hub = _root(config.data), config.data.hub
    # Checks for problems only: a killed fetch may have left the splits, which are written first.
    if not _source_files(root, PROBLEM_FILES) and make and hub:
        from ares.data.hub import fetch_hub

        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".hub.lock"):
            if not _source_files(root, PROBLEM_FILES):
                fetch_hub(hub, root)
    if not root.exists():
        fetch = f"fetch {hub} with `{command('prepare', data=config.data.name)}`, " if hub else ""
        raise AresError(
            f"There is no data in {root.resolve()} (data.root); put it there, {fetch}or try the built-in problems: "
            f"`{call('experiment=demo')}`."
        )
    return root.resolve()


def _sample_settings(config: Config) -> dict[str, Any]:
    import ares.data.sample

    # The generator's code and words are inputs, too: a change in them may change the data.
    root = Path(ares.data.sample.__path__[0])
    code = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".yaml"))
    return {
        "sizes": asdict(config.data.sizes),
        "seed": config.seed,
        "generator": hash_of([[path.name, sha256_file(path)] for path in code]),
    }


def _sample(config: Config, shared: Path, make: bool) -> Path:
    folder = shared / f"sample-{source_hash(config)[:16]}"
    with making(folder) as complete:
        if not complete:
            from ares.data.sample import write_sample

            write_sample(folder, sizes=asdict(config.data.sizes), seed=config.seed)
            write_json(folder / "prepared.json", _sample_settings(config))
    return folder


def _images(config: Config, data: Path) -> dict[str, Path]:
    """The first image of each problem, which features are extracted from and captions are written for."""
    problems = _uncaptioned(config, data)
    return {pid: problem.image for pid, problem in problems.items() if problem.image is not None}


def _uncaptioned(config: Config, data: Path) -> dict[str, Problem]:
    # Captions may not be written yet; the images do not depend on them.
    return read_problems(replace(config.data, captions=None), data)[0]


def images_hash(config: Config, data: Path) -> str:
    """The hash of the contents of all problems' images; computed again when a file's size or time changes."""
    problems = _uncaptioned(config, data)
    images = [(pid, image) for pid, problem in sorted(problems.items()) for image in problem.images]
    key = hash_of([[pid, str(path), *stamp(path)] for pid, path in images])
    known = Path(config.paths.runs).resolve() / "shared" / f"images-{key[:16]}.json"
    if not known.exists() or not isinstance(read_object(known).get("sha256"), str):
        contents = [[pid, sha256_file(path) if path.is_file() else None] for pid, path in images]
        write_json(known, {"sha256": hash_of(contents)})
    return read_object(known)["sha256"]


def _captions(config: Config, data: Path) -> None:
    from ares.vision.captions import Captioner, write_captions

    settings = config.data.captioner
    path = captions_file(replace(config.data, root=str(data)))
    with FileLock(path.with_name(f".{path.name}.lock")):
        write_captions(
            _images(config, data),
            Captioner(str(settings.model), settings.prompt, settings.max_new_tokens),
            path,
            batch_size=settings.batch_size,
            workers=settings.workers,
            on_corrupt=settings.on_corrupt,
        )
