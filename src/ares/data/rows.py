"""One row of a problem file, validated: a clause for each wrong field."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from ares.config.suggestions import suggest
from ares.data.checks import HALF, TEXT_FIELDS, has_half_character, is_id, kind
from ares.types import Problem

MAX_CHOICES = 26  # answers are the letters A to Z
_TEXTS = "must be a list of texts"
_ID = "must be a non-empty text without a slash"
# The remedy for a field of the wrong type; by default "make it text".
_REMEDIES = {
    "choices": "must be a non-empty list of texts",
    "answer": "is {kind}; make it the index of a choice, or null where it is withheld",
    "image": "is {kind}; make it a file name or null",
    "images": "must be a list of file names",
    "rationales": _TEXTS,
    "direct_answers": _TEXTS,
    "difficult": "must be true or false",
    "caption": "must be text",
    "pid": _ID,
    "question_id": _ID,
    "image_id": "must be COCO's number of the image",
    "split": "is {value!r}; make it train, val or test",
}


def fail(clause: str) -> PydanticCustomError:
    """What a validator raises: the clause after the name of the field."""
    return PydanticCustomError("clause", clause)  # type: ignore[arg-type]


def _full(text: str) -> str:
    if has_half_character(text):
        raise fail(HALF)
    return text


def _checked_id(pid: str) -> str:
    if not is_id(pid):
        raise fail(_ID)
    return pid


def _integral(answer: Any) -> Any:
    # A column with withheld answers is one of floats where pandas wrote it.
    return int(answer) if isinstance(answer, float) and answer.is_integer() else answer


def _file_name(name: str) -> str:
    if "\0" in name:
        raise fail("holds a null byte; give the name of a file")
    return _full(name)


Text = Annotated[str, AfterValidator(_full)]
FileName = Annotated[str, AfterValidator(_file_name)]
Integral = Annotated[int | None, BeforeValidator(_integral)]
Id = Annotated[Text, AfterValidator(_checked_id)]


class Row(BaseModel):
    """The fields of a problem; a subclass adds further ones."""

    model_config = ConfigDict(strict=True)

    question: Text
    choices: list[Text]
    answer: Integral = None
    hint: Text = ""
    task: Text = ""
    grade: Text = ""
    subject: Text = ""
    topic: Text = ""
    category: Text = ""
    skill: Text = ""
    lecture: Text = ""
    solution: Text = ""
    image: FileName | None = None
    rationales: list[Text] | None = None
    direct_answers: list[Text] | None = None
    difficult: bool = False

    @field_validator("choices")
    @classmethod
    def _check_choices(cls, choices: list[str]) -> list[str]:
        if not choices:
            raise fail(_REMEDIES["choices"])
        if len(choices) > MAX_CHOICES:
            raise fail(f"has {len(choices)} choices; at most {MAX_CHOICES} (A to Z) can be answered")
        return choices

    @field_validator("answer")
    @classmethod
    def _check_answer(cls, answer: int | None, info: ValidationInfo) -> int | None:
        count = len(info.data.get("choices", ()))  # 0 where they are wrong themselves
        if answer is not None and count and not 0 <= answer < count:
            raise fail(f"is {answer}, out of range: it must be 0 to {count - 1}")
        return answer

    def problem(
        self, pid: str, split: str, image: Path | None, caption: str, images: Sequence[Path] = ()
    ) -> Problem:
        """The problem, with what does not come from the row's own fields."""
        return Problem(
            pid=pid,
            split=split,
            image=image,
            images=tuple(images),
            caption=caption,
            choices=tuple(self.choices),
            answer=self.answer,
            rationales=tuple(self.rationales or ()),
            direct_answers=tuple(self.direct_answers or ()),
            difficult=self.difficult,
            **self.model_dump(include=set(TEXT_FIELDS)),
        )


AnyRow = TypeVar("AnyRow", bound=Row)


def parse_row(
    model: type[AnyRow], value: Any, required: Sequence[str] = ()
) -> tuple[AnyRow | None, list[str]]:
    """The row, or what is wrong with it, one clause per field: 'field "answer" is text; make it ...'.

    `required` fields must be there, beyond those that the model requires.
    """
    if not isinstance(value, dict):
        return None, [f"it is {kind(value)}; it must be an object."]
    clauses = [f'field "{name}" is missing; add it.' for name in required if name not in value]
    try:
        row = model.model_validate(value)
    except ValidationError as error:
        # Unknown fields first: a misspelled name explains why another is missing.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        clauses += [_clause(model, value, dict(detail)) for detail in details]
    return (None, list(dict.fromkeys(clauses))) if clauses else (row, [])


def _clause(model: type[Row], row: dict[str, Any], detail: dict[str, Any]) -> str:
    name, value = detail["loc"][0], row.get(detail["loc"][0])
    fields = [*model.model_fields]
    remedy = {
        "clause": detail["msg"],
        "missing": "is missing; add it",
        "extra_forbidden": f"is unknown.{suggest(name, fields)} The fields are {', '.join(fields)}",
    }.get(detail["type"])
    remedy = remedy or _REMEDIES.get(name, "is {kind}; make it text").format(kind=kind(value), value=value)
    return f'field "{name}" {remedy}.'
