"""The commands that README.md and the pages of docs/ show."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
_START = re.compile(r"(?:[A-Z_]+=\S+ )*(?:python|torchrun|srun|ares)\b")


@dataclass(frozen=True)
class Command:
    """A command of a page without its comment, and what the page says that it needs, if anything."""

    page: str
    text: str
    needs: str

    @property
    def settings(self) -> str | None:
        """What follows `train.py`; None for other programs."""
        return self.text.partition(" train.py ")[2] or None


def commands() -> list[Command]:
    """All commands in blocks of code, and those of train.py in the text, in the order of the pages."""
    return [command for page in PAGES for command in _of(page)]


def _of(page: Path) -> Iterator[Command]:
    block, note = False, ""
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            block = not block
        elif marked := re.fullmatch(r"<!-- (needs .+) -->", line):
            note = marked[1]
        elif block or line.startswith("    "):
            code, _, comment = line.partition(" #")
            if _START.match(code.strip()):
                needs = re.search(r"\bneeds .+", comment)
                yield Command(page.name, " ".join(code.split()), needs[0] if needs else note)
        elif line:
            note = ""
            for text in re.findall(r"`(python train\.py [^`…]+)`", line):
                yield Command(page.name, text, "")
