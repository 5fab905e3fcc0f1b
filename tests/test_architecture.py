"""Imports point one way, and modules stay small enough to be read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "ares"
# A module may import from its own layer's packages only if they are its own, and from any layer before it.
LAYERS = (
    {"types"},
    {"config", "storage", "charts"},
    {"ranks"},
    {"data", "text", "vision", "rl"},
    {"models"},
    {"engines", "teachers"},
    {"evaluation", "datamodules"},
    {"modules", "original"},
    {"steps"},
    {"launch"},
    {"pipeline"},
    {"report", "doctor"},
    {"__main__"},
)


def layer(package: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if package in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ares."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("ares.")}
    return found


MODULES = sorted(p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE) != Path("__init__.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    package = parts[0].removesuffix(".py")
    for other in imports(path) - {package}:
        assert layer(other) < layer(package), f"{path} imports ares.{other}"


@pytest.mark.parametrize(
    "module", ["ares.__main__", "ares.pipeline.runner"]
)  # what --help loads, and what a refusal loads
def test_the_command_line_loads_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "pytorch_lightning", "timm", "wandb", "anthropic", "peft", "pyarrow"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
