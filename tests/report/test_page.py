"""The page of a report: its sections, its safety against texts, its size, and its use in a real browser."""

import json
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ares.data.sample.oracle import LABELS
from ares.pipeline.manifest import Artefact
from ares.report.benchmarks import BenchmarkResult
from ares.report.page import LARGEST, AccuracyRow, Reproduction, charts_of, render_report
from ares.report.questions import Browser, Version
from ares.report.samples import Sample
from tests.support.browser import opened, take_picture
from tests.support.report import HASH, SENTENCES, question, report_data
from tests.support.report import browser as browser_in

SECTIONS = ("changes", "answers", "benchmarks", "rationales", "training", "steps", "reproduce")


def render(folder: Path, browser: Browser | None = None, **changes: Any) -> str:
    own = browser or browser_in(folder, 12)
    render_report(replace(report_data(), **changes), folder / "report.html", lambda limit: own)
    return (folder / "report.html").read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Every tag closed in order; collects tags, attributes, the text outside of styles and scripts, and the scripts."""

    VOID = frozenset({"meta", "link", "img", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words += data


def test_page_shows_every_section(tmp_path: Path) -> None:
    html = render(tmp_path)
    page = Checker(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert [name for name in ids if name in SECTIONS] == list(SECTIONS)
    for expected in (
        *("demo", HASH, "51.0 % → 72.3 %", "72.3\u00a0%", "68.1 % → 71.3 %", "rl.kl_coef", "BLEU-4", "0.655"),
        *(
            "round-1/ppo",
            "Natural science",
            "Grades 7–12",
            "All questions",
            "3 outputs held no single answer",
        ),
        *("python train.py experiment=demo", "AMD EPYC, 2 cores", "torch 2.15.0", "abc123"),
        *("All 12 questions", "1 beyond the scale"),
        *("pope", "lmms_eval", "86.25", "9,000", "84.5"),
    ):
        assert expected in page.words
    assert sum(tag == "polyline" for tag, _ in page.tags) == 6
    assert f'content="{HASH}"' in html


def test_shares_are_percentages(tmp_path: Path) -> None:
    words = Checker(render(tmp_path)).words
    assert "0.06\u00a0%" in words  # quarantined
    assert "0.0005556" not in words


def test_page_says_that_questions_were_left_out(tmp_path: Path) -> None:
    few = replace(browser_in(tmp_path, 3), total=50904)
    assert "A fixed draw of 3 of 50,904 questions" in Checker(render(tmp_path, few)).words


def test_page_asks_for_no_more_questions_than_fit(tmp_path: Path) -> None:
    limits = []

    def browser(limit: int) -> Browser:
        limits.append(limit)
        return Browser([], {}, 0)

    render_report(report_data(), tmp_path / "report.html", browser)
    assert limits == [LARGEST - (tmp_path / "report.html").stat().st_size]


def test_accuracy_without_a_baseline_is_one_column(tmp_path: Path) -> None:
    rows = [AccuracyRow("AVG", None, 71.34, 150)]
    words = Checker(render(tmp_path, accuracy=rows, closeness=[{"bleu4": 0.5}])).words
    assert "71.3" in words
    assert "without" not in words.split("Answers", 2)[2].split("Rationales")[0]


def test_questions_of_the_page_are_what_was_given(tmp_path: Path) -> None:
    browser = browser_in(tmp_path, 12)
    data, _script = Checker(render(tmp_path, browser)).scripts
    found = json.loads(data)
    assert found["images"] == browser.images
    assert [q["pid"] for q in found["questions"]] == [q.pid for q in browser.questions]
    assert found["questions"][0]["samples"][0]["advantages"] == [0.52, -0.013, -1.5]


def test_no_network_access(tmp_path: Path) -> None:
    html = render(tmp_path)
    page = Checker(html)
    addresses = [value for _, a in page.tags for name in ("src", "href") if (value := a.get(name))]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http" not in html


def test_same_data_same_bytes(tmp_path: Path) -> None:
    first = render(tmp_path)
    assert render(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "thermometer.png"]


def poisoned(value: Any, poison: str) -> Any:
    """The same structure with the poison in every key and every text that a user or a model can write."""
    if isinstance(value, dict):
        return {key: poisoned(item, poison) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(item, poison) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: poisoned(getattr(value, f.name), poison) for f in fields(value)})
    return poison if isinstance(value, str) else value


POISONS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style>{{ 7 * 7 }}&amp;",
    "<!--<script>",
]


@pytest.mark.parametrize("poison", POISONS)
def test_all_text_is_escaped(tmp_path: Path, poison: str) -> None:
    data = report_data()
    entry = data.steps["round-1/ppo"]
    files = {poison: Artefact(poison, poison)}
    changes = {
        "headline": poisoned(data.headline, poison),
        "run": poison,
        "steps": {poison: replace(entry, inputs=files, outputs=files, metrics={poison: 1.0})},
        "curves": {poison: {poison: [[0, 1], [1, 2]]}},
        "config": {poison: poison},
        "accuracy": [AccuracyRow(poison, 50.0, 50.0, 1)],
        "closeness": [{poison: 0.5}],
        "policies": {poison: {poison: 0.5}},
        "benchmarks": [BenchmarkResult(poison, poison, 1, 0, 1.0, {poison: 1.0})],
        "reproduction": poisoned(Reproduction(["a"], ["b"], ["c"], ["d"]), poison),
    }
    browser = poisoned(browser_in(tmp_path, 3), poison)
    html = render(tmp_path, browser, **changes)
    page = Checker(html)
    assert poison not in html
    assert poison in page.words
    assert json.loads(page.scripts[0])["questions"][0]["question"] == poison
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == ["script", "script"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_rationales_without_labels_have_no_legend(tmp_path: Path) -> None:
    plain = replace(question(1, []), versions=[Version("before RL", ["It is."], None, 0.25)])
    html = render(tmp_path, Browser([plain], {}, 1), policies={"before RL": {"rouge_l": 0.25}})
    assert "contradicts the facts" not in Checker(html).words
    assert 'data-measure="ROUGE-L"' in html


def test_empty_run(tmp_path: Path) -> None:
    nothing = Reproduction([], [], [], [])
    page = Checker(
        render(
            tmp_path,
            Browser([], {}, 0),
            **{"headline": [], "steps": {}, "curves": {}, "policies": {}, "accuracy": [], "failed": None},
            **{"benchmarks": [], "closeness": [], "reproduction": nothing},
        )
    )
    assert page.words.count("yet") == 4
    assert "No step of this run has logged a curve" in page.words
    assert page.scripts == []


def test_charts_drop_prefix_empty_curves_and_single_values() -> None:
    charts = charts_of(
        {
            "round-1/ppo": {
                "round-1/ppo/loss": [[0, 1], [1, 2]],
                "round-1/ppoX": [[0, 1], [1, 2]],
                "round-1/ppo/rows": [[0, 580]],
            },
            "sft": {"loss": [], "nan": [[0, float("nan")]]},
        }
    )
    assert [chart.name for chart in charts["round-1/ppo"]] == ["loss", "round-1/ppoX"]
    assert "sft" not in charts


# --------------------------------------------------------------------------------------------------
# In a browser
# --------------------------------------------------------------------------------------------------


def background(page: Any, selector: str) -> tuple[float, ...]:
    color = page.locator(selector).first.evaluate("e => getComputedStyle(e).backgroundColor")
    return tuple(float(part) for part in re.findall(r"[\d.]+", color))


def status(page: Any) -> str:
    return page.locator("#browser output").first.inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_in_chromium(started: Any, tmp_path: Path, width: int, scheme: str) -> None:
    long = "unbroken" * 60
    worst = poisoned(question(0, []), long)
    browser = browser_in(tmp_path)
    browser.questions.insert(1, worst)
    render(tmp_path, browser, config={"data.root": long}, curves={long: {long: [[0, 1], [1, 2]]}})
    with opened(started, tmp_path / "report.html", width=width, scheme=scheme) as page:
        for section in SECTIONS:
            assert page.locator(f"#{section}").is_visible()
        page.locator("#steps details").first.locator("summary").click()
        page.locator(".samples summary", has_text="sampled").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        low, high = background(page, ".sentences .low"), background(page, ".sentences .high")
        assert low[0] > low[2]  # orange
        assert high[2] > high[0]  # blue
        paper = background(page, "body")[0]
        assert paper > 200 if scheme == "light" else paper < 60
        picture = page.locator("article img").first
        picture.scroll_into_view_if_needed()  # only then it is loaded
        assert picture.evaluate("e => e.decode().then(() => e.naturalWidth)") == 256


@pytest.mark.browser
def test_questions_are_searched_filtered_and_paged(started: Any, tmp_path: Path) -> None:
    render(tmp_path, browser_in(tmp_path, 40))
    with opened(started, tmp_path / "report.html") as page:
        cards = page.locator("#browser article")
        assert (cards.count(), status(page)) == (10, "1–10 of 40 questions, page 1 of 4")
        page.get_by_text("Next →").first.click()
        assert status(page) == "11–20 of 40 questions, page 2 of 4"
        page.get_by_label("Search").fill("QUESTION 39")
        assert (cards.count(), status(page)) == (1, "1–1 of 1 questions, page 1 of 1")
        assert "Problem 39" in cards.first.inner_text()
        page.get_by_label("Search").fill("no such words")
        assert "No question matches." in page.locator("#browser").inner_text()
        page.get_by_label("Search").fill("")
        page.get_by_label("Split").select_option("test")
        assert status(page).endswith("of 20 questions, page 1 of 2")
        page.get_by_label("Answer").select_option("became right")
        became = [n for n in range(1, 40, 2) if n % 3 != n % 2]
        assert f"of {len(became)} questions" in status(page)
        page.get_by_label("Answer").select_option("")
        page.get_by_label("Kind").select_option("maps")
        page.get_by_label("Rationale").select_option("worsened")
        texts = cards.all_inner_texts()
        assert texts
        assert all("test · maps" in text and "▼" in text for text in texts)


@pytest.mark.browser
def test_question_shows_versions_answers_scores_and_advantages(started: Any, tmp_path: Path) -> None:
    render(tmp_path, browser_in(tmp_path, 2))
    with opened(started, tmp_path / "report.html") as page:
        train, test = page.locator("#browser article").all()
        assert train.locator(".sides").first.locator("h4 b").all_inner_texts() == [
            *("before RL", "after RL", "repaired", "after SFT"),
        ]
        train.locator("summary", has_text="sampled").click()
        first = train.locator(".samples").last.locator("li").first.inner_text()
        assert first.split("\n")[:2] == ["1.00", "+0.52"]
        assert "−1.50" in train.locator(".samples").last.inner_text()
        chosen = test.locator(".choices li").nth(1).text_content()
        assert chosen == "B. the place on the right ✓ gold answer ◂ without ARES, with ARES"
        assert "the judge prefers the first rationale" in test.inner_text()
        looks = {"supporting": "high", "irrelevant": "neutral", **dict.fromkeys(LABELS[2:], "low")}
        for text, label in SENTENCES[1:]:
            item = test.locator("li", has_text=text).filter(has=page.locator("b", has_text=label)).first
            assert item.get_attribute("class") == looks[label]


@pytest.mark.browser
def test_pairs_are_shown_side_by_side_and_searched(started: Any, tmp_path: Path) -> None:
    browser = browser_in(tmp_path, 4)
    own = replace(browser.questions[2].pairs[0], rejected=Sample(["A whale is a fish."], None, None))
    browser.questions[2].pairs[:] = [own]
    render(tmp_path, browser)
    with opened(started, tmp_path / "report.html") as page:
        page.get_by_label("Search").fill("whale")
        card = page.locator("#browser article")
        assert (card.count(), status(page)) == (1, "1–1 of 1 questions, page 1 of 1")
        chosen, rejected = card.locator("details[open] .sides > div").all()
        assert chosen.inner_text().split("\n")[:2] == ["chosen", "1.00"]
        assert rejected.inner_text().split("\n") == ["rejected", "A whale is a fish."]
        tops = "e => [...e.querySelectorAll('.sides > div')].map((side) => side.getBoundingClientRect().top)"
        assert len(set(card.locator("details[open]").evaluate(tops))) == 1
        page.get_by_label("Search").fill("")
        both = page.locator("#browser article").first.locator("details[open] .soft")
        assert both.all_inner_texts() == [SENTENCES[1][0]] * 2  # the sentence of both sides


@pytest.mark.browser
def test_browser_is_usable_by_keyboard(started: Any, tmp_path: Path) -> None:
    render(tmp_path, browser_in(tmp_path, 40))
    with opened(started, tmp_path / "report.html") as page:
        focused = "document.activeElement.name || document.activeElement.className"
        page.keyboard.press("/")
        assert page.evaluate(focused) == "text"
        for name in ("kind", "split", "change", "right"):
            page.keyboard.press("Tab")
            assert page.evaluate(focused) == name
        page.keyboard.press("Tab")  # the disabled first button is skipped
        page.keyboard.press("Enter")
        assert status(page).startswith("11–20")
        assert page.evaluate(focused) == "card question"
        page.keyboard.press("n")
        page.keyboard.press("n")
        page.keyboard.press("n")
        assert status(page).startswith("31–40")
        page.keyboard.press("p")
        assert status(page).startswith("21–30")


@pytest.mark.browser
def test_curves_show_values_on_hover_without_javascript(started: Any, tmp_path: Path) -> None:
    render(tmp_path)
    context = started.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("#rationales noscript").is_visible()
    point = page.locator("#training svg .point").nth(40)
    opacity = "e => getComputedStyle(e).opacity"
    point.scroll_into_view_if_needed()
    box = point.locator("rect").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 5)
    assert point.locator("text").evaluate(opacity) == "1"
    assert re.fullmatch(r"step [\d,]+: [\d.]+", point.locator("text").inner_html())
    assert page.locator("#training svg .point").nth(2).locator("text").evaluate(opacity) == "0"
    context.close()


@pytest.mark.browser
def test_print_is_light_complete_and_colored(started: Any, tmp_path: Path) -> None:
    render(tmp_path)
    page = started.new_page()
    page.emulate_media(media="print", color_scheme="dark")
    page.goto((tmp_path / "report.html").as_uri())
    assert background(page, "body")[0] > 200
    assert not page.locator("nav").is_visible()
    assert page.locator("#steps details .facts").first.is_visible()
    for selector in (".bar > i", ".sentences .low"):
        adjust = "e => getComputedStyle(e).printColorAdjust"
        assert page.locator(selector).first.evaluate(adjust) == "exact"
    page.close()


@pytest.mark.browser
def test_picture_of_a_report(started: Any, tmp_path: Path) -> None:
    from PIL import Image

    render(tmp_path)
    take_picture(started, tmp_path / "report.html", tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size == (1280, 1000)
        assert len(picture.getcolors(1 << 24)) > 100
