"""A report as large as a real one, without a run."""

import math
from pathlib import Path

from PIL import Image

from ares.evaluation.answers import CATEGORIES
from ares.pipeline.manifest import Artefact, StepEntry
from ares.report.benchmarks import BenchmarkResult
from ares.report.headline import HeadlineNumber
from ares.report.images import Images
from ares.report.page import AccuracyRow, ReportData, Reproduction
from ares.report.questions import REPAIRED, SFT, Answered, Browser, Question, Version
from ares.report.samples import Preference, Sample

HASH = "0123456789abcdef" * 4
SENTENCES = [
    ("The thermometer reads 31 degrees, which is warmer than the 12 degrees of the second.", "supporting"),
    ("A thermometer measures temperature.", "irrelevant"),
    ("So the first place is the coldest of all.", "false"),
    ("Warm air rises above cold air, whatever the place is called.", "supporting"),
    ("The second place is near the sea.", "invented"),
    ("The second place is near the sea.", "repeated"),
]


def curve(points: int, low: float, high: float) -> list[list[float]]:
    """A curve that levels off."""
    return [[10 * i, low + (high - low) * (1 - math.exp(-4 * i / points))] for i in range(points)]


def version(name: str, start: int, end: int | None = None) -> Version:
    """A rationale of the sentences from `start` to `end`."""
    texts, labels = [text for text, _ in SENTENCES[start:end]], [label for _, label in SENTENCES[start:end]]
    return Version(name, texts, labels, round(labels.count("supporting") / max(1, len(labels)), 4))


def question(number: int, images: list[str]) -> Question:
    """Every third question has an image, every second is of the train split and has samples."""
    train = number % 2 == 0
    samples = [Sample([text for text, _ in SENTENCES[:3]], [1.0, 0.5, 0.0], [0.52, -0.013, -1.5])] * 4
    chosen, rejected = ([text for text, _ in SENTENCES[start : start + 2]] for start in (0, 1))
    pair = Preference("rollouts", Sample(chosen, [1.0, 0.5], None), Sample(rejected, [0.5, 0.0], None))
    return Question(
        pid=str(number),
        split="train" if train else "test",
        kind=("thermometer", "maps")[number % 4 // 2],
        question=f"Which of the two places of question {number} is warmer?",
        choices=("the place on the left", "the place on the right", "both are equally warm"),
        answer=number % 3,
        hint="Look at the thermometers.\nThey show degrees Celsius." if number % 2 else "",
        images=images if number % 3 == 0 else [],
        versions=[
            version("before RL", 0, 2 + number % 4),
            version("after RL", number % 3, 5),
            *([version(REPAIRED, 0, 2)] if train else []),
            version(SFT, number % 3),
        ],
        answers=[] if train else [Answered("without ARES", number % 2), Answered("with ARES", number % 3)],
        samples=samples if train else [],
        pairs=[pair] if train else [],
        verdict=None if train else ("a", "b", "tie")[number % 3],
    )


def browser(folder: Path, questions: int = 40) -> Browser:
    """A browser of questions that share one picture in `folder`."""
    picture = folder / "thermometer.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    images = Images()
    key = images.add(picture)
    assert key
    return Browser([question(n, [key]) for n in range(questions)], images.addresses, questions)


def report_data() -> ReportData:
    """Everything else of the report."""
    rl = {
        "ppo/reward_mean": curve(60, 0.31, 0.72),
        "ppo/kl": curve(60, 0.0, 0.02),
        "ppo/clip_fraction": curve(60, 0.0, 0.11),
        "ppo/grad_norm": [[x, 1e9 if x == 300 else y] for x, y in curve(60, 0.4, 0.64)],
    }
    keys = ["rationale", "round-1/rollouts", "round-1/score", "round-1/ppo", "round-1/sft", "final/lora"]
    steps = {
        key: StepEntry(
            hash="",
            settings={},
            inputs={"policy": Artefact("policy", f"{i}a" * 32)},
            outputs={"policy": Artefact("policy", f"{i}b" * 32)},
            seconds=8.0 * (i + 1) ** 2,
            usd=1.25 * (key == "round-1/score"),
            requests=2400 * (key == "round-1/score"),
            metrics={"loss": 0.1234567, "tokens": 123456.0, "quarantined": 0.0005556},
        )
        for i, key in enumerate(keys)
    }
    return ReportData(
        run="demo",
        created="2026-03-01 12:00 UTC",
        config={"stage": "ares", "model": "tiny", "seed": 0, "rl.kl_coef": 0.01},
        inputs_hash=HASH,
        headline=[
            HeadlineNumber("Supporting sentences", "51.0 % → 72.3 %", "95 % 0.19 to 0.24"),
            HeadlineNumber("Accuracy", "68.1 % → 71.3 %", "150 test questions"),
            HeadlineNumber("Teacher", "$1.25", "2,400 requests"),
            HeadlineNumber("Time", "3 min 12 s", "9 steps"),
        ],
        steps=steps,
        curves={
            "rationale": {"train/loss": curve(400, 2.5, 0.4), "val/rouge_l": curve(8, 0.1, 0.8)},
            "round-1/ppo": rl,
        },
        policies={
            "before RL": {"supporting": 0.51, "invented": 0.25, "false": 0.24, "tokens": 31.5},
            "after RL (round 1)": {"supporting": 0.7234, "invented": 0.125, "false": 0.1516, "tokens": 30.0},
        },
        accuracy=[
            AccuracyRow(
                name, None if name == "SOC" else 50 + 4.5 * i, None if name == "SOC" else 60 + 4.5 * i, 12 * i
            )
            for i, name in enumerate(CATEGORIES)
        ],
        failed=3,
        benchmarks=[BenchmarkResult("pope", "lmms_eval", 9000, 12, 86.25, {"f1": 84.5, "yes": 48.1})],
        closeness=[{"bleu4": 0.31, "rouge_l": 0.555}, {"bleu4": 0.42, "rouge_l": 0.655}],
        reproduction=Reproduction(
            ["python train.py experiment=demo"], ["abc123"], ["AMD EPYC, 2 cores"], ["torch 2.15.0"]
        ),
    )
