"""A headless Chromium, and pictures of pages: `python -m tests.support.browser report.html docs/report.png`."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def chromium() -> Iterator[Any]:
    """A started browser. Raises ImportError without playwright and FileNotFoundError without Chromium."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        raise FileNotFoundError("needs Chromium (apt-get install chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any, path: Path, *, width: int = 1280, scheme: str = "light", height: int = 900
) -> Iterator[Any]:
    """A page of a file, which must load nothing else and log nothing to the console, also while it is used."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert problems == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert sum(url.startswith("file:") for url in requests) == 1


def take_picture(browser: Any, path: Path, target: Path) -> None:
    """Writes a PNG of the head of a page and of the first question of its browser."""
    with opened(browser, path, width=1280, height=1000) as page:
        page.screenshot(path=str(target))


if __name__ == "__main__":
    with chromium() as started:
        take_picture(started, Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
