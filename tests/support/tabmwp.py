"""Made-up rows in TabMWP's published format, simple enough for an untrained model to answer some of them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

_COUNTS = {"train": 18, "dev": 4, "test": 8}


def write_tabmwp(root: Path) -> Path:
    """The three files and the pictures of their tables; every third question has choices. Returns the folder."""
    (root / "tables").mkdir(parents=True)
    number = 0
    for split, count in _COUNTS.items():
        rows = {}
        for _ in range(count):
            number += 1
            rows[str(number)] = _row(number, split)
            Image.new("RGB", (32, 32), ("red", "blue")[number % 2]).save(root / f"tables/{number}.png")
        (root / f"problems_{split}.json").write_text(json.dumps(rows))
    return root


def _row(number: int, split: str) -> dict[str, Any]:
    coins, has_choices = 1 + number % 2, number % 3 == 0
    return {
        "question": "Does Ada have a coin?" if has_choices else "How many coins does Ada have?",
        "choices": ["yes", "no"] if has_choices else None,
        "answer": "yes" if has_choices else str(coins),
        "unit": None if has_choices else "coins",
        "table_title": "Coins",
        "table": f"Name | Coins\nAda | {coins}",
        "table_for_pd": {"Name": ["Ada"], "Coins": [str(coins)]},
        "row_num": 2,
        "column_num": 2,
        "solution": f"Ada has {coins}.",
        "ques_type": "multi_choice" if has_choices else "free_text",
        "ans_type": "boolean_text" if has_choices else "integer_number",
        "grade": 2,
        "split": split,
    }
