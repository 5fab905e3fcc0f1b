"""Recorded replies as a Teacher: files, and the folders of the original project."""

import asyncio
import json

import pytest

from ares.storage.files import write_jsonl
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.offline.replay import ReplayTeacher, read_folders, record
from ares.teachers.parsing import FeedbackError
from ares.types import AresError


def scored(teacher, problem, rationales) -> list:
    results = asyncio.run(teacher.score(problem, rationales))
    return [
        result.scores.reason if isinstance(result.scores, FeedbackError) else result.scores
        for result in results
    ]


@pytest.fixture
def folders(tmp_path):
    """questions/<k>/p0/<pid>/ as the original left them."""

    def write(k: int, pid: str, asked: str, replied: str) -> None:
        folder = tmp_path / "questions" / str(k) / "p0" / pid
        folder.mkdir(parents=True)
        (folder / "rationale_from_mm_cot.txt").write_text(asked)
        (folder / "output_from_llm.txt").write_text(replied)

    write(
        0, "7", '{\n"Ice is cold.": xxx,\n"So yes.": xxx\n}\n', '{\n"Ice is cold.": 0.5,\n"So yes.": 1.0\n}'
    )
    write(1, "7", '{\n"He said "no".": xxx\n}\n', 'Sure:\n{\n"He said "no".": 0.0\n}')
    write(2, "7", '{\n"It melts.": xxx\n}\n', '{\n"It freezes.": 0.9\n}')
    write(
        0,
        "8",
        "{\nIce is cold. So\n}\n",
        "{\noriginal_rationale:{..},\nfinal_rationale:{Ice is cold. So yes.}\n}",
    )
    (tmp_path / "questions" / "0" / "p0" / "9").mkdir()  # never answered
    (tmp_path / "questions" / "0" / "p0" / "9" / "rationale_from_mm_cot.txt").write_text('{\n"A.": xxx\n}\n')
    return tmp_path / "questions"


def test_feedback_folders_of_the_original_are_read(folders, problem):
    teacher = ReplayTeacher(str(folders))
    rationales = [['He said "no".'], ["Ice is  cold.", "So yes."], ["It melts."], ["Unheard of."]]
    assert scored(teacher, problem("7"), rationales) == [
        [0.0],
        [0.5, 1.0],
        "sentence 1 of the reply is not the one that was asked about",
        "not in the recording",
    ]
    assert scored(teacher, problem("9"), [["A."]]) == ["not in the recording"]
    assert asyncio.run(teacher.correct(problem("8"), "Ice is cold. So", [])).text == "Ice is cold. So yes."


def test_folders_become_a_file_that_replays_the_same(folders, problem, tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in read_folders(folders)))
    rationales = [["Ice is cold.", "So yes."], ['He said "no".']]
    assert scored(ReplayTeacher(str(path)), problem("7"), rationales) == [[0.5, 1.0], [0.0]]


def test_recording_holds_scores_repairs_and_verdicts(problem, tmp_path):
    rows = [
        record("score", "1", '{"1.1": 0.5, "2.1": 0.25}', sentences=[["Solution: Yes."], ["No."]]),
        record("correct", "1", "final_rationale:{Yes.}", rationale="Y."),
        record("judge", "1", "winner: second", first="a", second="b"),
    ]
    path = tmp_path / "record.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    teacher = ReplayTeacher(str(path), group="k")
    assert scored(teacher, problem(), [["Yes."], ["No."]]) == [[0.5], [0.25]]
    assert asyncio.run(teacher.correct(problem(), "Y.", ["Y."])).text == "Yes."
    assert asyncio.run(teacher.judge(problem(), "a", "b")).winner == "second"
    assert asyncio.run(teacher.judge(problem(), "b", "a")).winner.reason == "not in the recording"


def test_last_reply_to_a_question_counts(problem, tmp_path):
    path = tmp_path / "record.jsonl"
    write_jsonl(path, [record("score", "1", f'{{"1.1": {x}}}', sentences=["Yes."]) for x in (0.25, 0.5)])
    assert scored(ReplayTeacher(str(path)), problem(), [["Yes."]]) == [[0.5]]


def test_fingerprint_depends_on_the_recording(folders):
    before = ReplayTeacher(str(folders)).fingerprint()
    (folders / "0" / "p0" / "7" / "output_from_llm.txt").write_text("{}")
    assert ReplayTeacher(str(folders)).fingerprint() != before


def test_recordings_on_one_ledger_keep_their_own_replies(problem, tmp_path):
    found = []
    for name, score in (("a", 0.25), ("b", 0.75), ("a", 0.25)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(record("score", "1", f'{{"1.1": {score}}}', sentences=["Yes."])))
        with Ledger(tmp_path / "ledger") as ledger:
            teacher = ReplayTeacher(str(path), ledger=ledger)
            found.append((scored(teacher, problem(), [["Yes."]]), teacher.usage.cached))
    assert found == [([[0.25]], 0), ([[0.75]], 0), ([[0.25]], 1)]


@pytest.mark.parametrize(
    "line",
    [
        *("not json", "[]", '{"kind": "score", "pid": "1", "reply": "x"}', '{"kind": "x"}'),
        '{"kind": "score", "pid": "1", "sentences": ["A."], "reply": 5}',
        '{"kind": "score", "pid": "1", "sentences": "A.", "reply": "x"}',
        '{"kind": "score", "pid": "1", "sentences": [["A."], "B."], "reply": "x"}',
        '{"kind": "correct", "pid": "1", "rationale": null, "reply": "x"}',
        r'{"kind": "score", "pid": "1", "sentences": ["Yes."], "reply": "\ud83d"}',
        r'{"kind": "score", "pid": "1", "sentences": ["Yes. \ud83d"], "reply": "x"}',
    ],
)
def test_malformed_line_is_reported(line, problem, tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(AresError, match="line 2"):
        scored(ReplayTeacher(str(path)), problem(), [["Yes."]])


def test_line_separator_in_a_sentence_does_not_end_a_record(problem, tmp_path):
    path = tmp_path / "record.jsonl"
    write_jsonl(path, [record("score", "1", '{"1.1": 0.5}', sentences=["Ice\u2028melts."])])
    assert scored(ReplayTeacher(str(path)), problem(), [["Ice\u2028melts."]]) == [[0.5]]


@pytest.mark.parametrize("name", ["rationale_from_mm_cot.txt", "output_from_llm.txt"])
def test_invalid_utf8_is_reported(name, folders, problem):
    (folders / "0" / "p0" / "7" / name).write_bytes(b"{\n\xff\n}")
    with pytest.raises(AresError, match=rf"{name} is not UTF-8"):
        scored(ReplayTeacher(str(folders)), problem(), [["Yes."]])


def test_missing_recording_is_reported_immediately(tmp_path):
    with pytest.raises(AresError, match=r"teacher\.path"):
        ReplayTeacher(str(tmp_path / "absent")).check()
    with pytest.raises(AresError, match=r"teacher\.path"):
        ReplayTeacher(None)
