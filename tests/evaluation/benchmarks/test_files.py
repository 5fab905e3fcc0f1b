"""Questions from VLMEvalKit's TSV, the hub's parquet and the originals' JSON, and messages about what is wrong."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ares.evaluation.benchmarks.base import benchmark_of
from ares.evaluation.benchmarks.exports import write_lmms_eval, write_vlmevalkit
from ares.evaluation.benchmarks.files import files_of
from ares.evaluation.benchmarks.items import problem_of, prompt_of, read_items
from ares.evaluation.benchmarks.pictures import Pictures
from ares.steps.common.benchmarks import read_outputs
from ares.storage.files import read_jsonl
from ares.types import AresError


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), color).save(buffer, "PNG")
    return buffer.getvalue()


def text_of(color: str) -> str:
    return base64.b64encode(png(color)).decode()


def write_tsv(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, list(dict.fromkeys(name for row in rows for name in row)), delimiter="\t"
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def color_of(path: Path) -> tuple[int, ...]:
    return Image.open(path).getpixel((0, 0))  # type: ignore[return-value]


RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_vlmevalkit_tsv_with_images_in_base64_and_by_index(tmp_path: Path) -> None:
    row = {"question": "Which\ncolor?", "A": "red", "B": "blue", "C": "", "answer": "A", "hint": "Look."}
    path = write_tsv(
        tmp_path / "MMBench_DEV_EN.tsv",
        {"index": "7", **row, "image": "9", "category": "x"},  # the picture of row 9
        {"index": "9", **row, "image": text_of("red"), "category": "y"},
        {"index": "11", **row, "image": str([text_of("blue"), text_of("red")]), "category": ""},
    )
    seven, nine, eleven = read_items(path, Pictures(tmp_path / "store", None))
    assert (seven.index, seven.choices, seven.answer, seven.hint) == ("7", ("red", "blue"), "A", "Look.")
    assert seven.images == nine.images
    assert color_of(nine.images[0]) == RED
    assert [color_of(image) for image in eleven.images] == [BLUE, RED]
    assert len(list((tmp_path / "store").iterdir())) == 2  # each picture once
    assert (seven.fields["category"], seven.fields["file"]) == ("x", "MMBench_DEV_EN")
    assert "image" not in seven.fields
    assert prompt_of(seven, "{question}\nLetter?") == "Hint: Look.\nWhich\ncolor?\nA. red\nB. blue\nLetter?"
    assert read_items(path)[0].images == ()
    assert problem_of(seven, ("Yes", "No")).choices == ("Yes", "No")


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "validation_Art_1", "question": "<image 1>?", "options": "['1', '0']", "answer": "B", "question_type": "multiple-choice", "image_1": {"bytes": png("red"), "path": None}, "image_2": None},
        {"id": "validation_Art_2", "question": "<image 2>?", "options": "[]", "answer": "12", "question_type": "open", "image_1": {"bytes": png("blue"), "path": None}, "image_2": {"bytes": png("red"), "path": None}},
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation-00000-of-00001.parquet")
    first, second = read_items(tmp_path, Pictures(tmp_path / "store", None))
    assert (first.index, first.choices, first.answer, len(first.images)) == ("0", ("1", "0"), "B", 1)
    assert (second.choices, second.answer, [color_of(image) for image in second.images]) == (
        (),
        "12",
        [BLUE, RED],
    )


def test_answers_as_number_text_and_letter(tmp_path: Path) -> None:
    rows = [
        {"question": "Q?", "choices": ["1", "0"], "answer": 0},  # ScienceQA: an index
        {
            "question": "Q?",
            "choices": ["B", "A"],
            "answer": "A",
            "question_type": "multi_choice",
        },  # MathVista: a text
        {"question": "Q?", "choices": ["B", "A"], "answer": "A"},
        {"question": "Q?", "choices": ["x", "y"], "correct_choice_idx": 1},
    ]
    (tmp_path / "q.json").write_text(json.dumps(rows))
    assert [one.answer for one in read_items(tmp_path / "q.json")] == ["A", "B", "A", "B"]


def test_originals(tmp_path: Path) -> None:
    (tmp_path / "COCO_1.jpg").write_bytes(png("red"))
    pictures = Pictures(tmp_path / "store", tmp_path)
    pope = tmp_path / "pope" / "coco_pope_random.json"
    pope.parent.mkdir()
    rows = [
        {"question_id": n, "image": "COCO_1.jpg", "text": "Is there a dog?", "label": "no"} for n in (1, 2)
    ]
    pope.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = read_items(pope.parent, pictures)
    assert [(one.index, one.answer, one.question) for one in found] == [
        ("0", "no", "Is there a dog?"),
        ("1", "no", "Is there a dog?"),
    ]
    assert found[0].images == (tmp_path / "COCO_1.jpg",)
    mmvet = tmp_path / "mm-vet.json"
    mmvet.write_text(
        json.dumps(
            {
                "v1_0": {
                    "imagename": "COCO_1.jpg",
                    "question": "x?",
                    "answer": "2",
                    "capability": ["ocr", "math"],
                }
            }
        )
    )
    [one] = read_items(mmvet, pictures)
    assert (one.fields["id"], one.fields["capability"], len(one.images)) == ("v1_0", '["ocr", "math"]', 1)
    mmhal = tmp_path / "response_template.json"
    mmhal.write_text(
        json.dumps(
            [
                {
                    "question_type": "attribute",
                    "image_id": "7",
                    "image_src": "https://x.org/a/COCO_1.jpg",
                    "image_content": ["dog"],
                    "question": "x?",
                    "gt_answer": "red",
                    "model_answer": "",
                }
            ]
        )
    )
    [one] = read_items(mmhal, pictures)
    assert (one.answer, one.fields["image_content"], len(one.images)) == ("red", '["dog"]', 1)


def llava_bench(folder: Path) -> Path:
    """Three rows in the original files, those of answers and context in another order."""
    rows = {
        "questions": [
            {"question_id": n, "image": f"00{n % 2}.jpg", "category": category, "text": f"Question {n}?"}
            for n, category in enumerate(("conv", "detail", "conv"))
        ],
        "context": [{"id": f"00{n}", "image": f"00{n}.jpg", "caption": f"Caption {n}."} for n in (1, 0)],
        "answers_gpt4": [{"question_id": n, "text": f"Answer {n}.", "model_id": "gpt-4"} for n in (2, 0, 1)],
        "bard_0718": [{"question_id": 0, "text": "Another model's answer."}],
    }
    folder.mkdir()
    for name, own in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in own))
    return folder


def test_original_files_of_llava_bench(tmp_path: Path) -> None:
    folder = llava_bench(tmp_path / "llava-bench")
    found = read_items(folder)
    assert [(one.index, one.question, one.answer, one.fields["caption"]) for one in found] == [
        ("0", "Question 0?", "Answer 0.", "Caption 0."),
        ("1", "Question 1?", "Answer 1.", "Caption 1."),
        ("2", "Question 2?", "Answer 2.", "Caption 0."),
    ]
    grading = benchmark_of("llava_bench").grading
    assert grading is not None
    assert grading.prompt(found[0], "Mine.").text.startswith("[Image]\nCaption 0.\n\n[Question]\nQuestion 0?")
    before = files_of(folder)
    (folder / "rule.json").write_text(json.dumps({"llava_bench_conv": {"prompt": "The original wording."}}))
    assert files_of(folder) == [*before, folder / "rule.json"]
    shown = [grading.prompt(one, "Mine.").text for one in read_items(folder)]
    assert [text.endswith("The original wording.") for text in shown] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("context", "has no context.jsonl, which describes the images"),
        ("answers_gpt4", "row 2, question 1 has no answer in answers_gpt4.jsonl"),
    ],
)
def test_incomplete_files_of_llava_bench(tmp_path: Path, name: str, message: str) -> None:
    file = llava_bench(tmp_path / "llava-bench") / f"{name}.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    if name == "context":
        file.unlink()
    else:
        file.write_text("".join(lines[:2]))
    with pytest.raises(AresError, match=re.escape(message)):
        read_items(file.parent)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"index": "1", "question": ""}], 'row 1, column "question" is missing or empty'),
        ([{"index": "1", "question": "x"}, {"index": "1", "question": "y"}], "row 2, index 1 is that of another row"),
        ([{"index": "1", "question": "x", "A": "a", "answer": "D"}], "column \"answer\" is 'D', which is none of its options"),
        ([{"index": "1", "question": "x", "image": "%" * 70}], "row 1 has an image that is no base64"),
        ([{"index": "1", "question": "x", "image": base64.b64encode(b"x" * 90).decode()}], "neither PNG nor JPEG"),
        ([{"index": "1", "question": "x", "image": "a.jpg"}], "needs the image a.jpg; benchmark.images is not set"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    path = write_tsv(tmp_path / "q.tsv", *rows)
    with pytest.raises(AresError, match=re.escape(message)):
        read_items(path, Pictures(tmp_path / "store", None))


def test_file_of_no_known_kind(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(AresError, match="is not a file"):
            read_items(path)


def test_outputs_go_out_and_come_back(tmp_path: Path) -> None:
    path = write_tsv(
        tmp_path / "POPE.tsv",
        *({"index": n, "question": "x?", "answer": "yes", "category": "random"} for n in "12"),
    )
    items = read_items(path)
    outputs = {"1": "Yes\tor\nno", "2": "No"}
    table = write_vlmevalkit(tmp_path, "demo", "POPE", items, outputs)
    assert table.name == "demo_POPE.tsv"
    assert read_outputs(table, items) == outputs
    samples = read_jsonl(write_lmms_eval(tmp_path, "pope", items, outputs))
    assert samples[1]["doc_id"] == 1
    assert (samples[1]["target"], samples[1]["resps"], samples[1]["filtered_resps"]) == (
        "yes",
        [["No"]],
        ["No"],
    )
    theirs = tmp_path / "answers.jsonl"
    theirs.write_text('{"question_id": 1, "text": "Yes"}\n')
    with pytest.raises(AresError, match="no output for 1 of 2 questions, such as 2"):
        read_outputs(theirs, items)
