"""Rules about the structure of the source, one test for each."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "ares"
# A module may import from its own package and from every layer above its own.
LAYERS = (
    {"types"},
    {"config", "storage", "charts", "console"},
    {"ranks"},
    {"data", "text", "vision", "rl"},
    {"models"},
    {"engines", "teachers"},
    {"evaluation", "datamodules"},
    {"modules", "original"},
    {"steps"},
    {"launch"},
    {"pipeline"},
    {"report", "doctor", "serve"},
    {"__main__", "__init__"},
)
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parsed(root: Path = SOURCE) -> Iterator[tuple[str, ast.Module]]:
    """Every module below `root` as (path relative to it, syntax tree)."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """The dotted names of everything that a module imports, at any level."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def public_functions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The public functions and methods of a module, without those that a protocol only declares with `...`."""
    for node in body:
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node.body, f"{node.name}.")
        elif ast.unparse(node.body[-1]) != "...":
            yield owner + node.name, node


def test_imports_point_one_way() -> None:
    wrong = []
    for path, tree in parsed():
        package = path.split("/")[0].removesuffix(".py")
        used = {name.split(".")[1] for name in imports(tree) if name.startswith("ares.")} - {package}
        wrong += [f"{path} imports ares.{other}" for other in used if LAYER[other] >= LAYER.get(package, 0)]
    assert wrong == []


def test_modules_have_at_most_250_lines() -> None:
    lengths = {path: len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path, _ in parsed()}
    assert {path: length for path, length in lengths.items() if length > 250} == {}


def test_functions_have_at_most_40_lines() -> None:
    wrong = [
        f"{path}: {node.name} has {length} lines"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and (length := node.end_lineno - node.lineno + 1) > 40
    ]
    assert wrong == []


def test_packages_modules_and_public_functions_have_docstrings() -> None:
    wrong = [path for path, tree in parsed() if not ast.get_docstring(tree)]
    wrong += [
        f"{path}: {name}"
        for path, tree in parsed()
        for name, node in public_functions(tree.body)
        if not ast.get_docstring(node)
    ]
    packages = {path.parent for path in SOURCE.rglob("*.py")}
    wrong += [f"{package}: no __init__.py" for package in packages if not (package / "__init__.py").exists()]
    assert wrong == []


# What only an encoder-decoder has: its inputs, its start token and the names of T5's modules.
T5_TERMS = re.compile(
    r"decoder_input|decoder_start|decoder_states|start_id|start token|EncDecAttention|SelfAttention|T5Block"
    r"|lm_head|mha_layer|gate_dense|image_dense|relative_attention_bias"
)
LANGUAGE_MODEL = re.compile(
    r"transformers\..*(T5|PreTrainedModel|ForSeq2SeqLM|ForCausalLM|ForConditionalGeneration)"
)


def test_only_models_and_original_know_the_language_model() -> None:
    wrong = []
    for path, tree in parsed():
        if not path.startswith(("models/", "original/")):
            used = [n for n in imports(tree) if n.startswith("ares.models.t5") or LANGUAGE_MODEL.match(n)]
            terms = sorted(set(T5_TERMS.findall((SOURCE / path).read_text(encoding="utf-8"))))
            wrong += [f"{path}: {used or terms}"] if used or terms else []
    assert wrong == []


def test_no_test_module_imports_another() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in parsed(REPOSITORY / "tests")
        for name in imports(tree)
        if re.match(r"tests\.(\w+\.)*test_", name)
    ]
    assert wrong == []
