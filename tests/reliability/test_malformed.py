"""Malformed inputs: each ends with exit code 2 and a sentence, and earlier artefacts stay as they are."""

import io
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ares import __main__
from ares.config.command_line import mistakes_in
from ares.storage.files import sha256_file
from ares.types import AresError
from tests.reliability.malformed import BINARY, COMMANDS, Case, cases, put
from tests.support.small_run import configured, out_of_space, run

pytestmark = [pytest.mark.reliability]
CASES = cases()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with a finished run."""
    runs = tmp_path_factory.mktemp("finished")
    run(configured(runs))
    return runs


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, file times included."""
    yield Path(shutil.copytree(finished, tmp_path / "runs", symlinks=True))
    logging.disable(logging.NOTSET)
    shutil.rmtree(tmp_path, ignore_errors=True)


def contents(runs: Path) -> dict[str, str]:
    """The hashes of the finished run's artefacts."""
    return {
        str(path.relative_to(runs)): sha256_file(path)
        for path in (runs / "demo").rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "config.yaml"
    }


def sentence_of(error: AresError) -> str:
    text = str(error)
    assert 20 < len(text) < 2000
    assert "Traceback" not in text
    assert text.rstrip().endswith((".", "?", ")"))
    return text


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.name}" for case in CASES])
def test_malformed_input_is_refused(case: Case, runs: Path) -> None:
    config = case.make(runs)
    before = contents(runs)
    with pytest.raises(AresError) as caught:
        case.meet(config)
    sentence_of(caught.value)
    after = contents(runs)
    manifest = {name for name in before if name.endswith("manifest.json")}
    assert {name: after.get(name) for name in before.keys() - manifest} == {
        name: digest for name, digest in before.items() if name not in manifest
    }


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_malformed_command_line_is_refused(arguments: list[str]) -> None:
    found = mistakes_in(arguments)
    assert found
    assert all(0 < len(text) < 700 and "\n" not in text for text in found)


@pytest.mark.parametrize(
    ("key", "limit"),
    [("rationale", 4096), ("rationale", 70_000), ("round-1/rollouts", 2048), ("round-1/score", 1024)],
)
def test_full_disk_is_one_sentence_and_the_run_goes_on(runs: Path, key: str, limit: int) -> None:
    shutil.rmtree(runs / "demo")
    stage = {"rationale": "rationale", "round-1/rollouts": "rollout", "round-1/score": "score"}[key]
    if stage != "rationale":
        run(configured(runs, "stage=rationale"))
    if stage == "score":
        run(configured(runs, "stage=rollout"))
    before = contents(runs)
    with out_of_space(limit), pytest.raises(AresError, match=r"no space left|cannot be used as a ledger"):
        run(configured(runs, f"stage={stage}"))
    assert before.items() <= contents(runs).items() | {
        ("demo/manifest.json", before.get("demo/manifest.json"))
    }
    assert not list(runs.rglob("*.tmp"))
    run(configured(runs, f"stage={stage}"))


def test_exit_code_and_message_of_the_command(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    put(runs / "demo/manifest.json", BINARY)
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=demo", f"paths.runs={runs}", "stage=evaluate"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert f"error: {runs}/demo/manifest.json is not UTF-8" in printed
    assert "Traceback" not in printed


def test_there_are_at_least_80_by_kind() -> None:
    counts = Counter(case.kind for case in CASES) + Counter({"command line": len(COMMANDS)})
    table = io.StringIO()
    for kind, count in counts.items():
        print(f"{kind:25}{count:4}", file=table)
    print(table.getvalue())
    assert sum(counts.values()) >= 80
    assert min(counts.values()) >= 5
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)
