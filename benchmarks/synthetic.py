"""Data sets of the published sizes with drawn images, for measuring without the real ones."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

SCIENCEQA = {"train": 12726, "val": 4241, "test": 4241}  # 21,208 problems
SCIENCEQA_IMAGES = 10332
AOKVQA = {"train": 17056, "val": 1145}
_WORDS = [
    "which",
    "of",
    "these",
    "magnets",
    "has",
    "the",
    "weaker",
    "force",
    "between",
    "them",
    "when",
    "the",
    "states",
    "are",
    "farther",
    "north",
]


def write_scienceqa(root: Path, *, scale: float = 1.0) -> int:
    """The published layout at `scale` times its size; returns the number of images (PNG, as large as the real ones)."""
    sizes = {split: round(count * scale) for split, count in SCIENCEQA.items()}
    pids = [str(number) for number in range(1, sum(sizes.values()) + 1)]
    images = set(pids[: round(SCIENCEQA_IMAGES * scale)])
    problems = {pid: _problem(int(pid), "image.png" if pid in images else None) for pid in pids}
    root.mkdir(parents=True, exist_ok=True)
    splits, start = {}, 0
    for split, count in sizes.items():
        splits[split] = pids[start : start + count]
        start += count
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    (root / "captions.json").write_text(
        json.dumps({"captions": {pid: _text(int(pid), 12) for pid in images}})
    )
    _draw({root / "images" / pid / "image.png": int(pid) for pid in images})
    return len(images)


def write_aokvqa(root: Path, *, scale: float = 1.0) -> int:
    """The official files of train and val, and COCO's folders; returns the number of images (JPEG)."""
    root.mkdir(parents=True, exist_ok=True)
    files, number = {}, 0
    for split, count in AOKVQA.items():
        rows = []
        for _ in range(round(count * scale)):
            number += 1
            files[root / f"coco/{split}2017/{number:012}.jpg"] = number
            rows.append(
                {
                    "question_id": f"q{number}",
                    "image_id": number,
                    "question": _text(number, 9),
                    "choices": ["cab", "bus", "train", "bike"],
                    "correct_choice_idx": number % 4,
                    "direct_answers": ["cab"] * 5 + ["bus"] * 5,
                    "difficult_direct_answer": number % 11 == 0,
                    "rationales": [_text(number + shift, 12) for shift in range(3)],
                }
            )
        (root / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(rows))
    _draw(files)
    return len(files)


def _text(seed: int, words: int) -> str:
    return " ".join(_WORDS[(seed * 7 + place * place) % len(_WORDS)] for place in range(words))


def _problem(number: int, image: str | None) -> dict[str, object]:
    return {
        "question": _text(number, 14),
        "choices": ["the first", "the second", "the third"],
        "answer": number % 3,
        "hint": _text(number, 30),
        "image": image,
        "task": "closed choice",
        "grade": f"grade{number % 12 + 1}",
        "subject": "natural science",
        "topic": "physics",
        "category": "Magnets",
        "skill": "Compare magnitudes",
        "lecture": _text(number, 140),
        "solution": _text(number, 60),
    }


def _draw(files: dict[Path, int]) -> None:
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_draw_one, files.items(), chunksize=64))


def _draw_one(item: tuple[Path, int]) -> None:
    path, seed = item
    if not path.exists():
        random = np.random.default_rng(seed)
        size = (int(random.integers(200, 640)), int(random.integers(200, 480)))
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).save(path, quality=85)
