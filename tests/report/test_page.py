import base64
import copy
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ares.data.sample.oracle import LABELS
from ares.evaluation.answers import CATEGORIES
from ares.evaluation.assessment import Assessment
from ares.pipeline.manifest import Artefact, StepEntry
from ares.report.page import (
    ReportData,
    charts_of,
    data_uri,
    duration,
    render_report,
)
from ares.types import Problem
from tests.support.problems import make_problem

HASH = "0123456789abcdef" * 4
SENTENCES = [
    (
        "The thermometer reads 31 degrees, which is warmer than the 12 degrees of the second one.",
        "supporting",
    ),
    ("A thermometer measures temperature.", "irrelevant"),
    ("So the first place is the coldest of all.", "false"),
    ("Warm air rises above cold air, whatever the place is called.", "supporting"),
    ("The second place is near the sea.", "invented"),
    ("The second place is near the sea.", "repeated"),
]


def side(sentences: list[tuple[str, Any]]) -> Assessment:
    texts, labels = [text for text, _ in sentences], [label for _, label in sentences]
    return Assessment("", texts, labels, None, repetition=0.0, tokens=9, truncated=False)


def curve(points: int, low: float, high: float) -> list[list[float]]:
    return [[10 * i, low + (high - low) * (1 - math.exp(-4 * i / points))] for i in range(points)]


def example(number: int, image: Path | None) -> tuple[Problem, Assessment, Assessment]:
    problem = make_problem(
        str(number),
        question=f"Which of the two places of question {number} is warmer?",
        choices=("the place on the left", "the place on the right", "both are equally warm"),
        answer=number % 3,
        hint="Look at the thermometers.\nThey show degrees Celsius." if number % 2 else "",
        image=image,
    )
    return problem, side(SENTENCES[: 2 + number % 4]), side(SENTENCES[number % 3 :])


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    """A report as large as a real one."""
    picture = tmp_path / "thermometer.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    metrics = {"train/loss": curve(400, 2.5, 0.4), "val/rouge_l": curve(8, 0.1, 0.8)}
    rl = {
        "ppo/reward_mean": curve(60, 0.31, 0.72),
        "ppo/kl": curve(60, 0.0, 0.02),
        "ppo/clip_fraction": curve(60, 0.0, 0.11),
        "ppo/explained_variance": curve(60, -0.2, 0.64),
    }
    keys = ["rationale", "round-1/rollouts", "round-1/score", "round-1/ppo", "round-1/sft", "final/lora"]
    return {
        "run": "demo",
        "created": "2026-03-01T12:00+00:00",
        "config": {"stage": "ares", "model": "tiny", "seed": 0, "rl.kl_coef": 0.01},
        "inputs_hash": HASH,
        "headline": [
            {"label": "Supporting sentences", "value": "51.0 % → 72.3 %", "note": "95 % 0.19 to 0.24"},
            {"label": "Accuracy", "value": "71.3 %", "note": "150 test questions"},
            {"label": "Teacher", "value": "$1.25", "note": "2,400 requests"},
            {"label": "Time", "value": "3 min 12 s", "note": "9 steps"},
        ],
        "steps": {
            key: StepEntry(
                hash="",
                settings={},
                inputs={"policy": Artefact("policy", f"{i}a" * 32)},
                outputs={"policy": Artefact("policy", f"{i}b" * 32)},
                seconds=8.0 * (i + 1) ** 2,
                usd=1.25 * (key == "round-1/score"),
                requests=2400 * (key == "round-1/score"),
                metrics={"loss": 0.1234567, "tokens": 123456.0},
            )
            for i, key in enumerate(keys)
        },
        "curves": {"rationale": metrics, "round-1/ppo": rl},
        "policies": {
            "before RL": {"supporting": 0.51, "invented": 0.25, "tokens": 31.5},
            "after RL (round 1)": {"supporting": 0.7234, "invented": 0.125, "tokens": 30.0},
        },
        "examples": [example(i, picture if i % 2 else None) for i in range(20)],
        "accuracy": {**{name: 60 + 4.5 * i for i, name in enumerate(CATEGORIES)}, "SOC": None},
        "counts": {name: 12 * i for i, name in enumerate(CATEGORIES)},
        "failed": 3,
        "rationale_metrics": {"bleu1": 0.61, "bleu4": 0.42, "rouge_l": 0.655, "similarity": 0.87},
    }


def render(data: ReportData, path: Path) -> str:
    render_report(data, path / "report.html")
    return (path / "report.html").read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Every tag closed in order; collects tags, attributes and the text outside of styles."""

    VOID = frozenset({"meta", "link", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
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
        if "style" not in self.open:
            self.words += data


def test_page_shows_every_section(data: ReportData, tmp_path: Path) -> None:
    html = render(data, tmp_path)
    page = Checker(html)
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {"headline", "answers", "rationales", "training", "steps"} <= ids
    for expected in (
        "demo",
        HASH,
        "51.0 % → 72.3 %",
        "0.7234",
        "71.3 %",
        "rl.kl_coef",
        "BLEU-4",
        "0.655",
        "round-1/ppo",
        "Natural science",
        "Grades 7–12",
        "All questions",
    ):
        assert expected in page.words
    assert re.search(r"3 outputs held no single answer", page.words)
    assert sum(tag == "article" for tag, _ in page.tags) == 20
    assert sum(tag == "polyline" for tag, _ in page.tags) == 6
    assert f'content="{HASH}"' in html


def test_all_images_of_a_problem_are_shown(data: ReportData, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths[:2]):
        Image.new("RGB", (number + 1, 1)).save(path)
    problem, before, after = data["examples"][0]
    data["examples"] = [(replace(problem, image=None, images=tuple(paths)), before, after)]
    page = Checker(render(data, tmp_path))
    shown = [(a["src"], a["alt"]) for tag, a in page.tags if tag == "img"]
    assert shown == [
        (data_uri(path), f"Image {number} of problem {problem.pid}")
        for number, path in enumerate(paths[:2], start=1)
    ]


def test_no_network_access(data: ReportData, tmp_path: Path) -> None:
    page = Checker(render(data, tmp_path))
    assert not any(tag == "script" for tag, _ in page.tags)
    addresses = [value for _, a in page.tags for name in ("src", "href") if (value := a.get(name))]
    assert sum(address.startswith("data:image/png;base64,") for address in addresses) == 10
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http" not in (tmp_path / "report.html").read_text()


def test_same_data_same_bytes(data: ReportData, tmp_path: Path) -> None:
    first = render(data, tmp_path)
    assert render(copy.deepcopy(data), tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "thermometer.png"]


def poisoned(value: Any, poison: str) -> Any:
    """The same structure with the poison in every key and every text that a user or a model can write."""
    if isinstance(value, dict):
        return {key: poisoned(item, poison) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(item, poison) for item in value)
    if isinstance(value, Problem):
        return replace(
            value,
            pid=poison,
            question=poison,
            hint=poison,
            choices=(poison,) * 3,
            image=Path(poison),
            images=(),
        )
    if isinstance(value, Assessment):
        return replace(value, sentences=[poison] * len(value.sentences))
    return poison if isinstance(value, str) else value


@pytest.mark.parametrize(
    "poison", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style>{{ 7 * 7 }}&amp;"]
)
def test_all_text_is_escaped(data: ReportData, tmp_path: Path, poison: str) -> None:
    spoilt = poisoned(data, poison)
    entry = data["steps"]["round-1/ppo"]
    files = {poison: Artefact(poison, poison)}
    spoilt["steps"] = {poison: replace(entry, inputs=files, outputs=files, metrics={poison: 1.0})}
    spoilt["curves"] = {poison: {poison: [[0, 1], [1, 2]]}}
    spoilt["config"] = {poison: poison}
    spoilt["accuracy"] = spoilt["counts"] = {poison: 50.0}
    spoilt["rationale_metrics"] = {poison: 0.5}
    spoilt["policies"] = {poison: {poison: 0.5}}
    html = render(spoilt, tmp_path)
    page = Checker(html)
    assert poison not in html
    assert poison in page.words
    assert not any(tag in ("script", "img") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_sentences_carry_color_label_and_meaning(data: ReportData, tmp_path: Path) -> None:
    html = render(data, tmp_path)
    count = sum(len(row.sentences) for _, *sides in data["examples"] for row in sides)
    lists = re.findall(r'<ol class="sentences">(.*?)</ol>', html, re.DOTALL)
    items = [item for found in lists for item in re.findall(r"<li.*?</li>", found)]
    assert len(items) == count
    looks = {
        "supporting": "high",
        "irrelevant": "neutral",
        "false": "low",
        "invented": "low",
        "repeated": "low",
    }
    for text, label in SENTENCES:
        found = rf'<li class="{looks[label]}" title="[^"]+"><b>{label}</b><span>{re.escape(text)}</span></li>'
        assert any(re.fullmatch(found, item) for item in items), text
    legend = re.findall(r'<b class="swatch \w+">(\w+)</b> (.+)</span>', html)
    assert [label for label, _ in legend] == list(LABELS)


def test_rationales_without_labels_show_their_measure_and_no_legend(data: ReportData, tmp_path: Path) -> None:
    plain = replace(side([]), sentences=["It is."], labels=None, rouge_l=0.25)
    data["examples"] = [(make_problem(), plain, plain)]
    html = render(data, tmp_path)
    words = Checker(html).words
    assert "<li><span>It is.</span></li>" in html
    assert "ROUGE-L 0.25" in words
    assert "contradicts the facts" not in words


def test_empty_run(data: ReportData, tmp_path: Path) -> None:
    data |= {  # type: ignore[assignment]
        "headline": [],
        "steps": {},
        "curves": {},
        "policies": {},
        "examples": [],
        "accuracy": None,
        "counts": None,
        "failed": None,
        "rationale_metrics": None,
    }
    page = Checker(render(data, tmp_path))
    assert page.words.count("yet") == 3
    assert "No step of this run has logged a curve" in page.words


def test_parts_may_be_missing(data: ReportData, tmp_path: Path) -> None:
    data["counts"] = data["failed"] = data["rationale_metrics"] = None
    problem = make_problem(image=tmp_path / "absent.png", answer=None)
    unknown = replace(side([]), labels=None)
    data["examples"] = [(problem, unknown, unknown)]
    page = Checker(render(data, tmp_path))
    assert page.words.count("An empty rationale.") == 2
    assert not any(tag == "img" for tag, _ in page.tags)
    assert "gold answer" not in page.words


def test_gain_of_an_example(data: ReportData, tmp_path: Path) -> None:
    data["examples"] = [(make_problem(), side(SENTENCES[1:5]), side(SENTENCES[:1]))]
    words = Checker(render(data, tmp_path)).words
    assert "supporting 0.25" in words
    assert "supporting 1.00" in words
    assert "▲ 0.75" in words


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


def test_data_uri(tmp_path: Path) -> None:
    picture = tmp_path / "a.PNG"
    picture.write_bytes(b"\x89PNG")
    assert data_uri(picture) == "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
    assert data_uri(tmp_path / "absent.png") is None
    (tmp_path / "a.svg").write_text("<svg/>")
    assert data_uri(tmp_path / "a.svg") is None


def test_duration() -> None:
    texts = ["0.3_s", "59.9_s", "1_min 0_s", "3_min 12_s", "2_h 5_min"]
    assert [duration(s).replace("\u00a0", "_") for s in (0.31, 59.9, 59.96, 192.2, 7500)] == texts


# --------------------------------------------------------------------------------------------------
# In a browser
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def background(page: Any, selector: str) -> tuple[float, ...]:
    color = page.locator(selector).first.evaluate("e => getComputedStyle(e).backgroundColor")
    return tuple(float(part) for part in re.findall(r"[\d.]+", color))


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_in_chromium(browser: Any, data: ReportData, tmp_path: Path, width: int, scheme: str) -> None:
    long = "unbroken" * 60
    problem = make_problem(question=long, choices=(long,), hint=long)
    worst = (problem, side(SENTENCES[:2]), side([(long, "supporting")]))
    data["examples"] = [*data["examples"][:19], worst]
    data["config"] = {"data.root": long}
    data["curves"] = {**data["curves"], long: {long: [[0, 1], [1, 2]]}}
    render_report(data, tmp_path / "report.html")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert problems == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    for section in ("headline", "answers", "rationales", "training", "steps"):
        assert page.locator(f"#{section}").is_visible()
    page.locator("#steps details").first.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    low, high = background(page, ".sentences .low"), background(page, ".sentences .high")
    assert low[0] > low[2]  # orange
    assert high[2] > high[0]  # blue
    paper = background(page, "body")[0]
    assert paper > 200 if scheme == "light" else paper < 60
    assert page.locator("article img").first.evaluate("e => e.naturalWidth") == 256
    context.close()


@pytest.mark.browser
def test_curves_show_values_on_hover(browser: Any, data: ReportData, tmp_path: Path) -> None:
    render_report(data, tmp_path / "report.html")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
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
def test_print_is_light_complete_and_colored(browser: Any, data: ReportData, tmp_path: Path) -> None:
    render_report(data, tmp_path / "report.html")
    page = browser.new_page()
    page.emulate_media(media="print", color_scheme="dark")
    page.goto((tmp_path / "report.html").as_uri())
    assert background(page, "body")[0] > 200
    assert not page.locator("nav").is_visible()
    assert page.locator("#steps details .facts").first.is_visible()
    for selector in (".bar > i", ".sentences .low"):
        adjust = "e => getComputedStyle(e).printColorAdjust"
        assert page.locator(selector).first.evaluate(adjust) == "exact"
    page.close()
