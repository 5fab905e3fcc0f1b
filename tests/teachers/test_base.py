import asyncio
import json
from collections.abc import Sequence

import pytest

from ares.teachers.base import Reply, Request, Teacher
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.teachers.prompts.default import number_sentences, sentence_keys
from ares.text.prompts import strip_solution
from ares.types import AresError, Problem


def problem(pid: str = "1") -> Problem:
    blank = dict.fromkeys(
        ("hint", "caption", "lecture", "subject", "topic", "category", "skill", "grade", "task"), ""
    )
    return Problem(
        pid=pid,
        question="Is ice a solid?",
        choices=("yes", "no"),
        answer=0,
        solution="Ice is a solid.",
        image=None,
        split="train",
        **blank,
    )


class Scripted(Teacher):
    """Returns scripted replies and records the requests."""

    def __init__(self, *texts: str, ledger: Ledger | None = None) -> None:
        super().__init__("scripted", "7", ledger)
        self.texts = list(texts)
        self.asked: list[Request] = []

    def score_payload(self, problem: Problem, rationales: Sequence[Sequence[str]]) -> dict:
        return {"pid": problem.pid, "text": number_sentences(rationales)}

    def correct_payload(self, problem: Problem, rationale: str, sentences: Sequence[str]) -> dict:
        return {"pid": problem.pid, "rationale": rationale, "sentences": list(sentences)}

    def judge_payload(self, problem: Problem, first: str, second: str) -> dict:
        return {"pid": problem.pid, "first": first, "second": second}

    async def send(self, request: Request) -> Reply:
        self.asked.append(request)
        return Reply(self.texts.pop(0), 100, 10, 0.5)

    def fingerprint(self) -> dict:
        return {"name": self.name}


def test_rationales_of_a_question_share_a_request():
    teacher = Scripted('{"1.1": 0.5, "1.2": 1.0, "2.1": 0.0}')
    results = asyncio.run(teacher.score(problem(), [["Ice is cold.", "So yes."], [], ["No."]]))
    assert [result.scores for result in results] == [[0.5, 1.0], [], [0.0]]
    (request,) = teacher.asked
    assert request.payload["text"] == "1.1 Ice is cold.\n1.2 So yes.\n2.1 No."
    assert (request.kind, request.teacher, request.prompt_version) == ("score", "scripted", "7")
    assert [result.request_hash for result in results] == [request.hash, "", request.hash]


def test_empty_rationales_are_not_sent():
    teacher = Scripted()
    results = asyncio.run(teacher.score(problem(), [[], []]))
    assert [result.scores for result in results] == [[], []]
    assert teacher.usage.requests == 0


def test_unreadable_rationale_is_an_error_in_its_place():
    teacher = Scripted('{\n"1.1": 0.5,\n"2.1": high\n}')
    good, bad = asyncio.run(teacher.score(problem(), [["Yes."], ["No."]]))
    assert good.scores == [0.5]
    assert isinstance(bad.scores, FeedbackError)
    assert good.request_hash == bad.request_hash


def test_correct_and_judge():
    teacher = Scripted(
        json.dumps({"final_rationale": "Ice is a solid."}), "I am sorry.", "winner: second", "both"
    )
    assert asyncio.run(teacher.correct(problem(), "Ice.", ["Ice."])).text == "Ice is a solid."
    assert isinstance(asyncio.run(teacher.correct(problem(), "Ice is.", ["Ice is."])).text, FeedbackError)
    assert asyncio.run(teacher.judge(problem(), "a", "b")).winner == "second"
    unread = asyncio.run(teacher.judge(problem(), "b", "a"))
    assert isinstance(unread.winner, FeedbackError)
    assert unread.request_hash == teacher.asked[-1].hash


def test_ledger_saves_requests_and_money(tmp_path):
    for run in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            teacher = Scripted(*['{"1.1": 0.5}'] * 2, ledger=ledger)
            for pid in "12":
                (result,) = asyncio.run(teacher.score(problem(pid), [["Yes."]]))
                assert result.scores == [0.5]
        usage = teacher.usage
        if run == 0:
            assert (usage.requests, usage.cached, usage.usd) == (2, 0, 1.0)
            assert (usage.input_tokens, usage.output_tokens) == (200, 20)
        else:
            assert (usage.requests, usage.cached, usage.usd) == (0, 2, 0.0)
            assert teacher.asked == []


def test_incomplete_teacher_cannot_be_instantiated():
    class Half(Teacher):
        def fingerprint(self) -> dict:
            return {}

    with pytest.raises(TypeError, match="send"):
        Half("half", "1")  # type: ignore[abstract]


def test_check_needs_the_stated_package_and_key(monkeypatch):
    class Paid(Scripted):
        package, key_variable = "json", "PAID_KEY"

    monkeypatch.setenv("PAID_KEY", "x")
    assert Paid().check() == []
    monkeypatch.delenv("PAID_KEY")
    with pytest.raises(AresError, match="needs a key; set the environment variable PAID_KEY"):
        Paid().check()
    Paid.package = "no_such_package"
    with pytest.raises(AresError, match="needs the no_such_package package"):
        Paid().check()


def test_strip_solution():
    assert strip_solution(["Solution: Ice is cold.", "Solution: no."]) == ["Ice is cold.", "Solution: no."]
    assert strip_solution(["Solution:", "Ice is cold."]) == ["", "Ice is cold."]
    assert strip_solution([]) == []


def test_sentence_keys():
    assert sentence_keys([2, 0, 1]) == [["1.1", "1.2"], [], ["3.1"]]
    assert number_sentences([["a\nb", "c"], ["d"]]) == "1.1 a b\n1.2 c\n2.1 d"
