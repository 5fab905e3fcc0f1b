"""The questions of the browser: what is known about them, which are drawn, and how many fit into a page."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image

from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import Artefact, StepEntry
from ares.report.images import SIDE, Images, data_uri
from ares.report.questions import (
    REPAIRED,
    SFT,
    Answered,
    Material,
    browser_of,
    draw,
    material_of,
)
from ares.report.samples import Preference, Sample
from ares.storage.files import write_jsonl
from ares.storage.pairs import write_pairs
from ares.storage.tables import (
    write_advantages,
    write_corrections,
    write_feedback,
    write_predictions,
    write_rationales,
    write_rollouts,
    write_verdicts,
)
from ares.types import (
    Advantages,
    Correction,
    Feedback,
    Pair,
    Prediction,
    Problem,
    Rationale,
    Rollout,
    Side,
    Span,
    Verdict,
)
from tests.support.problems import make_problem

TEXT = "It is green. So it is a fern."


def rollout(pid: str, sample: int, text: str = TEXT) -> Rollout:
    spans = (Span(0, 12), Span(13, len(text)))
    return Rollout(f"{pid}/{sample}", pid, sample, text, (1, 2), False, spans, (0, 1), (0.0,) * 2, (0.0,) * 2)


def greedy(pid: str, text: str) -> Rationale:
    return Rationale(pid, text, (1,), False)


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, dict[str, StepEntry]]:
    """A run of two rounds with all artefacts that the browser reads: problem 1 is of train, 2 of val, 3 of test."""
    outputs: dict[str, dict[str, str]] = {
        "rationale/assess": {"assessment": "assessed.jsonl"},
        "baseline/generate": {
            "rationales-train": "before-train.parquet",
            "rationales-test": "before-test.parquet",
        },
        "baseline/lora": {"predictions": "before.jsonl"},
        "round-1/generate": {"rationales": "absent"},
        "round-2/rollouts": {"rollouts": "rollouts"},
        "round-2/score": {"feedback": "feedback.parquet"},
        "round-2/ppo": {"advantages": "advantages.parquet"},
        "round-2/pairs": {"pairs": "pairs.parquet"},
        "round-2/generate": {"rationales": "rl.parquet"},
        "round-2/correct": {"corrections": "corrections.parquet"},
        "final/generate": {
            "rationales-train": "after-train.parquet",
            "rationales-test": "after-test.parquet",
        },
        "final/lora": {"predictions": "after.jsonl"},
        "final/judge": {"verdicts": "verdicts.parquet"},
    }
    write_jsonl(tmp_path / "assessed.jsonl", [asdict(Assessment("2", ["It is."], None, 0.25, 0.0, 1, False))])
    texts = {"before": "It is a rock.", "rl": "It is green.", "after": TEXT}
    for name, pids in (("before", "13"), ("after", "13")):
        for pid, split in zip(pids, ("train", "test"), strict=True):
            write_rationales(tmp_path / f"{name}-{split}.parquet", [greedy(pid, texts[name])])
    write_rationales(tmp_path / "rl.parquet", [greedy("1", texts["rl"])])
    write_corrections(tmp_path / "corrections.parquet", [Correction("1", "a", "a", "It is a plant.", "ok")])
    write_rollouts(tmp_path / "rollouts/part-0.parquet", [rollout("1", 0), rollout("1", 1), rollout("9", 0)])
    rows = [Feedback("1/0", (1.0, 0.5), "ok"), Feedback("1/1", None, "quarantined", "no JSON")]
    write_feedback(tmp_path / "feedback.parquet", rows)
    spans = (Span(0, 12), Span(13, len(TEXT)))
    sides = Side(TEXT, (1, 2), spans, (0, 1), (1.0, 0.5)), Side("It is a rock.", (3,), (Span(0, 13),), (0,))
    write_pairs(tmp_path / "pairs.parquet", [Pair(f"{pid}/0-1", pid, "rollouts", *sides) for pid in "19"])
    write_advantages(tmp_path / "advantages.parquet", [Advantages("1/0", (0.5, -0.25))])
    for name, answer in (("before", 1), ("after", 0)):
        write_predictions(tmp_path / f"{name}.jsonl", [Prediction("3", "", "", answer, answer == 0)])
    write_verdicts(tmp_path / "verdicts.parquet", [Verdict("3", "a", "a", "a")])
    steps = {
        key: StepEntry("0", {}, {}, {name: Artefact(path, "0") for name, path in own.items()})
        for key, own in outputs.items()
    }
    return tmp_path, steps


PROBLEMS = {pid: make_problem(pid, solution=TEXT) for pid in "123"}


def test_questions_have_all_that_the_run_knows(run: tuple[Path, dict[str, StepEntry]]) -> None:
    drawn = [("train", "1"), ("val", "2"), ("test", "3")]
    found = browser_of(drawn, PROBLEMS, material_of(*run, "123"), total=3, limit=10**6)
    train, val, test = found.questions
    assert [(v.name, v.sentences) for v in train.versions] == [
        ("before RL", ["It is a rock."]),
        ("after RL", ["It is green."]),
        (REPAIRED, ["It is a plant."]),
        (SFT, ["It is green.", "So it is a fern."]),
    ]
    assert train.versions[-1].quality > 0.9
    assert train.versions[0].quality <= 0.5
    sentences = ["It is green.", "So it is a fern."]
    assert train.samples == [Sample(sentences, [1.0, 0.5], [0.5, -0.25]), Sample(sentences, None, None)]
    chosen, rejected = Sample(sentences, [1.0, 0.5], None), Sample(["It is a rock."], None, None)
    assert train.pairs == [Preference("rollouts", chosen, rejected)]
    assert [(v.name, v.quality) for v in val.versions] == [("before RL", 0.25)]
    assert test.answers == [Answered("without ARES", 1), Answered("with ARES", 0)]
    assert (test.verdict, [v.name for v in test.versions]) == ("a", ["before RL", SFT])
    assert (train.split, train.kind, train.verdict, train.answers) == ("train", "biology", None, [])


def test_answers_to_a_question_without_choices_are_listed_the_right_one_first() -> None:
    problem = make_problem("3", choices=(), answer=None, direct_answers=("1,200",))
    rows = {"without ARES": ("1190", False), "with ARES": ("1200", True), "other": (None, False)}
    answers = {name: {"3": Prediction("3", "", "", *row)} for name, row in rows.items()}
    [question] = browser_of(
        [("test", "3")], {"3": problem}, Material({}, answers, {}, {}), total=1, limit=10**6
    ).questions
    assert (question.choices, question.answer) == (("1,200", "1190"), 0)
    assert question.answers == [
        Answered("without ARES", 1),
        Answered("with ARES", 0),
        Answered("other", None),
    ]


def test_draw_is_fixed_complete_and_alternates_between_splits() -> None:
    pids = {"train": [str(n) for n in range(50)], "val": [], "test": ["a", "b"]}
    found = draw(pids)
    assert found == draw({split: own[::-1] for split, own in pids.items()})
    assert [split for split, _ in found[:4]] == ["train", "test", "train", "test"]
    assert {pid for split, pid in found if split == "train"} == set(pids["train"])
    assert len(found) == 52
    assert [pid for split, pid in found if split == "train"] != pids["train"]


def test_versions_of_a_preference_run_are_named_by_it(run: tuple[Path, dict[str, StepEntry]]) -> None:
    root, steps = run
    steps["round-2/prefer"] = steps.pop("round-2/ppo")
    found = browser_of([("train", "1")], PROBLEMS, material_of(root, steps, "1"), total=1, limit=10**6)
    assert [v.name for v in found.questions[0].versions][:2] == ["before preferences", "after preferences"]


EMPTY = Material({}, {}, {})


def test_questions_that_do_not_fit_are_left_out_with_their_images(tmp_path: Path) -> None:
    problems: dict[str, Problem] = {}
    for number in range(20):
        noise = Image.effect_noise((200, 200), 90)
        noise.save(tmp_path / f"{number // 2}.png")  # two problems share an image
        problems[str(number)] = make_problem(str(number), image=tmp_path / f"{number // 2}.png")
    drawn = [("test", pid) for pid in problems]
    every = browser_of(drawn, problems, EMPTY, total=20, limit=10**7)
    assert (len(every.questions), len(every.images)) == (20, 10)
    size = len(every.json)
    some = browser_of(drawn, problems, EMPTY, total=20, limit=size // 2)
    assert 0 < len(some.questions) < 20
    assert len(some.json) <= size // 2
    assert some.images.keys() == {key for question in some.questions for key in question.images}
    assert browser_of(drawn, problems, EMPTY, total=20, limit=0).questions == []


def test_page_of_the_papers_rollouts_stays_below_ten_megabytes(tmp_path: Path) -> None:
    """As many questions as a page may hold of 12,726 with four rationales each: 50,904 rollouts."""
    sentences = ["The sentences of a rationale have about sixty characters each."] * 5
    problems = {str(n): make_problem(str(n)) for n in range(12726)}
    samples = {pid: [Sample(sentences, [0.5] * 5, [0.123] * 5)] * 4 for pid in problems}
    drawn = draw({"train": problems})
    found = browser_of(drawn, problems, Material({}, {}, {}, samples), total=len(drawn), limit=9_000_000)
    assert 2000 < len(found.questions) < 12726
    assert len(found.json.encode()) <= 9_000_000


def test_no_text_ends_the_script() -> None:
    problems = {"1": make_problem("1", question="</script><!-- \u2028 <script>")}
    found = browser_of([("test", "1")], problems, EMPTY, total=1, limit=10**6)
    assert "<" not in found.json
    assert "\u2028" not in found.json
    assert json.loads(found.json)["questions"][0]["question"] == problems["1"].question


def test_images_are_scaled_down_and_kept_once(tmp_path: Path) -> None:
    large, copy, small = (tmp_path / name for name in ("large.png", "copy.png", "small.png"))
    Image.effect_noise((1000, 500), 90).save(large)
    copy.write_bytes(large.read_bytes())
    Image.new("RGB", (4, 4)).save(small)
    images = Images()
    keys = [images.add(path) for path in (large, copy, small, tmp_path / "absent.png")]
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] is None
    assert len(images.addresses) == 2
    assert images.size == len(json.dumps(images.addresses))
    assert images.addresses[keys[0]].startswith("data:image/webp;base64,")
    assert len(images.addresses[keys[0]]) < large.stat().st_size / 5
    assert images.addresses[keys[2]].startswith("data:image/png;base64,")  # as it is
    assert SIDE == 320


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<svg/>"])
def test_unreadable_images_are_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert data_uri(tmp_path / "a.png") is None
    assert Images().add(tmp_path / "a.png") is None
