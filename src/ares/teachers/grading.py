"""Teachers that grade free answers of benchmarks, by a prompt of the benchmark's own."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from ares.teachers.base import Teacher
from ares.teachers.messages import GradeResult
from ares.teachers.prompts.default import Prompt
from ares.types import Problem


class Grader(Teacher):
    """A Teacher that reads any prompt."""

    @abstractmethod
    def grade_payload(self, problem: Problem, prompt: Prompt) -> dict[str, Any]:
        """The request with a benchmark's prompt, and the images of the problem if it has any."""

    async def grade(
        self, problem: Problem, prompt: Prompt, read: Callable[[str], list[float]]
    ) -> GradeResult:
        """Grades an answer by the numbers that `read` finds in the reply."""
        return GradeResult(*await self._ask_one("grade", partial(self.grade_payload, problem, prompt), read))
