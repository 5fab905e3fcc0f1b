"""select: the accuracy of each rule of selection by the number of candidates."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ares.config.schema import Config
from ares.config.selftraining import SEARCHES
from ares.evaluation.selection import accuracy_of, best_scored, first, majority, oracle
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec, keys_of
from ares.storage.files import read_jsonl, write_json, write_jsonl
from ares.storage.solutions import Solution, read_solutions
from ares.storage.tables import read_feedback

SPEC = StepSpec(
    name="select",
    reads=lambda config, place: _reads(config, place),
    writes=("selected", "selection"),
    settings=("evaluate.split", *keys_of("select", "n by pool")),
)

_SIMPLE = {"first": first, "majority": majority, "oracle": oracle}
_SCORED = {"teacher": "ratings", "reward": "appraisals"}  # rule: where its scores are

# (pid, its first n candidates) -> the selected one, and the tokens that the selection itself took
Rule = Callable[[str, Sequence[Solution]], tuple[Solution, int]]


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    further = {"self_select": "self-selected", **_SCORED, **dict.fromkeys(SEARCHES, "searched")}
    return ("candidates", *dict.fromkeys(name for rule, name in further.items() if rule in config.select.by))


def select(config: Config, context: StepContext) -> StepResult:
    """Writes `selected.jsonl`, what each rule selects among each number of candidates of each question, and
    `selection.json`, the accuracies with their intervals and the tokens.

    Candidates are shared: of n, they are the first n of the same samples. Metrics: `accuracy/<rule>@<n>` in percent.
    """
    by_pid: dict[str, list[Solution]] = {}
    for row in read_solutions(context.inputs["candidates"]):
        by_pid.setdefault(row.pid, []).append(row)
    searched = read_jsonl(context.inputs["searched"]) if "searched" in context.inputs else []
    numbers, chosen, rows = sorted(set(config.select.n)), [], []
    for by in dict.fromkeys(config.select.by):
        for n in numbers:
            if by in SEARCHES:
                own = [row for row in searched if (row["by"], row["n"]) == (by, n)]
            else:
                rule = _rule(by, config, context)
                own = [_selected(by, n, rule, pid, found[:n]) for pid, found in by_pid.items()]
            chosen += own
            rows.append(accuracy_of(by, n, [row["correct"] for row in own], [row["tokens"] for row in own]))
    paths = {
        "selected": context.folder / "selected.jsonl",
        "selection": context.folder / "selection.json",
    }
    write_jsonl(paths["selected"], chosen)
    summary = {
        "split": config.evaluate.split,
        "questions": len(by_pid),
        "rows": [asdict(row) for row in rows],
    }
    write_json(paths["selection"], summary)
    most_first = sorted(rows, key=lambda row: -row.n)
    return StepResult(paths, {f"accuracy/{row.by}@{row.n}": row.accuracy for row in most_first})


def _selected(by: str, n: int, rule: Rule, pid: str, rows: Sequence[Solution]) -> dict[str, Any]:
    """A line of selected.jsonl; `tokens` are those that had to be written for it."""
    found, further = rule(pid, rows)
    written = sum(row.tokens for row in (rows[:1] if by == "first" else rows))
    return {
        "pid": pid,
        "by": by,
        "n": n,
        "row_id": found.row_id,
        "correct": found.correct,
        "tokens": written + further,
    }


def _rule(by: str, config: Config, context: StepContext) -> Rule:
    if by in _SIMPLE:
        rule = _SIMPLE[by]
        return lambda pid, rows: (rule(rows), 0)
    if by in _SCORED:
        scores = {row.row_id: row.scores for row in read_feedback(context.inputs[_SCORED[by]])}
        return lambda pid, rows: (best_scored(rows, scores, config.select.pool), 0)
    chosen = {(row["pid"], row["n"]): row for row in read_jsonl(context.inputs["self-selected"])}

    def self_selected(pid: str, rows: Sequence[Solution]) -> tuple[Solution, int]:
        choice = chosen[pid, len(rows)]
        return next(row for row in rows if row.row_id == choice["row_id"]), choice["tokens"]

    return self_selected
