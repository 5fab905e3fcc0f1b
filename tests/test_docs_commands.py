"""Every command of README.md and docs/ runs on a CPU, or its page says what it needs."""

import base64
import csv
import io
import json
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from PIL import Image

from ares.__main__ import main
from tests.support.documented import REPOSITORY, commands
from tests.support.small_run import SMALL

HERE = Path(__file__).parent
# What only some commands have, the test that runs them, and what shows that it does.
ELSEWHERE = {
    "experiment=claims": ("e2e/test_claims.py", "experiment=claims"),
    "experiment=selftrain": ("steps/test_selftrain.py", "stage=selftrain"),  # needs a model that answers
    "--config-dir": ("test_extending.py", "docs/extending.md"),
    "stage=serve": ("serve/test_playground.py", "stage=serve"),
    "report.compare=": ("report/test_compare.py", "report.compare="),
}
MACHINE = ("trainer.accelerator=cpu", "strategy=single", "logger=csv")
# Enough training for rollouts with different scores, of which pairs are made.
SIZES = {
    **dict(text.split("=", 1) for text in SMALL if not text.startswith("experiment=")),
    **{"data.sizes": "{train: 48, val: 8, test: 8}", "model.d_model": "32", "model.d_ff": "64"},
    **{"rationale.epochs": "6", "rl.max_new_tokens": "40", "generate.max_new_tokens": "40"},
    **{"rounds": "1", "reward.epochs": "1"},
}


FREE = [command for command in commands() if not command.needs]
# Short ones make the runs that others continue; then they are asked, before others train them further.
OWN = sorted(
    {command.text for command in FREE if not any(part in command.text for part in ELSEWHERE)},
    key=lambda text: (len(text.split()) > 3, not text.startswith("ares"), len(text.split()), text),
)


def test_other_tests_run_the_rest() -> None:
    for part, (test, shown) in ELSEWHERE.items():
        assert any(part in command.text for command in FREE), part
        assert shown in (HERE / test).read_text(encoding="utf-8"), test


def test_commands_that_run_have_no_gaps() -> None:
    gaps = [text for text in OWN if re.search(r"<[^<> ][^<>]*>|…", text)]
    assert gaps == []


def arguments(text: str) -> tuple[list[str], Path | None, Path | None]:
    """A command as the program gets it, in small sizes, and the files of its standard input and output."""
    words = shlex.split(text)
    files = [Path(words[words.index(sign) + 1]) if sign in words else None for sign in "<>"]
    words = words[: words.index("<")] if "<" in words else words
    if words[0] != "python":
        return words, *files
    words = words[1:]
    keys = {word.partition("=")[0] for word in words}
    if "experiment" in keys:
        words += [f"{key}={value}" for key, value in SIZES.items() if key not in keys]
    elif "benchmark" in keys:
        words += MACHINE
    return words, *files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that commands name."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("map.png")
    asked = {"question": "Is 2 + 2 = 4?", "choices": ["yes", "no"]}
    Path("questions.jsonl").write_text(f"{json.dumps(asked)}\n", encoding="utf-8")
    Path("theirs.jsonl").write_text('{"index": 0, "output": "yes"}\n{"index": 1, "output": "no"}\n')
    yes_no = [{"question": f"Is there a {name}?", "answer": "yes", "category": "random"} for name in "ab"]
    write_tsv(Path("POPE.tsv"), yes_no)
    choice = {"question": "Which color is it?", "A": "red", "B": "blue", "answer": "A", "category": "color"}
    write_tsv(Path("MMBench_DEV_EN.tsv"), [{**choice, "l2-category": "perception"}])
    return tmp_path


def write_tsv(path: Path, rows: list[dict[str, str]]) -> None:
    image = base64.b64encode(Path("map.png").read_bytes()).decode()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["index", "image", *rows[0]], delimiter="\t")
        writer.writeheader()
        writer.writerows({"index": number, "image": image, **row} for number, row in enumerate(rows))


@pytest.mark.slow
def test_every_other_command_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(OWN) >= 20
    page = (REPOSITORY / "docs/use.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(import ares\n.*?)```", page, re.DOTALL)
    asked = max(number for number, text in enumerate(OWN) if text.startswith("ares"))
    failed = []
    for number, text in enumerate(OWN):
        words, given, taken = arguments(text)
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.read_bytes() if given else b"")))
        written = io.StringIO()
        with redirect_stdout(written):
            code = exit_code()
        if code not in expected(text):
            failed.append(f"{text}: {code}: {written.getvalue()}{capsys.readouterr().err}")
        if taken:
            taken.write_text(written.getvalue(), encoding="utf-8")
        if number == asked:
            exec(example, {})
    assert not failed, "\n\n".join(failed)
    assert json.loads(Path("answers.jsonl").read_text(encoding="utf-8"))["letter"] in "AB"


def expected(text: str) -> tuple[object, ...]:
    # The doctor reports that ScienceQA is missing.
    return (1,) if "stage=doctor" in text else (None, 0)


def exit_code() -> object:
    try:
        main()
    except SystemExit as stopped:
        return stopped.code
    return None
