"""stage=benchmark: outputs are scored without a model, policies answer in both ways, and the Teacher grades."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ares.config.command_line import mistakes_in
from ares.config.compose import options
from ares.config.schema import Config
from ares.evaluation.benchmarks.base import NAMES, benchmark_of
from ares.evaluation.benchmarks.items import read_items
from ares.pipeline.checks import mistakes_of
from ares.pipeline.runner import run_stage
from ares.steps.respond import stated_choice
from ares.storage.files import read_json, read_jsonl, write_jsonl
from ares.teachers.offline.replay import record
from ares.types import AresError, Example
from tests.support.composed import composed
from tests.support.problems import make_problem


def questions(path: Path, *rows: dict[str, str]) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    image = base64.b64encode(buffer.getvalue()).decode()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["index", "image", *rows[0]], delimiter="\t")
        writer.writeheader()
        writer.writerows({"index": n, "image": "0" if n else image, **row} for n, row in enumerate(rows))
    return path


def pope(folder: Path) -> Path:
    rows = [{"question": f"Is there a {name} in the image?", "answer": answer, "category": "random"} for name, answer in (("dog", "yes"), ("cat", "no"), ("map", "no"))]  # fmt: skip
    return questions(folder / "POPE.tsv", *rows)


def configured(folder: Path, name: str, file: Path, *settings: str) -> Config:
    return composed("stage=benchmark", f"benchmark={name}", f"benchmark.file={file}", f"paths.runs={folder}/runs", "run=r", "strategy=single", "trainer.accelerator=cpu", "logger=csv", *settings)  # fmt: skip


def scores(config: Config) -> dict:
    return read_json(Path(config.paths.runs) / f"r/final/benchmark-{config.benchmark.name}/scores.json")


def test_outputs_are_scored_without_a_model_or_a_data_set(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs.jsonl"
    write_jsonl(
        outputs, [{"index": n, "output": text} for n, text in enumerate(("Yes", "Yes, it is.", "No"))]
    )
    only = ("benchmark.score_only=true", f"benchmark.predictions={outputs}")
    config = configured(tmp_path, "pope", pope(tmp_path), *only)
    run_stage(config)
    found = scores(config)
    assert (found["rule"], found["questions"], found["failed"]) == ("lmms_eval", 3, 1)
    assert found["metrics"]["score"] == pytest.approx(200 / 3)
    folder = tmp_path / "runs/r/final/benchmark-pope"
    assert {path.name for path in folder.iterdir()} == {"scores.json", "r_POPE.tsv", "samples_pope.jsonl"}
    again = (*only, "benchmark.rule=vlmevalkit")
    with pytest.raises(AresError, match=r"another benchmark\.rule"):
        run_stage(configured(tmp_path, "pope", tmp_path / "POPE.tsv", *again))
    config = configured(tmp_path, "pope", tmp_path / "POPE.tsv", *again, "on_change=rerun")
    run_stage(config)
    assert (scores(config)["failed"], scores(config)["metrics"]["precision"]) == (0, 50)


def test_several_benchmarks_of_one_run_stay_apart(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs.jsonl"
    write_jsonl(outputs, [{"index": 0, "output": "A"}])
    file = questions(tmp_path / "SEED.tsv", {"question": "Q?", "A": "x", "B": "y", "answer": "A"})
    for name in ("seed", "scienceqa"):
        config = configured(
            tmp_path, name, file, "benchmark.score_only=true", f"benchmark.predictions={outputs}"
        )
        run_stage(config)
        assert scores(config)["metrics"]["score"] == 100
    assert len(read_json(tmp_path / "runs/r/manifest.json")["steps"]) == 2


def test_teacher_grades_through_its_ledger(tmp_path: Path) -> None:
    file = questions(
        tmp_path / "MMVet.tsv", *({"question": q, "answer": "2", "category": "ocr"} for q in ("x?", "y?"))
    )
    outputs, recording = tmp_path / "outputs.jsonl", tmp_path / "recording.jsonl"
    write_jsonl(outputs, [{"index": n, "output": "two"} for n in range(2)])
    grading = benchmark_of("mmvet").grading
    assert grading is not None
    asked = [grading.prompt(item, "two").text for item in read_items(file)]
    replies = [record("grade", str(n), reply, prompt=text) for n, (text, reply) in enumerate(zip(asked, ("Grade: 0.4", "Good!"), strict=True))]  # fmt: skip
    recording.write_text("".join(f"{json.dumps(row)}\n" for row in replies))
    replay = ("teacher=replay", f"teacher.path={recording}", "teacher.max_quarantine=0.5")
    config = configured(
        tmp_path, "mmvet", file, "benchmark.score_only=true", f"benchmark.predictions={outputs}", *replay
    )
    run_stage(config)
    assert scores(config)["metrics"] == {"score": 40, "ocr": 40}
    assert scores(config)["failed"] == 1
    rows = read_jsonl(tmp_path / "runs/r/final/benchmark-mmvet/grades/grades.jsonl")
    assert [row["grades"] for row in rows] == [[0.4], None]
    assert (tmp_path / "runs/ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("benchmark.file=null",), "benchmark.file is not set"),
        (("benchmark.rule=mmmu",), "benchmark.rule=mmmu: pope has lmms_eval, vlmevalkit, llava"),
        (("benchmark.predictions=x.jsonl",), "is for benchmark.score_only=true"),
        (("benchmark.score_only=true",), "There are no outputs to score in"),
        (("benchmark.name=", ), "stage=benchmark needs a benchmark: benchmark=pope|mme"),
        (("benchmark.name=mmvet", "benchmark.rule=teacher", "teacher=overlap"), "teacher=overlap cannot read its prompts"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(tmp_path: Path, settings: tuple[str, ...], message: str) -> None:
    config = configured(tmp_path, "pope", pope(tmp_path), *settings)
    assert any(message in text for text in mistakes_of(config))


def test_withheld_answers_are_not_scored(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs.jsonl"
    write_jsonl(outputs, [{"index": 0, "output": "A"}])
    file = questions(tmp_path / "TEST.tsv", {"question": "Q?", "A": "x", "B": "y", "answer": ""})
    with pytest.raises(AresError, match="withholds the answer of question 0"):
        run_stage(
            configured(
                tmp_path, "seed", file, "benchmark.score_only=true", f"benchmark.predictions={outputs}"
            )
        )


def test_every_benchmark_has_a_file_whose_rule_it_knows() -> None:
    assert set(options("benchmark")) == set(NAMES)
    for name in NAMES:
        block = composed(f"benchmark={name}").benchmark
        assert block.name == name
        assert block.rule in benchmark_of(name).rules
        assert mistakes_in(["stage=benchmark", f"benchmark={name}"]) == []


def test_choice_is_stated_as_suites_expect() -> None:
    yes_no, options = make_problem(choices=("Yes", "No")), make_problem(choices=("a fern", "a rock"))
    assert stated_choice(yes_no, "The answer is (B).", is_word=True) == "No"
    assert stated_choice(options, "The answer is (B).", is_word=False) == "B"
    assert stated_choice(options, "A rock.", is_word=False) == "A rock."  # nothing is stated


def test_direct_prompt_of_a_chat_model_is_the_benchmarks_own() -> None:
    from ares.models.vlm.messages import Prompts, messages_of

    prompts, special = Prompts(None, "{question} Explain.", "{question} {rationale}"), re.compile("<image>")
    example = Example("", "", question="Is there a dog?\nOne word.", verbatim=True)
    [message] = messages_of(example, prompts, special, images=1)
    assert message["content"] == [{"type": "image"}, {"type": "text", "text": "Is there a dog?\nOne word."}]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["T5", "VLM"])
def test_policies_answer_directly_and_with_a_rationale(tmp_path: Path, kind: str) -> None:
    from tests.support import asked_runs

    runs = tmp_path / "runs"
    settings = [text for text in getattr(asked_runs, kind) if not text.startswith("run=")]
    asked_runs.trained(runs, *settings, "run=r")
    asking = [*settings, "stage=benchmark", "run=r", "policy=r", f"paths.runs={runs}"]
    rows = ({"question": "Which?", "A": "a fern", "B": "a rock", "answer": "A", "category": c} for c in "xy")
    for name, file in (("pope", pope(tmp_path)), ("mmbench", questions(tmp_path / "MMBench.tsv", *rows))):
        for answer in ("direct", "rationale"):
            config = composed(*asking, f"benchmark={name}", f"benchmark.file={file}", f"benchmark.answer={answer}", "benchmark.max_new_tokens=4", "on_change=rerun")  # fmt: skip
            run_stage(config)
            written = read_jsonl(runs / f"r/final/benchmark-{name}/responses/responses.jsonl")
            assert len(written) == {"pope": 3, "mmbench": 4}[name]
            assert ("rationale" in written[0]) == (answer == "rationale")
            assert scores(config)["questions"] == len(written)
