"""The page on which one asks a run: scores of sentences, and a headless Chromium that uses it."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from ares.data.sample import read_sample, write_sample
from ares.serve.model import Answer
from ares.serve.playground import Asked, page_of, serve
from ares.serve.scoring import Scorer
from ares.teachers.offline.oracle import OracleTeacher
from ares.text.sentences import sentences_of
from ares.types import AresError, Problem
from tests.support.composed import composed


class Reciter:
    """A model that recites a text, or else the problem's own solution, and is sure of the last choice."""

    def __init__(self, text: str = "", *, sees_images: bool = True) -> None:
        self.text, self.sees_images = text, sees_images
        self.asked: list[Problem] = []

    def answer(self, problems: Sequence[Problem]) -> list[Answer]:
        self.asked += problems
        return [self._answer(problem) for problem in problems]

    def _answer(self, problem: Problem) -> Answer:
        text = self.text or problem.solution or "Nobody knows."
        last = len(problem.choices) - 1
        rest = [0.1 / last] * last if last else []
        return Answer(
            text, tuple(sentences_of(text)), last, "ABCD"[last], problem.choices[-1], (*rest, 0.9), False
        )


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Problem]:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, sizes={"train": 0, "val": 0, "test": 16}, seed=0)
    return read_sample(folder)[0]


@pytest.fixture(scope="module")
def scorer(problems: dict[str, Problem]) -> Scorer:
    return Scorer(OracleTeacher(), problems)


def asked_as(problem: Problem) -> dict[str, Any]:
    return {
        "question": problem.question,
        "choices": problem.choices,
        "hint": problem.hint,
        "image": problem.image,
    }


def pictured(problems: dict[str, Problem]) -> list[Problem]:
    return [problem for problem in problems.values() if problem.image]


def test_known_problems_are_scored_by_the_oracle(problems: dict[str, Problem], scorer: Scorer) -> None:
    for problem in problems.values():
        page, probabilities = Asked("run", Reciter(), scorer).answer(asked_as(problem))
        scores = re.findall(r'<b class="\w+"[^>]*>([\d.]+)</b>', page)
        assert len(scores) == len(sentences_of(problem.solution))
        assert scores[-1] == "1.00"
        assert set(scores) <= {"1.00", "0.50"}
        assert list(probabilities) == [
            f"({letter}) {text}" for letter, text in zip("ABCD", problem.choices, strict=False)
        ]
    page, _ = Asked("run", Reciter("The moon is made of cheese."), scorer).answer(asked_as(problem))
    assert '<b class="low" title="score of the Teacher, 0 to 1">0.00</b>' in page


def test_unknown_problems_have_no_scores(
    problems: dict[str, Problem], scorer: Scorer, tmp_path: Path
) -> None:
    problem = pictured(problems)[0]
    Image.new("RGB", (64, 64), "red").save(tmp_path / "other.png")
    for change in ({"image": tmp_path / "other.png"}, {"question": "Another?"}, {"image": None}):
        page, _ = Asked("run", Reciter("So."), scorer).answer(asked_as(problem) | change)
        assert page == '<ol class="sentences"><li><span>So.</span></li></ol>'
    page, _ = Asked("run", Reciter("So."), Scorer(None, problems)).answer(asked_as(problem))
    assert "<b" not in page


def test_models_without_images_are_asked_without(problems: dict[str, Problem], scorer: Scorer) -> None:
    model = Reciter(sees_images=False)
    page, _ = Asked("run", model, scorer).answer(asked_as(pictured(problems)[0]))
    assert model.asked[0].images == ()
    assert "<b" in page  # the Teacher knows the picture


def test_texts_are_escaped(scorer: Scorer) -> None:
    page, _ = Asked("run", Reciter("<script>alert(1)</script>."), scorer).answer(
        {"question": "?", "choices": ["a"]}
    )
    assert "<script" not in page


def test_page_needs_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(AresError, match=r"needs Gradio.*ares\[serve\]"):
        serve(composed("experiment=demo", "stage=serve"))


# --------------------------------------------------------------------------------------------------
# In a browser
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(problems: dict[str, Problem], scorer: Scorer) -> Iterator[str]:
    pytest.importorskip("gradio", reason="needs gradio (the extra `serve`)")
    from ares.serve.playground import launched

    runs = [Asked("demo", Reciter(), scorer), Asked("before <b>RL</b>", Reciter("A wrong idea."), scorer)]
    page = page_of(runs)
    yield launched(page, port=None)
    page.close()


@pytest.fixture
def page(started: Any, address: str) -> Iterator[Any]:
    assert urlsplit(address).hostname == "127.0.0.1"
    page = started.new_page(viewport={"width": 1280, "height": 900})
    page.errors, page.hosts = [], set()
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.hosts.add(urlsplit(request.url).hostname))
    page.goto(address)
    page.get_by_role("button", name="Ask").wait_for()
    yield page
    assert page.errors == []
    assert page.hosts <= {"127.0.0.1", "localhost", None}
    page.close()


def choose(page: Any, problem: Problem) -> None:
    page.get_by_label("Example").click()
    page.get_by_role("option", name=re.compile(f"^{problem.pid}:")).click()
    page.wait_for_function("t => document.querySelector('textarea').value === t", arg=problem.question)


@pytest.mark.browser
def test_example_is_answered_by_both_runs_with_scores(page: Any, problems: dict[str, Problem]) -> None:
    problem = pictured(problems)[0]
    choose(page, problem)
    assert page.get_by_label("Choices, one per line").input_value() == "\n".join(problem.choices)
    page.locator("img[src*='/file=']").first.wait_for()
    page.get_by_role("button", name="Ask").click()
    lists = page.locator("ol.sentences")
    lists.nth(1).wait_for()
    own, other = (lists.nth(n).locator("li") for n in (0, 1))
    assert own.count() == len(sentences_of(problem.solution))
    assert own.last.locator("b.high").inner_text() == "1.00"
    assert other.first.inner_text().split("\n")[-1].endswith("A wrong idea.")
    assert other.first.locator("b.low").inner_text() == "0.00"
    assert page.get_by_text("90%").count() == 2
    assert page.get_by_role("heading", name="before <b>RL</b>", exact=True).count() == 1


@pytest.mark.browser
def test_uploaded_image_is_asked_about(page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), "green").save(tmp_path / "mine.png")
    page.locator("input[type=file]").first.set_input_files(tmp_path / "mine.png")
    page.locator("img[src*='mine.png']").first.wait_for()
    page.get_by_label("Question").fill("What color is it?")
    page.get_by_label("Choices, one per line").fill("red\n\ngreen\n")
    page.get_by_role("button", name="Ask").click()
    page.locator("ol.sentences").nth(1).wait_for()
    assert page.locator("ol.sentences b").count() == 0
    assert page.get_by_text("Nobody knows.").count() == 1
    assert page.get_by_text("(B) green").count() >= 2


@pytest.mark.browser
def test_mistakes_are_shown(page: Any) -> None:
    page.get_by_label("Question").fill("Which?")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text('field "choices" must be a non-empty list of texts.').wait_for()


@pytest.mark.browser
def test_port_in_use_is_reported(address: str, scorer: Scorer) -> None:
    from ares.serve.playground import launched

    port = urlsplit(address).port
    with pytest.raises(AresError, match=rf"serve\.port={port} cannot be used"):
        launched(page_of([Asked("demo", Reciter(), scorer)]), port=port)
