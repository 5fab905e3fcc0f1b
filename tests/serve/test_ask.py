"""`ares ask`: arguments as they are typed, lines of JSON, and what is printed."""

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ares.__main__ import main
from ares.serve import model as model_module
from ares.serve.ask import parsed
from ares.serve.model import Answer
from ares.serve.questions import Question, problem_of

REPOSITORY = Path(__file__).resolve().parents[2]
ANSWER = Answer("Solution: A. B.", ("A.", "B."), 1, "B", "a fern", (0.125, 0.875), False)


class Recorded:
    """A model that answers everything alike and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.opened: list[tuple[str, str | None]] = []

    def load(self, folder: str | Path, *, device: str | None = None) -> "Recorded":
        self.opened.append((str(folder), device))
        return self

    def ask_many(self, questions: Sequence[Question]) -> list[Answer]:
        for question in questions:
            problem_of(question, "1")
        self.asked += questions
        return [ANSWER] * len(questions)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    model = Recorded()
    monkeypatch.setattr(model_module, "load", model.load)
    return model


@pytest.fixture
def ares(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str, lines: bytes = b"") -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["ares", "ask", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code, *capsys.readouterr())

    return run


def test_sentences_answer_and_probability_are_printed(
    recorded: Recorded, ares: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no run is
    (tmp_path / "map.png").write_bytes(b"")
    choices = '["a rock", "a fern"]'
    code, out, err = ares(
        "run=demo",
        "question=Which is a plant?",
        f"choices={choices}",
        f"image={tmp_path}/map.png",
        "device=cpu",
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == ["1. A.", "2. B.", "Answer: (B) a fern, probability 0.875"]
    assert recorded.opened == [("demo", "cpu")]
    assert recorded.asked == [
        {"question": "Which is a plant?", "choices": ["a rock", "a fern"], "image": f"{tmp_path}/map.png"}
    ]


def test_names_of_runs_are_looked_up_in_their_folder(recorded: Recorded, ares: Any, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    ares("run=demo", f"paths.runs={tmp_path}", "question=?", "choices=[a]")
    ares(f"run={tmp_path}/elsewhere", "question=?", "choices=[a]")
    assert [folder for folder, _ in recorded.opened] == [f"{tmp_path}/demo", f"{tmp_path}/elsewhere"]


@pytest.mark.parametrize(
    "text", ["2 + 2 = 4, right?", 'What\'s "this"?', "Größer als ½? 日本", "a=b", "${run}", "-1", "", "x\ny"]
)
def test_values_are_taken_as_they_are(recorded: Recorded, ares: Any, text: str) -> None:
    assert ares("run=demo", f"question={text}", f"hint={text}", f"choices={json.dumps([text])}")[0] == 0
    assert recorded.asked == [{"question": text, "hint": text, "choices": [text]}]


@pytest.mark.parametrize(
    ("value", "choices"),
    [
        ("[Maine, New York]", ["Maine", "New York"]),
        ("['yes', no, 1.0]", ["yes", "no", "1.0"]),
        ("[1, 2]", ["1", "2"]),
        (r'["\ud83d\ude00"]', ["😀"]),
    ],
)
def test_choices_need_no_quotes(recorded: Recorded, ares: Any, value: str, choices: list[str]) -> None:
    assert ares("run=demo", "question=?", f"choices={value}")[0] == 0
    assert recorded.asked[0]["choices"] == choices


def test_all_mistakes_are_reported_at_once(recorded: Recorded, ares: Any) -> None:
    code, out, err = ares("questoin=Which?", "choices=a fern", "fern", "hint=a", "hint=b")
    assert (code, out, recorded.opened) == (2, "", [])
    assert err.splitlines() == [
        "error: there is no key 'questoin'. Did you mean 'question'?",
        """error: choices=a fern: it must be a list of texts, such as '["a fern", "a rock"]'.""",
        "error: 'fern' is not of the form key=value.",
        "error: hint is given twice.",
        "error: ares ask needs run=<name of a run, or folder>.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run=demo", "question=Which?"], 'error: field "choices" is missing; add it.'),
        (["run=demo", "choices=[a]"], 'error: field "question" is missing; add it.'),
        (
            ["run=demo", "question=?", "choices=[]"],
            'error: field "choices" must be a non-empty list of texts.',
        ),
        (["run=demo", "question=?", "choices=[a]", "image=no.png"], "error: There is no image no.png"),
    ],
)
def test_impossible_questions_are_refused(
    recorded: Recorded, ares: Any, arguments: list[str], message: str
) -> None:
    code, out, err = ares(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_unknown_runs_are_refused(ares: Any, tmp_path: Path) -> None:
    code, _, err = ares("run=absent", f"paths.runs={tmp_path}", "question=?", "choices=[a]")
    assert (code, err) == (
        2,
        "error: absent is neither a run nor an exported model; give the folder of one.\n",
    )


def test_lines_are_answered_in_their_order(recorded: Recorded, ares: Any) -> None:
    rows = [
        {"question": f"Is {n} even?", "choices": ["yes", "no"], "pid": f"p{n}", "answer": 0}
        for n in range(40)
    ]
    code, out, err = ares("run=demo", lines="\n".join(map(json.dumps, rows)).encode())
    assert (code, err) == (0, "")
    assert recorded.asked == rows
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["pid"] for row in found] == [row["pid"] for row in rows]
    assert [row["line"] for row in found] == list(range(1, 41))
    assert found[0] == {
        **{"line": 1, "pid": "p0", "rationale": ANSWER.rationale, "sentences": ["A.", "B."], "index": 1},
        **{"letter": "B", "text": "a fern", "probabilities": [0.125, 0.875], "truncated": False},
        "probability": 0.875,
    }


def test_wrong_lines_are_reported_and_the_others_answered(recorded: Recorded, ares: Any) -> None:
    good = '{"question": "Größer?", "choices": ["ja", "nein"]}'
    wrong = [
        '{"question": "Which?"}',
        "not JSON",
        "[1]",
        '{"question": "?", "choices": ["a"], "image": "no.png"}',
    ]
    lines = [good, *wrong, "", good]
    code, out, err = ares("run=demo", lines="\n".join(lines).encode() + b'\n"\xff"\n')
    assert code == 2
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1, 7]
    assert len(recorded.asked) == 2
    found = err.splitlines()
    assert [line.split(":")[1].strip() for line in sorted(found)] == [f"line {n}" for n in (2, 3, 4, 5, 8)]
    assert 'error: line 2: field "choices" is missing; add it.' in found
    assert "error: line 4: it is a list; it must be an object." in found
    assert "error: line 8: it is not UTF-8; save the questions as UTF-8." in found


def test_a_reader_that_stops_early_ends_the_command(
    recorded: Recorded, ares: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert ares("run=demo", lines=b'{"question": "?", "choices": ["a"]}')[0] == 0


def test_commands_in_the_documentation_are_valid() -> None:
    pages = [REPOSITORY / "README.md", REPOSITORY / "docs/use.md"]
    lines = [line.split(" #")[0].strip() for page in pages for line in page.read_text().splitlines()]
    commands = [line for line in lines if line.startswith("ares ask ")]
    assert len(commands) >= 3
    for command in commands:
        words = shlex.split(re.sub(r"[<>] ?\S+\.jsonl", "", command.replace("\\", "")))
        assert parsed(words[2:])[1] == [], command


def test_help_is_short(ares: Any) -> None:
    code, out, _ = ares("--help")
    assert code == 0
    assert "ares ask run=" in out
