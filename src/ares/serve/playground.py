"""stage=serve: a page on this machine on which one asks a run, and compares two."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.serve.questions import problem_of
from ares.serve.scoring import Scorer, scorer_of
from ares.steps.common.answering import answering_of, named_folder
from ares.types import AresError, Problem

if TYPE_CHECKING:
    from ares.serve.model import Answer, Model

_HOST = "127.0.0.1"
_EXAMPLES = 200
_CSS = """
.sentences li { margin: 0.4em 0; line-height: 1.4; }
.sentences b { border-radius: 4px; padding: 0 0.4em; margin-right: 0.5em; color: #111; }
.sentences .high { background: #9ecbff; } .sentences .low { background: #ffc48a; } .sentences .neutral { background: #ddd; }
"""


@dataclass(frozen=True)
class Asked:
    """A run on the page: its name, its model, and what scores its sentences."""

    name: str
    model: "Model"
    scorer: Scorer

    def answer(self, question: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        """The rationale as HTML, and the probability of each choice by its letter and text."""
        problem = self.scorer.known(problem_of(question, "1"))
        seen = problem if self.model.sees_images else replace(problem, image=None, images=())
        [answer] = self.model.answer([seen])
        letters = [f"({chr(ord('A') + number)}) {text}" for number, text in enumerate(problem.choices)]
        return _sentences(answer, self.scorer, problem), dict(zip(letters, answer.probabilities, strict=True))


def serve(config: Config) -> list[str]:
    """Serves the page until it is interrupted. Raises AresError without Gradio, without the runs, for a port in use."""
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise AresError(
            "stage=serve needs Gradio, which is not installed; `pip install 'ares[serve]'`."
        ) from None
    page = page_of(opened(filter(None, [config.run, config.serve.against]), config.paths.runs))
    print(f"{launched(page, port=config.serve.port)} (Ctrl-C ends it)", flush=True)
    page.block_thread()
    return []


def launched(page: Any, *, port: int | None) -> str:
    """Starts a page that only this machine reaches; returns its address. Raises AresError for a port in use."""
    from gradio.themes import Default

    theme = Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # the default ones are fetched
    try:
        _, address, _ = page.launch(
            server_name=_HOST,
            server_port=port,
            theme=theme,
            css=_CSS,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            footer_links=[],
        )
    except OSError as error:
        place = f"serve.port={port}" if port else "the ports from 7860 on"
        raise AresError(
            f"{place} cannot be used ({str(error).splitlines()[0]}); give another serve.port."
        ) from None
    return str(address)


def opened(names: Iterable[str], runs: str) -> list[Asked]:
    """Runs in `runs`, or folders, by name; an exported folder's sentences are scored by what another run knows.

    Raises AresError where one holds no model.
    """
    from ares.serve.model import load

    folders = {name: named_folder(name, runs) for name in names}
    found = [Asked(name, load(folder), scorer_of(answering_of(folder))) for name, folder in folders.items()]
    knowing = next((run.scorer for run in found if run.scorer.teacher), found[0].scorer)
    return [run if run.scorer.teacher else replace(run, scorer=knowing) for run in found]


def page_of(asked: Sequence[Asked]) -> Any:
    """The page (`gradio.Blocks`) of one run, or of several in columns."""
    import gradio as gr

    known = {f"{pid}: {p.question}": p for pid, p in list(asked[0].scorer.problems.items())[:_EXAMPLES]}
    with gr.Blocks(
        title=f"ares: {asked[0].name}", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        gr.Markdown(f"# {' and '.join(html.escape(run.name) for run in asked)}")
        with gr.Row():
            with gr.Column():
                example = gr.Dropdown(list(known), value=None, label="Example", visible=bool(known))
                picture = gr.Image(
                    type="filepath", image_mode=None, format="png", label="Image", sources=["upload"]
                )
                question = gr.Textbox(label="Question", lines=2)
                choices = gr.Textbox(label="Choices, one per line", lines=3)
                hint = gr.Textbox(label="Context (optional)")
                button = gr.Button("Ask", variant="primary")
            shown = []
            for run in asked:
                with gr.Column():
                    gr.Markdown(f"## {html.escape(run.name)}")
                    shown += [gr.HTML(label="Rationale"), gr.Label(label="Answer")]
        form = [question, choices, hint, picture]
        example.change(_filled(known), example, form, api_visibility="private")
        gr.on([button.click, question.submit], _answers(asked), form, shown, api_visibility="private")
    return page


def _filled(known: Mapping[str, Problem]) -> Callable[[str | None], tuple[str, str, str, Any]]:
    """The form's contents of an example."""
    from ares.vision.images import open_image

    def fill(name: str | None) -> tuple[str, str, str, Any]:
        problem = known.get(name or "")
        if problem is None:
            return "", "", "", None
        picture = open_image(problem.image) if problem.image else None
        return problem.question, "\n".join(problem.choices), problem.hint, picture

    return fill


def _answers(asked: Sequence[Asked]) -> Callable[[str, str, str, str | None], list[Any]]:
    """The rationale and the probabilities of each run, one after the other."""
    import gradio as gr

    def answers(question: str, choices: str, hint: str, picture: str | None) -> list[Any]:
        texts = [line.strip() for line in choices.splitlines() if line.strip()]
        asking = {"question": question.strip(), "choices": texts, "hint": hint.strip(), "image": picture}
        try:
            return [part for run in asked for part in run.answer(asking)]
        except AresError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return answers


def _sentences(answer: "Answer", scorer: Scorer, problem: Problem) -> str:
    scores = scorer.scores(problem, answer.sentences)
    items = []
    for number, sentence in enumerate(answer.sentences):
        score = ""
        if scores is not None:
            look = "high" if scores[number] > 0.5 else "low" if scores[number] < 0.5 else "neutral"
            score = f'<b class="{look}" title="score of the Teacher, 0 to 1">{scores[number]:.2f}</b>'
        items.append(f"<li>{score}<span>{html.escape(sentence)}</span></li>")
    return f'<ol class="sentences">{"".join(items)}</ol>' if items else "<p>An empty rationale.</p>"
