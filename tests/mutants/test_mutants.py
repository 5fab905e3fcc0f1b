"""The list of mutants still fits the source and the tests; `make mutants` runs it."""

import ast
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS, REPOSITORY, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_matches_source_once_and_its_test_exists(mutant: Mutant) -> None:
    text = (REPOSITORY / "src/ares" / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    ast.parse(text.replace(mutant.old, mutant.new))
    path, _, test = mutant.test.partition("::")
    assert not test or f"def {test}(" in (Path(REPOSITORY) / "tests" / path).read_text(encoding="utf-8")


def test_mutant_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 12
