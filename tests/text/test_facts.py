"""What a reward model reads of a problem."""

from pathlib import Path

from ares.text.facts import with_facts
from ares.text.prompts import build_example
from tests.support.problems import make_problem

PROBLEM = make_problem(
    hint="Ice is cold.",
    caption="A cup.",
    lecture="Solids keep their shape.",
    solution="Ice is a solid.",
    image=Path("ice.png"),
)


def context_of(*facts: str) -> str:
    return build_example(with_facts(PROBLEM, facts), "QCM-E").question.splitlines()[1]


def test_context_has_the_named_facts_and_no_others() -> None:
    assert context_of("hint", "caption", "lecture", "rationale") == (
        "Context: Ice is a solid. Ice is cold. Solids keep their shape. A cup."
    )
    assert context_of("caption") == "Context: A cup."
    assert context_of() == "Context: N/A"


def test_image_is_a_fact() -> None:
    assert with_facts(PROBLEM, ["image"]).images == (Path("ice.png"),)
    assert with_facts(PROBLEM, ["hint"]).images == ()
    assert with_facts(PROBLEM, ["hint"]).image is None
