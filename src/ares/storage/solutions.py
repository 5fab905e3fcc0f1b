"""The carriers of self-training, and their tables: sampled solutions, and the lessons that are built from them."""

from dataclasses import dataclass

from ares.storage.tables import table_reader, table_writer


@dataclass(frozen=True)
class Solution:
    """A sampled solution: a rationale that ends in an answer. (iteration, model, pid, sample) identify it.

    It was sampled in this `iteration` of self-training by the `model` of that many iterations. `answer` is what its text
    gives as the answer, None if that cannot be read; `tokens` are those of the response, EOS included.
    """

    iteration: int
    model: int
    pid: str
    sample: int
    text: str
    answer: str | None
    correct: bool
    tokens: int

    @property
    def row_id(self) -> str:
        """Its identity as text."""
        return f"{self.iteration}/{self.model}/{self.pid}/{self.sample}"


@dataclass(frozen=True)
class Lesson:
    """What self-training trains on: `target`, after the question and the `given` solutions (none, one or several).

    `kind`: given (the source's solution), answer (without a rationale), cot, refine or select.
    """

    kind: str
    pid: str
    given: tuple[str, ...]
    target: str


write_solutions, read_solutions = table_writer(Solution), table_reader(Solution)
write_lessons, read_lessons = table_writer(Lesson), table_reader(Lesson)
