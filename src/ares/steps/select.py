"""select: the accuracy of each rule of selection by the number of candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from ares.config.schema import Config
from ares.evaluation.selection import Accuracy, accuracy_of, best_scored, first, majority, oracle
from ares.steps.common.contract import Place, StepContext, StepResult, StepSpec, keys_of
from ares.storage.files import read_jsonl, write_json
from ares.storage.solutions import Solution, read_solutions
from ares.storage.tables import read_feedback

SPEC = StepSpec(
    name="select",
    reads=lambda config, place: _reads(config, place),
    writes=("selection",),
    settings=("evaluate.split", *keys_of("select", "n by pool")),
)

_SIMPLE = {"first": first, "majority": majority, "oracle": oracle}

# (pid, its first n candidates) -> the selected one, and the tokens that the selection itself took
Rule = Callable[[str, Sequence[Solution]], tuple[Solution, int]]


def _reads(config: Config, place: Place) -> tuple[str, ...]:
    further = {"self_select": "self-selected", "teacher": "ratings"}
    return ("candidates", *(name for rule, name in further.items() if rule in config.select.by))


def select(config: Config, context: StepContext) -> StepResult:
    """Writes `selection.json`: for each rule and number of candidates the accuracy with its interval, and tokens.

    Candidates are shared: of n, they are the first n of the same samples. Metrics: `accuracy/<rule>@<n>` in percent.
    """
    by_pid: dict[str, list[Solution]] = {}
    for row in read_solutions(context.inputs["candidates"]):
        by_pid.setdefault(row.pid, []).append(row)
    rules = {by: _rule(by, config, context) for by in config.select.by}
    rows = [_accuracy(by, n, rules[by], by_pid) for by in rules for n in sorted(set(config.select.n))]
    path = context.folder / "selection.json"
    write_json(
        path,
        {"split": config.evaluate.split, "questions": len(by_pid), "rows": [asdict(row) for row in rows]},
    )
    most_first = sorted(rows, key=lambda row: -row.n)
    return StepResult({"selection": path}, {f"accuracy/{row.by}@{row.n}": row.accuracy for row in most_first})


def _accuracy(by: str, n: int, rule: Rule, by_pid: Mapping[str, list[Solution]]) -> Accuracy:
    right, tokens = [], []
    for pid, rows in by_pid.items():
        chosen, further = rule(pid, rows[:n])
        right.append(chosen.correct)
        read = rows[:1] if by == "first" else rows[:n]
        tokens.append(sum(row.tokens for row in read) + further)
    return accuracy_of(by, n, right, tokens)


def _rule(by: str, config: Config, context: StepContext) -> Rule:
    if by in _SIMPLE:
        rule = _SIMPLE[by]
        return lambda pid, rows: (rule(rows), 0)
    if by == "teacher":
        scores = {row.row_id: row.scores for row in read_feedback(context.inputs["ratings"])}
        return lambda pid, rows: (best_scored(rows, scores, config.select.pool), 0)
    chosen = {(row["pid"], row["n"]): row for row in read_jsonl(context.inputs["self-selected"])}

    def self_selected(pid: str, rows: Sequence[Solution]) -> tuple[Solution, int]:
        choice = chosen[pid, len(rows)]
        return next(row for row in rows if row.row_id == choice["row_id"]), choice["tokens"]

    return self_selected
