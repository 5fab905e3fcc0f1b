"""Recorded replies as the Teacher: a JSONL file, or the feedback folders of the ARES paper's code.

A file has one JSON object per line: `kind` (score, correct, judge, grade), `pid`, what was asked (`sentences`;
`rationale`; `first` and `second`; `prompt`) and `reply`, the raw text. The folders are
`<question>/<k>/p<rank>/<pid>/`, or any that hold both `output_from_llm.txt` and `rationale_from_mm_cot.txt`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ares.storage.files import hash_of, sha256_path
from ares.teachers.grading import Grader
from ares.teachers.messages import Reply, Request, Unanswered
from ares.teachers.parsing import FeedbackError, parse_grouped_scores, parse_scores
from ares.teachers.prompts.default import Prompt
from ares.text.prompts import strip_solution
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.teachers.ledger.ledger import Ledger

VERSION = "1"
ASKED, REPLIED = "rationale_from_mm_cot.txt", "output_from_llm.txt"
_BLANK = ": xxx"
_CONTENT = {
    "score": ("sentences",),
    "correct": ("rationale",),
    "judge": ("first", "second"),
    "grade": ("prompt",),
}


class ReplayTeacher(Grader):
    """Answers from a recording at `path`; requests that are not in it are quarantined.

    `group` is that of the recording: whether a reply scores one rationale (1) or all of a question's (k).
    """

    def __init__(
        self, path: str | None, *, name: str = "replay", group: str | int = 1, ledger: "Ledger | None" = None
    ) -> None:
        if not path:
            raise AresError("teacher=replay needs a recording; give teacher.path=<file or folder>.")
        super().__init__(name, VERSION, ledger, group=group)
        self.path = Path(path)

    def check(self) -> list[str]:
        """Raises AresError if there is no recording."""
        if not self.path.exists():
            raise AresError(
                f"There is no recording at {self.path} (teacher.path); give a JSONL file or a folder of the "
                "original project's feedback."
            )
        return []

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The question and the sentences."""
        return self._payload("score", problem.pid, [_folded(part) for part in rationales])

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict[str, Any]:
        """The question and the rationale."""
        return self._payload("correct", problem.pid, _folded([rationale]))

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict[str, Any]:
        """The question and both rationales."""
        return self._payload("judge", problem.pid, _folded([first, second]))

    def grade_payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        """The question and the prompt."""
        return self._payload("grade", problem.pid, _folded([prompt.text]))

    def read_scores(
        self, text: str, rationales: Sequence[Sequence[str]]
    ) -> list[list[float] | FeedbackError]:
        """The scores of a reply in any form; sentences that the reply repeats must be the same."""
        if len(rationales) > 1 or _is_keyed(text):
            return parse_grouped_scores(text, [len(sentences) for sentences in rationales])
        try:
            return [parse_scores(text, len(rationales[0]), sentences=rationales[0])]
        except FeedbackError as error:
            return [error]

    async def send(self, request: Request) -> Reply:
        """The recorded reply; raises Unanswered if there is none."""
        reply = self._replies.get(request.payload["key"])
        if reply is None:
            raise Unanswered("not in the recording")
        return Reply(reply, 0, 0, 0.0)

    def fingerprint(self) -> dict[str, Any]:
        """Its version and the recording's hash."""
        return {"name": self.name, "version": VERSION, "recording": self._recording}

    @cached_property
    def _replies(self) -> dict[str, str]:
        self.check()
        return dict(_records(self.path))

    @cached_property
    def _recording(self) -> str:
        self.check()
        return sha256_path(self.path)

    def _payload(self, kind: str, pid: str, content: list[Any]) -> dict[str, Any]:
        # Another recording may hold other replies to the same question.
        key = hash_of([kind, pid, content])
        return {"pid": pid, "content": content, "key": key, "recording": self._recording}


def record(kind: str, pid: str, reply: str, **asked: Any) -> dict[str, Any]:
    """One line of a recording; raises KeyError if `asked` is incomplete."""
    return {"kind": kind, "pid": pid, **{name: asked[name] for name in _CONTENT[kind]}, "reply": reply}


def read_folders(root: Path) -> Iterator[dict[str, Any]]:
    """The feedback folders of the original project as lines of a recording, in order of their paths."""
    for file in sorted(root.rglob(REPLIED)):
        asked = file.with_name(ASKED)
        if not asked.exists():
            continue
        pid, reply = file.parent.name, _text_of(file)
        lines = _text_of(asked).strip().split("\n")[1:-1]
        entries = [line.rstrip(",") for line in lines]
        if entries and all(entry.endswith(_BLANK) for entry in entries):
            # The sentences are quoted but not escaped.
            sentences = [entry.removesuffix(_BLANK).strip()[1:-1] for entry in entries]
            yield record("score", pid, reply, sentences=sentences)
        else:
            yield record("correct", pid, reply, rationale="\n".join(lines))


def _records(path: Path) -> Iterator[tuple[str, str]]:
    rows = read_folders(path) if path.is_dir() else _read_lines(path)
    for row in rows:
        kind = row["kind"]
        content: list[Any] = [row[name] for name in _CONTENT[kind]]
        if kind == "score":
            # The sentences of one rationale, or a list of several rationales.
            [asked] = content
            grouped = bool(asked) and not isinstance(asked[0], str)
            content = [_folded(part) for part in (asked if grouped else [asked])]
        else:
            content = _folded(content)
        yield hash_of([kind, str(row["pid"]), content]), row["reply"]


def _read_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    # Not splitlines(), which also splits at the line separators that JSON does not escape.
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            asked = [_is_asked(name, row[name]) for name in _CONTENT[row["kind"]]]
            complete = all(asked) and "pid" in row and isinstance(row["reply"], str)
            json.dumps(
                row, ensure_ascii=False
            ).encode()  # a lone surrogate: a UnicodeEncodeError is a ValueError
        except (ValueError, KeyError, TypeError):
            complete = False
        if not complete:
            raise AresError(
                f"{path}, line {number}: not a record with kind, pid, the question and reply in valid UTF-8; correct or "
                "remove it."
            )
        yield row


def _is_asked(name: str, value: Any) -> bool:
    """Whether a record's value is a text or, for `sentences`, a list of texts or of such lists."""
    if name != "sentences":
        return isinstance(value, str)
    parts = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    return all(isinstance(part, list) and all(isinstance(text, str) for text in part) for part in parts)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AresError(
            f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8, or leave it out of the recording."
        ) from None


def _folded(texts: Sequence[str]) -> list[str]:
    # Recordings differ in white space and in whether the first sentence starts with "Solution:".
    return [" ".join(text.split()) for text in strip_solution(texts)]


def _is_keyed(text: str) -> bool:
    return '"1.1"' in text
