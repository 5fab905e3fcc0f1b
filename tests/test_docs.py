"""Commands, settings, names of functions and links in README.md and docs/ are valid."""

import importlib
import pkgutil
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from ares.config.command_line import mistakes_in
from ares.config.compose import options
from ares.config.schema import Config
from benchmarks import limits
from tests.support.composed import groups, known_keys
from tests.support.documented import PAGES, REPOSITORY, Command, commands

BLOCKS = {field.name for field in fields(Config)} - {
    "run",
    "seed",
    "rounds",
    "on_change",
    "policy",
    "baseline",
}
# Dotted words that end like a file are files, not settings.
FILE = re.compile(r"\.(?:html|json|jsonl|md|npy|parquet|pth|svg|yaml)$")


# Commands with a folder of the user's own are run by tests/test_extending.py.
COMMANDS = list(
    {
        found.text: found for found in commands() if found.settings and "--config-dir" not in found.text
    }.values()
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text}")
def test_commands_are_valid(command: Command) -> None:
    arguments = shlex.split(re.sub(r"<[^>]+>", "some", command.settings or ""))
    assert mistakes_in([argument for argument in arguments if argument != "…"]) == []


def test_commands_are_found() -> None:
    assert len(COMMANDS) >= 50


def test_the_readme_shows_time_and_cost() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    assert limits.summary() in page
    usd = sum(float(line.split(" | ")[4]) for line in limits.teacher_table().splitlines()[2:])
    assert f"about ${usd:.1f}0" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_settings_exist(page: Path) -> None:
    known = known_keys()
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    words = [word for code in re.findall(r"`([^`]+)`", prose) for word in code.split()]
    for word in words:
        key, _, value = word.partition("=")
        if key in groups() and re.fullmatch(r"[a-z|_]+", value):
            assert set(value.split("|")) <= set(options(key)), word
        elif (
            re.fullmatch(r"[a-z_]+(?:\.[a-z_0-9]+)+", key)
            and not FILE.search(word)
            and key.split(".")[0] in BLOCKS
        ):
            assert key in known, word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_functions_exist(page: Path) -> None:
    for name in re.findall(r"`(ares(?:\.\w+)+)`", page.read_text()):
        pkgutil.resolve_name(name)


IMPORTS = [
    (page.name, module, name.strip())
    for page in PAGES
    for module, names in re.findall(r"^from (ares[\w.]*) import (.+)$", page.read_text(), re.MULTILINE)
    for name in names.split(",")
]


@pytest.mark.parametrize(("page", "module", "name"), IMPORTS)
def test_imports_in_examples_exist(page: str, module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings
        }, target
    for name in re.findall(r"`(?:python )?((?:benchmarks|docs|conf)/[\w./]+)", page.read_text()):
        assert (REPOSITORY / name).exists(), name
