"""Malformed inputs by kind: how each is made, and the configuration that meets it."""

import atexit
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from ares.config.schema import Config
from ares.pipeline.stale import run_folder
from tests.support.small_run import configured, run

Make = Callable[[Path], Config]  # gets the folder of runs, which holds the finished run `demo`


@dataclass(frozen=True)
class Case:
    """`make` damages something in a folder of runs and returns the configuration with which `meet` must refuse it."""

    kind: str
    name: str
    make: Make
    meet: Callable[[Config], object] = run


ROW = {
    "pid": "a",
    "question": "Which?",
    "choices": ["x", "y"],
    "answer": 1,
    "split": "train",
    "solution": "It is y.",
}
FIELDS = dict.fromkeys(
    ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
)
PROBLEM = {
    **FIELDS,
    "question": "Which?",
    "choices": ["x", "y"],
    "answer": 1,
    "image": None,
    "solution": "It is y.",
}
SPLITS = {"train": ["1"], "val": [], "test": []}
DEEP, LONG = "[" * 100_000, "9" * 5000
BINARY = bytes(range(128, 256))

Text = str | bytes | dict[str, Any] | list[Any]


def put(path: Path, content: Text) -> Path:
    """Writes text, bytes or a JSON value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def half(path: Path) -> None:
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flips bits near the beginning; size and times stay."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[60:100] = bytes(byte ^ 0xFF for byte in data[60:100])
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def empty(path: Path) -> None:
    """Leaves nothing of a file."""
    path.write_bytes(b"")


def folder(path: Path) -> None:
    """Puts a folder in a file's place."""
    path.unlink()
    path.mkdir()


def holds(content: Text) -> Callable[[Path], None]:
    """Replaces a file's contents."""
    return lambda path: put(path, content) and None


# --------------------------------------------------------------------------------------------------
# Files of problems
# --------------------------------------------------------------------------------------------------


def _prepare(data: str, files: dict[str, Text], *settings: str) -> Make:
    def make(runs: Path) -> Config:
        root = runs / "data"
        for name, content in files.items():
            put(root / name, content)
        config = configured(runs, "stage=prepare", f"data={data}", "features=none", *settings)
        config.data.root = str(root)
        return config

    return make


def _rows(*rows: Text) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def _custom(name: str, content: Text, file: str = "problems.jsonl") -> Case:
    return Case("problem files", f"custom: {name}", _prepare("custom", {file: content}))


def _science(name: str, problems: Text, splits: Text = SPLITS, **more: Text) -> Case:
    files = {
        "problems.json": problems,
        "pid_splits.json": splits,
        **{f"{k}.json": v for k, v in more.items()},
    }
    return Case("problem files", f"scienceqa: {name}", _prepare("scienceqa", files))


def _table(name: str, table: pa.Table, damage: Callable[[Path], None] = lambda path: None) -> Case:
    def make(runs: Path) -> Config:
        config = _prepare("custom", {})(runs)
        path = runs / "data" / "problems.parquet"
        path.parent.mkdir()
        pq.write_table(table, path)
        damage(path)
        return config

    return Case("problem files", f"parquet: {name}", make)


def _problem_files() -> list[Case]:
    one = pa.Table.from_pylist([ROW] * 1)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["pid", "pid"])
    changed = {
        "no question": {k: v for k, v in ROW.items() if k != "question"},
        "an unknown field": {**ROW, "qestion": "?"},
        "choices of text": {**ROW, "choices": "xy"},
        "no choices": {**ROW, "choices": []},
        "27 choices": {**ROW, "choices": ["x"] * 27},
        "an answer out of range": {**ROW, "answer": 2},
        "an answer below 0": {**ROW, "answer": -1},
        "an answer of text": {**ROW, "answer": "B"},
        "an answer of true": {**ROW, "answer": True},
        "a split of another name": {**ROW, "split": "validation"},
        "a pid with a slash": {**ROW, "pid": "a/b"},
        "a pid with a null byte": {**ROW, "pid": "a\0"},
        "a pid of a number": {**ROW, "pid": 7},
        "an image with a null byte": {**ROW, "image": "a\0.png"},
        "an image of a number": {**ROW, "image": 7},
        "half a character": '{"pid": "a", "question": "\\ud83d", "choices": ["x"], "split": "train"}',
    }
    return [
        *(_custom(name, _rows(row)) for name, row in changed.items()),
        _custom("not JSON", "pid,question\n1,Which?\n"),
        _custom("cut off", _rows(ROW)[:-20]),
        _custom("nothing", ""),
        _custom("blank lines", "\n\r\n \n"),
        _custom("NaN", '{"pid": "a", "question": NaN, "choices": ["x"], "split": "train"}'),
        _custom("an infinite answer", _rows(ROW).replace('"answer": 1', '"answer": Infinity')),
        _custom("5,000 digits", _rows(ROW).replace('"answer": 1', f'"answer": {LONG}')),
        _custom("100,000 brackets", DEEP),
        _custom("a key twice", '{"pid": "a", "pid": "b"}'),
        _custom("a pid twice", _rows(ROW, ROW)),
        _custom("not UTF-8", BINARY),
        _custom("UTF-16", _rows(ROW).encode("utf-16")),
        _custom("a list", _rows([1])),
        _custom("null", "null\n"),
        _custom("JSON under the name of parquet", _rows(ROW), "problems.parquet"),
        _table("half a file", one, half),
        _table("flipped", one, lambda path: flip(path)),
        _table("an empty file", one, empty),
        _table("a column twice", twice),
        _table("no rows", one.slice(0, 0)),
        _science("null", "null"),
        _science("a list", []),
        _science("text", '"1"'),
        _science("nothing", ""),
        _science("no problems", {}, {"train": [], "val": [], "test": []}),
        _science("cut off", json.dumps({"1": PROBLEM})[:-3]),
        _science("not UTF-8", BINARY),
        _science("100,000 brackets", DEEP),
        _science("5,000 digits", json.dumps({"1": PROBLEM}).replace('"answer": 1', f'"answer": {LONG}')),
        _science("NaN", json.dumps({"1": PROBLEM}).replace('"answer": 1', '"answer": NaN')),
        _science("a pid twice", f'{{"1": {json.dumps(PROBLEM)}, "1": {json.dumps(PROBLEM)}}}'),
        _science("a problem of null", {"1": None}),
        _science("an empty pid", {"": PROBLEM}, {"train": [""], "val": [], "test": []}),
        _science("a missing field", {"1": {"question": "Which?"}}),
        _science("splits of a list", {"1": PROBLEM}, ["1"]),
        _science("splits of text", {"1": PROBLEM}, {"train": "1"}),
        _science("splits of other names", {"1": PROBLEM}, {"a": ["1"]}),
        _science("a split that may be train", {"1": PROBLEM}, {"learn": ["1"], "val": ["1"]}),
        _science("val twice", {"1": PROBLEM}, {"val": [], "Validation": ["1"], "train": []}),
        _science("an unknown pid", {"1": PROBLEM}, {**SPLITS, "val": ["2"]}),
        _science("a pid in two splits", {"1": PROBLEM}, {**SPLITS, "val": ["1"]}),
        _science("nested pids", {"1": PROBLEM}, {**SPLITS, "train": [["1"]]}),
        _science("captions of a list", {"1": PROBLEM}, captions=[]),
        _science("captions of null", {"1": PROBLEM}, captions={"captions": None}),
        _science("a caption of a number", {"1": PROBLEM}, captions={"1": 3}),
        _science("captions of others", {"1": PROBLEM}, captions={"x": "A fern."}),
        _science("captions cut off", {"1": PROBLEM}, captions='{"1": "A fe'),
        Case("problem files", "aokvqa: an object", _prepare("aokvqa", {"aokvqa_v1p0_train.json": {}})),
        Case("problem files", "aokvqa: null rows", _prepare("aokvqa", {"aokvqa_v1p0_train.json": [None]})),
        Case("problem files", "aokvqa: no questions", _prepare("aokvqa", {"aokvqa_v1p0_train.json": []})),
        Case("problem files", "aokvqa: a list as id", _prepare("aokvqa", {"aokvqa_v1p0_val.json": [{"question_id": []}]})),
        Case("problem files", "hub: no parquet file", _prepare("scienceqa", {}, "data.hub=/nowhere/at/all")),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------
# A finished run, damaged
# --------------------------------------------------------------------------------------------------


def _damaged(kind: str, name: str, file: str, damage: Callable[[Path], None], *settings: str) -> Case:
    """The file (a glob within the folder of runs) damaged, and a command that reads it."""

    def make(runs: Path) -> Config:
        damage(next(iter(sorted(runs.glob(file)))))
        return configured(runs, *settings)

    return Case(kind, name, make)


def _features(name: str, file: str, damage: Callable[[Path], None]) -> Case:
    def make(runs: Path) -> Config:
        found = next(iter(runs.glob("shared/features-*")))
        damage(found / file)
        config = configured(runs, "stage=rationale", "run=new")
        config.features.path = str(found)
        return config

    return Case("image features", f"{file}: {name}", make)


def _run_files() -> list[Case]:
    kind, manifest = "run folder", "demo/manifest.json"
    contents: dict[str, Text] = {
        "a list": [],
        "an object": {},
        "null": "null",
        "nothing": "",
        "not UTF-8": BINARY,
        "brackets": DEEP,
        "5,000 digits": f'{{"format": {LONG}}}',
        "another format": {"format": 1, "steps": {}},
        "steps of a list": {"format": 2, "steps": []},
        "a step of null": {"format": 2, "steps": {"rationale": None}},
        "an output of null": {
            "format": 2,
            "steps": {"rationale": {"hash": "", "settings": {}, "inputs": {}, "outputs": {"policy": None}}},
        },
        "a path of null": {
            "format": 2,
            "steps": {
                "rationale": {
                    "hash": "",
                    "settings": {},
                    "inputs": {},
                    "outputs": {"policy": {"path": None, "sha256": ""}},
                }
            },
        },
    }
    sample = "shared/sample-*"
    values: dict[str, Text] = {"a list": [], "an object": {}, "null": "null", "nothing": ""}
    return [
        *(_damaged(kind, f"manifest: {name}", manifest, holds(text)) for name, text in contents.items()),
        _damaged(kind, "manifest: a folder", manifest, folder),
        _damaged(kind, "manifest: cut off", manifest, half),
        *(_features(name, "index.json", holds(text)) for name, text in values.items()),
        _features("flipped", "index.json", flip),
        _features("a folder", "index.json", folder),
        _features("flipped", "features.npy", flip),
        _features("cut off", "features.npy", half),
        _features("missing", "features.npy", Path.unlink),
        _damaged(kind, "facts.json: an object", f"{sample}/facts.json", holds({}), "stage=assess", "on_change=rerun", "rl.eval_questions=3"),
        _damaged(kind, "sample's problems.json: cut off", f"{sample}/problems.json", half),
        _damaged(kind, "sample's pid_splits.json: null", f"{sample}/pid_splits.json", holds("null")),
        _damaged(kind, "scores.json: a list", "demo/final/scores.json", holds([]), "stage=evaluate"),
    ]  # fmt: skip


def _tables() -> list[Case]:
    def other_columns(path: Path) -> None:
        pq.write_table(pa.table({"pid": ["1"]}), path)

    def other_types(path: Path) -> None:
        table = pq.read_table(path)
        pq.write_table(table.set_column(0, table.column_names[0], pa.nulls(len(table), pa.string())), path)

    kept = ("on_change=keep",)
    read_by = {
        "demo/round-1/rollouts/part-0.parquet": ("stage=score", "round-1/score"),
        "demo/round-1/feedback.parquet": ("stage=ppo", "round-1/ppo"),
        "demo/round-1/corrections.parquet": ("stage=sft", "round-1/sft"),
        "demo/final/rationales-test.parquet": ("stage=evaluate", "final/evaluate"),
    }
    damages: dict[str, Callable[[Path], None]] = {
        "half a file": half,
        "flipped": flip,
        "empty": empty,
        "other columns": other_columns,
        "blank ids": other_types,
    }
    found = []
    for file, (stage, key) in read_by.items():
        for name, damage in damages.items():
            make = _damaged("tables", "", file, damage, stage, *kept).make
            found.append(Case("tables", f"{Path(file).name}: {name}", _forgetting(key, make)))
    predictions = "demo/final/lora/predictions.jsonl"
    contents: dict[str, Text] = {
        "a list": "[]\n",
        "null": "null\n",
        "no fields": "{}\n",
        "cut off": '{"pid": ',
        "NaN": "NaN\n",
        "not UTF-8": BINARY,
    }
    for name, text in contents.items():
        make = _damaged("tables", "", predictions, holds(text), "stage=evaluate", *kept).make
        found.append(Case("tables", f"predictions.jsonl: {name}", _forgetting("final/evaluate", make)))
    found.append(
        _damaged(
            "tables",
            "feedback.parquet, altered since",
            "demo/round-1/feedback.parquet",
            half,
            "stage=ppo",
            "on_change=rerun",
        )
    )
    return found  # fmt: skip


def _forgetting(key: str, make: Make) -> Make:
    """Removes a finished step from the manifest, so that it runs again."""

    def made(runs: Path) -> Config:
        path = runs / "demo/manifest.json"
        manifest = json.loads(path.read_text())
        del manifest["steps"][key]
        path.write_text(json.dumps(manifest))
        return make(runs)

    return made


# --------------------------------------------------------------------------------------------------
# Checkpoints
# --------------------------------------------------------------------------------------------------


def _policies() -> list[Case]:
    def policy(name: str, file: str, damage: Callable[[Path], None]) -> Case:
        def make(runs: Path) -> Config:
            damage(runs / "demo/rationale/policy" / file)
            config = configured(runs, "stage=generate", "run=other")
            config.policy = str(runs / "demo/rationale/policy")
            return config

        return Case("checkpoints", f"{file}: {name}", make)

    removed = [
        policy("missing", name, Path.unlink)
        for name in ("tokenizer.json", "config.json", "model.safetensors")
    ]
    values: dict[str, Text] = {
        "an object": {},
        "a list": [],
        "null": "null",
        "nothing": "",
        "not UTF-8": BINARY,
        "brackets": DEEP,
    }
    index = {"metadata": {}, "weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}

    def sharded(content: Text) -> Callable[[Path], None]:
        def damage(path: Path) -> None:
            (path.parent / "model.safetensors").unlink()
            put(path, content)

        return damage

    return [
        *removed,
        *(policy(name, "tokenizer.json", holds(text)) for name, text in values.items()),
        *(policy(name, "config.json", holds(text)) for name, text in values.items()),
        policy("no vocabulary", "tokenizer.json", _without_vocabulary),
        policy("more entries than the model", "tokenizer.json", _more_entries),
        policy("cut off", "tokenizer.json", half),
        *(policy(name, "model.safetensors", damage) for name, damage in (("half", half), ("empty", empty), ("text", holds("weights")), ("a folder", folder))),
        policy("a missing shard", "model.safetensors.index.json", sharded(index)),
        policy("a list", "model.safetensors.index.json", sharded([])),
        policy("an object", "model.safetensors.index.json", sharded({})),
        policy("NaN", "model.safetensors", _not_finite),
        policy("of another size", "config.json", lambda path: put(path, path.read_text().replace('"d_model": 16', '"d_model": 24')) and None),
    ]  # fmt: skip


def _without_vocabulary(path: Path) -> None:
    content = json.loads(path.read_text())
    content["model"] |= {"vocab": {"<pad>": 0, "</s>": 1, "<unk>": 2}, "merges": []}
    put(path, content)


def _more_entries(path: Path) -> None:
    content = json.loads(path.read_text())
    size = len(content["model"]["vocab"])
    content["model"]["vocab"] |= {f"word{n}": size + n for n in range(50)}
    put(path, content)


def _not_finite(path: Path) -> None:
    weights = load_file(path)
    weights[min(weights)].view(-1)[0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})


# --------------------------------------------------------------------------------------------------
# A finished run that is exported or asked, and adapters of vision-language models
# --------------------------------------------------------------------------------------------------


def _used_later() -> list[Case]:
    step = {"hash": "", "settings": {}, "inputs": {}, "outputs": {}}
    manifests: dict[str, Text] = {
        "a list": [],
        "null": "null",
        "nothing": "",
        "not UTF-8": BINARY,
        "brackets": DEEP,
        "steps of a list": {"steps": []},
        "a step of null": {"steps": {"rationale": None}},
        "no steps": {"steps": {}},
        "an output of null": {"steps": {"rationale": {**step, "outputs": {"policy": None}}}},
        "a path of null": {"steps": {"rationale": {**step, "outputs": {"policy": {"path": None}}}}},
        "a path that is gone": {"steps": {"rationale": {**step, "outputs": {"policy": {"path": "gone"}}}}},
    }
    policy, adapter = "round-1/sft/policy", "final/lora/adapter"
    files: dict[str, Callable[[Path], None]] = {
        **{f"manifest.json, {name}": holds(text) for name, text in manifests.items()},
        "manifest.json, cut off": half,
        f"{policy}/config.json, an object": holds({}),
        f"{policy}/config.json, nothing": empty,
        f"{policy}/tokenizer.json, an object": holds({}),
        f"{policy}/model.safetensors, half": half,
        f"{policy}/model.safetensors, NaN": _not_finite,
    }
    answering: dict[str, Callable[[Path], None]] = {
        "config.yaml, missing": Path.unlink,
        "config.yaml, nothing": empty,
        "config.yaml, a list": holds("[1]"),
        "config.yaml, not UTF-8": holds(BINARY),
        f"{adapter}/adapter_config.json, an object": holds({}),
        f"{adapter}/adapter_config.json, a list": holds([]),
        f"{adapter}/adapter_config.json, missing": Path.unlink,
        f"{adapter}/adapter_model.safetensors, half": half,
        f"{adapter}/adapter_model.safetensors, NaN": _not_finite,
    }

    def case(kind: str, name: str, damage: Callable[[Path], None], meet: Callable[[Config], object]) -> Case:
        def make(runs: Path) -> Config:
            damage(runs / "demo" / name.partition(",")[0])
            return configured(runs, "stage=export")

        return Case(kind, name, make, meet)

    return [
        *(case("export", name, damage, run) for name, damage in files.items()),
        *(case("ask", name, damage, _ask) for name, damage in {**files, **answering}.items()),
    ]


def _ask(config: Config) -> object:
    from ares.serve.model import load

    return load(run_folder(config))


def _adapters() -> list[Case]:
    values: dict[str, Text] = {
        "an object": {},
        "a list": [],
        "null": "null",
        "nothing": "",
        "not UTF-8": BINARY,
        "brackets": DEEP,
    }
    weights = "adapter_model.safetensors"
    damages: dict[str, Callable[[Path], None]] = {
        **{f"adapter_config.json, {name}": holds(text) for name, text in values.items()},
        **{f"policy.json, {name}": holds(text) for name, text in values.items()},
        "adapter_config.json, missing": Path.unlink,
        "adapter_config.json, a rank of text": holds({"peft_type": "LORA", "r": "four", "target_modules": ["q_proj"]}),
        f"{weights}, missing": Path.unlink,
        f"{weights}, half": half,
        f"{weights}, empty": empty,
        f"{weights}, text": holds("weights"),
        f"{weights}, a folder": folder,
        f"{weights}, NaN": _not_finite,
        f"{weights}, no tensors": lambda path: save_file({}, path, metadata={"format": "pt"}),
        f"{weights}, of another size": _resized,
    }  # fmt: skip

    def case(name: str, damage: Callable[[Path], None]) -> Case:
        def make(runs: Path) -> Config:
            config = configured(runs)
            config.policy = str(_adapter(runs))
            damage(Path(config.policy) / name.partition(",")[0])
            return config

        return Case("vision-language adapters", name, make, _open_adapter)

    return [case(name, damage) for name, damage in damages.items()]


@functools.cache
def _saved_adapter() -> Path:
    """A policy that is an adapter on a tiny vision-language model, next to its base."""
    from tests.support.vlm import save_tiny_vlm
    from tests.support.vlm_policies import started

    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    started(save_tiny_vlm("llava", place / "base")).save(place / "policy")
    return place


def _adapter(runs: Path) -> Path:
    return Path(shutil.copytree(_saved_adapter() / "policy", runs / "policy"))


def _open_adapter(config: Config) -> object:
    from ares.models.vlm.policy import VlmPolicy

    return VlmPolicy.load(str(config.policy), dropout=0.0, max_input_tokens=64, newline="space")


def _resized(path: Path) -> None:
    wrong = {
        name: torch.zeros([size + 1 for size in weight.shape]) for name, weight in load_file(path).items()
    }
    save_file(wrong, path, metadata={"format": "pt"})


# --------------------------------------------------------------------------------------------------
# The file system, and questions that leave nothing to do
# --------------------------------------------------------------------------------------------------


def _places() -> list[Case]:
    def make(arrange: Callable[[Path], Any], *settings: str, **places: str) -> Make:
        def made(runs: Path) -> Config:
            arrange(runs)
            config = configured(runs, *settings)
            if "runs" in places:
                config.paths.runs = str(runs / places["runs"])
            if "ledger" in places:
                config.paths.ledger = str(runs / places["ledger"])
            if "root" in places:
                config.data.root = str(runs / places["root"])
            if "policy" in places:
                config.policy = str(runs / places["policy"])
            return config

        return made

    def loop(runs: Path) -> None:
        (runs / "loop").symlink_to(runs / "loop")

    nothing: Callable[[Path], None] = lambda runs: None  # noqa: E731
    custom = ("stage=prepare", "data=custom", "features=none")
    return [
        Case("places", name, made)
        for name, made in {
            "a file as the run's folder": make(lambda runs: put(runs / "new", ""), "run=new"),
            "a file as paths.runs": make(lambda runs: put(runs / "file", ""), runs="file"),
            "a file within paths.runs": make(lambda runs: put(runs / "file", ""), runs="file/below"),
            "a loop as paths.runs": make(loop, runs="loop"),
            "a place where nothing can be written": make(lambda runs: (runs / "read").symlink_to("/proc/self"), runs="read"),
            "a loop as the run's folder": make(loop, "run=loop"),
            "a loop as the data": make(loop, *custom, root="loop"),
            "a folder as the ledger": make(nothing, "run=new", ledger="shared"),
            "text as the ledger": make(lambda runs: put(runs / "text", "no database" * 99), "run=new", ledger="text"),
            "a folder as a data file": make(lambda runs: (runs / "x.jsonl").mkdir(), *custom, root="x.jsonl"),
            "a folder as problems.jsonl": make(lambda runs: (runs / "d/problems.jsonl").mkdir(parents=True), *custom, root="d"),
            "no data": make(nothing, *custom, root="nowhere"),
            "a name with a null byte": make(nothing, *custom, root="a\0b"),
            "a name of 5,000 characters": make(nothing, *custom, root="a" * 5000),
            "no policy": make(nothing, "run=new", "stage=generate", policy="nowhere"),
            "an empty folder as the policy": make(lambda runs: (runs / "none").mkdir(), "run=new", "stage=generate", policy="none"),
            "a folder as the lock": make(lambda runs: (runs / "new/.lock").mkdir(parents=True), "run=new"),
            "a missing upstream step": make(nothing, "run=new", "stage=rl"),
            "no GPU": make(nothing, "run=new", "trainer.accelerator=gpu"),
            "no recording": make(nothing, "run=new", "teacher=replay", "teacher.path=/nowhere.jsonl"),
        }.items()
    ]  # fmt: skip


def _nothing_to_do() -> list[Case]:
    def stage(rows: Sequence[dict[str, Any]], *settings: str) -> Make:
        def made(runs: Path) -> Config:
            put(runs / "data/problems.jsonl", _rows(*rows))
            config = configured(runs, "data=custom", "features=none", "teacher=overlap", "run=new", *settings)
            config.data.root = str(runs / "data")
            if known[0] in settings:
                config.tokenizer.path = str(runs / "demo/rationale/policy")
            return config

        return made

    known = ("tokenizer.vocab_size=500",)
    val = {**ROW, "pid": "v", "split": "val"}
    return [
        Case("nothing to train on", name, made)
        for name, made in {
            "val only": stage([val], "stage=rationale"),
            "solutions of white space": stage(
                [{**ROW, "solution": " \u00a0\u200b\n"}, val], "stage=rationale"
            ),
            "solutions of marks": stage([{**ROW, "solution": "-"}, val], "stage=rationale"),
            "solutions that say N/A": stage([{**ROW, "solution": "N/A"}, val], "stage=rationale"),
            "no answers": stage([{**ROW, "answer": None}], "stage=ares"),
            "all held out": stage([{**ROW, "pid": "p0"}], "stage=ares", "rl.holdout=0.9"),
            "a question that is too long": stage([{**ROW, "question": "word " * 900}], "stage=rationale"),
            "solutions that the tokenizer does not know": stage(
                [{**ROW, "solution": "\u51b0\u662f\u56fa\u4f53\u3002" * 9}, val], *known, "stage=rationale"
            ),
            "questions that the tokenizer does not know": stage(
                [{**ROW, "question": "\u51b0\u662f\u56fa\u4f53\u5417\uff1f" * 20}, val],
                *known,
                "stage=rationale",
            ),
            "a long question that prepare meets": stage(
                [{**ROW, "question": "word " * 900}], "stage=prepare"
            ),
        }.items()
    ]


COMMANDS: dict[str, Sequence[str]] = {
    "a name of 300 characters": [f"run={'x' * 300}"],
    "a name above paths.runs": ["run=../x"],
    "a name that is paths.runs": ["run=."],
    "a name that leads back": ["run=x/../shared"],
    "an absolute name": ["run=/tmp/x"],
    "no name": ["run="],
    "a name with a line break": ["run='a\nb'"],
    "5,000 digits": [f"rl.k={LONG}"],
    "300 digits after a point": [f"rl.lr=0.{'3' * 300}"],
    "100,000 brackets": [f"sweep.params={DEEP}"],
    "unbalanced quotes": ["run='x"],
    "special characters": ["run=a(b"],
    "no equals sign": ["rl.k"],
    "an unknown key": ["rl.kk=2"],
    "an unknown stage": ["stage=aress"],
    "an unknown flag": ["--runn=x"],
    "text for a number": ["rl.k=two"],
    "a number for a choice": ["on_change=1"],
    "a list for a number": ["rl.k=[1, 2]"],
    "a mapping for a text": ["data.root={a: 1}"],
    "an unknown interpolation": ["run=${nothing}"],
    "a broken interpolation": ["run=${"],
    "a removed key": ["~rl"],
    "NaN": ["rl.lr=nan"],
    "infinity": ["rl.lr=inf"],
    "a negative size": ["rl.k=-1"],
    "a batch that cannot be divided": ["rl.global_batch_size=7", "rl.micro_batch_size=2"],
    "several values": ["rl.k=1,2"],
    "a setting twice, one wrong": ["rl.k=0", "rl.k=2"],
    "null for a number": ["rl.k=null"],
    "a folder of settings that is not there": ["--config-dir=/nowhere", "stage=nowhere"],
}


def cases() -> list[Case]:
    """All malformed inputs."""
    return [
        *(*_problem_files(), *_run_files(), *_tables(), *_policies(), *_used_later(), *_adapters()),
        *(*_places(), *_nothing_to_do()),
    ]
