"""`ares ask`: one question from the command line, or one per line of standard input."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import yaml

from ares.config.suggestions import suggest
from ares.config.values import shortened
from ares.storage.files import parse_json
from ares.types import AresError

if TYPE_CHECKING:
    from ares.serve.model import Answer, Model

_KEYS = ("run", "paths.runs", "question", "choices", "hint", "caption", "image", "images", "device")
_LISTS = ("choices", "images")
_LINES = 16  # asked at once: results appear while later lines are still read
USAGE = """\
ares ask run=<run or folder> question=<text> choices='["...", "..."]' [image=<file>] [hint=<text>]
ares ask run=<run or folder> < questions.jsonl > answers.jsonl

run: the name of a run in paths.runs (default: runs), or the folder of a run or of an exported model.
caption=<text>: of the image; images='[a.png, b.png]': several; device=<of torch>: default a GPU if there is one.
A line of JSONL has the same fields: {"question": "...", "choices": ["...", "..."], "image": "map.png"}."""


def ask(arguments: Sequence[str]) -> int:
    """Answers and returns the exit code: 0, or 2 after a mistake in the arguments or in a line of standard input."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    settings, mistakes = parsed(arguments)
    asked = {"question", "choices"} & settings.keys()
    if "run" not in settings:
        mistakes.append("ares ask needs run=<name of a run, or folder>.")
    if not asked and sys.stdin.isatty():
        mistakes.append(
            "ares ask needs question=<text> and choices='[...]', or lines of JSON on its standard input."
        )
    if mistakes:
        return _fail(*mistakes)
    try:
        model = _model(settings)
        if not asked:
            return _answer_lines(model, sys.stdin.buffer)
        question: Any = {key: settings[key] for key in settings.keys() - {"run", "paths.runs", "device"}}
        [answer] = model.ask_many([question])
    except AresError as error:
        return _fail(str(error))
    except BrokenPipeError:  # who reads the answers, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    print("\n".join(_shown(answer)))
    return 0


def _fail(*mistakes: str) -> int:
    print("\n".join(f"error: {mistake}" for mistake in mistakes), file=sys.stderr)
    return 2


def parsed(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings by key, and a sentence for each mistake. A value is what follows the first `=`, as it is."""
    found: dict[str, Any] = {}
    mistakes = []
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals:
            mistakes.append(f"{shortened(text)!r} is not of the form key=value.")
        elif key not in _KEYS:
            mistakes.append(f"there is no key {shortened(key)!r}.{suggest(key, _KEYS)}")
        elif key in found:
            mistakes.append(f"{key} is given twice.")
        else:
            found[key] = _list(value) if key in _LISTS else value
            if found[key] is None:
                mistakes.append(
                    f"""{key}={shortened(value)}: it must be a list of texts, such as '["a fern", "a rock"]'."""
                )
    return found, mistakes


def _list(value: str) -> list[str] | None:
    """The texts of a list in JSON or, without quotes, in YAML; None for anything else."""
    for parse in (json.loads, lambda text: yaml.load(text, Loader=yaml.BaseLoader)):  # noqa: S506  # makes texts only
        try:
            found = parse(value)
        except (ValueError, RecursionError, yaml.YAMLError):
            continue
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    return None


def _model(settings: Mapping[str, str]) -> "Model":
    from ares.serve.model import load
    from ares.steps.common.answering import named_folder

    folder = named_folder(settings["run"], settings.get("paths.runs", "runs"))
    return load(folder, device=settings.get("device"))


def _shown(answer: "Answer") -> Iterator[str]:
    """The sentences by number, the answer and its probability."""
    yield from (f"{number}. {sentence}" for number, sentence in enumerate(answer.sentences, start=1))
    if answer.truncated:
        yield "(The rationale met the limit on its length.)"
    yield f"Answer: ({answer.letter}) {answer.text}, probability {answer.probability:.3f}"


def _answer_lines(model: "Model", lines: IO[bytes]) -> int:
    """Writes a line of JSON for each line that can be answered; the other lines are reported, and make the exit code 2."""
    code = 0
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    while part := list(islice(numbered, _LINES)):
        questions = {}
        for number, line in part:
            try:
                questions[number] = _question(line)
            except AresError as error:
                code = _fail(f"line {number}: {error}")
        for number, answer in _answers(model, questions):
            if isinstance(answer, AresError):
                code = _fail(f"line {number}: {answer}")
                continue
            print(json.dumps(_row(number, questions[number], answer), ensure_ascii=False), flush=True)
    return code


def _question(line: bytes) -> Any:
    try:
        return parse_json(line.decode("utf-8-sig"), "it")
    except UnicodeDecodeError:
        raise AresError("it is not UTF-8; save the questions as UTF-8.") from None


def _answers(model: "Model", questions: Mapping[int, Any]) -> Iterator[tuple[int, "Answer | AresError"]]:
    """The answers by line, or why there is none: one wrong question does not spoil the others."""
    try:
        yield from zip(questions, model.ask_many(list(questions.values())), strict=True)
    except AresError:
        for number, question in questions.items():
            try:
                yield number, model.ask_many([question])[0]
            except AresError as error:
                yield number, error


def _row(line: int, question: Mapping[str, Any], answer: "Answer") -> dict[str, Any]:
    pid = {"pid": question["pid"]} if "pid" in question else {}
    return {"line": line, **pid, **asdict(answer), "probability": answer.probability}
