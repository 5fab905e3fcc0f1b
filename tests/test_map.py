"""ARCHITECTURE.md lists every package and every file, and the functions that it names exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "ares"
PAGE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")


def listed() -> dict[str, set[str]]:
    """The files that the page lists, by package."""
    tree = PAGE.split("## The tree", 1)[1].split("**Elsewhere**", 1)[0]
    parts = re.split(r"^\*\*`(.*)/`\*\*", tree, flags=re.MULTILINE)[1:]
    packages = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        name.removeprefix("src/ares").strip("/"): {
            file for line in body.splitlines() for file in re.findall(r"`(\w+\.py)`", line.split(": ")[0])
        }
        for name, body in packages.items()
    }


def test_map_lists_the_tree() -> None:
    packages = {path.parent for path in SOURCE.rglob("*.py")}
    tree = {
        "" if package == SOURCE else package.relative_to(SOURCE).as_posix(): {
            file.name for file in package.glob("*.py") if file.name != "__init__.py"
        }
        for package in packages
    }
    assert listed() == tree


def test_every_line_of_the_map_says_something() -> None:
    tree = PAGE.split("## The tree", 1)[1]
    lines = re.findall(r"^- `.*$", tree, flags=re.MULTILINE)
    assert all(len(line.split(": ", 1)[-1].split()) >= 1 and ": " in line for line in lines)
    assert all(len(line) <= 150 for line in lines)


def test_functions_of_the_life_of_a_problem_exist() -> None:
    life = PAGE.split("## The life of one problem", 1)[1].split("## The tree", 1)[0]
    named = re.findall(r"`([\w.]+)` \(`([\w/]+\.py)`\)", life)
    assert len(named) >= 12
    for name, file in named:
        source = (SOURCE / file).read_text(encoding="utf-8")
        assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", source), (name, file)
