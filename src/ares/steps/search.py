"""search: solutions that are written sentence by sentence, or repaired, under the scores of a Teacher or reward model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ares.config.schema import Config
from ares.config.selftraining import SEARCHES
from ares.evaluation.search import Draft, Searched, by_repair, by_steps
from ares.steps.appraise import gold_warnings, reward_model_files, with_reward_model
from ares.steps.candidates import answered, evaluated_pids, reads
from ares.steps.common.asking import Reject, ask_teacher, check_asking
from ares.steps.common.contract import StepContext, StepResult, StepSpec, keys_of
from ares.steps.common.inputs import examples_of, load_problems, policy_of
from ares.steps.common.solutions import with_text
from ares.steps.evaluate import check_split
from ares.steps.rollout import part_seed
from ares.storage.files import write_jsonl
from ares.storage.solutions import Solution
from ares.teachers.base import Teacher
from ares.teachers.parsing import FeedbackError
from ares.text.prompts import ANSWER, strip_solution
from ares.types import AresError, Example, Problem

if TYPE_CHECKING:
    from ares.models.policy import Policy

SPEC = StepSpec(
    name="search",
    reads=reads,
    writes=("searched",),
    settings=(
        *("seed", "text", "model._target_", "data.checker", "evaluate.split", "teacher"),
        *keys_of("select", "n by answers questions temperature top_p threshold longest"),
        *keys_of("generate", "max_new_tokens batch_size"),
        "lora.max_output_tokens",
    ),
    runs_on="device",
    wanted=lambda config, place: bool(set(SEARCHES) & set(config.select.by)),
    files=reward_model_files,
    check=lambda config: check(config),
    check_data=lambda config, source: check_split(config, source["data"]),
)

# Drafts of one question.
Group = tuple[str, Sequence[Draft]]


def check(config: Config) -> list[str]:
    """Raises AresError for an engine or a number of devices that cannot search; warnings of the Teacher."""
    if config.engine.name != "hf" or config.trainer.devices * config.trainer.num_nodes > 1:
        raise AresError(
            "select.by=steps and repair continue the policy's own tokens on one device; use engine=hf trainer.devices=1, or "
            "other rules."
        )
    found = check_asking(with_reward_model(config))
    return found if "reward" in config.select.by else [*found, *gold_warnings(config)]


def search(config: Config, context: StepContext) -> StepResult:
    """Writes `searched.jsonl`: for each kind of search, width and question the solution, its answer and all tokens."""
    problems, splits = load_problems(config, context)
    pids = evaluated_pids(config, problems, splits)
    policy = policy_of(config, context, context.inputs["policy"])
    examples = examples_of(problems, pids, "QCM-E", config)
    searcher = _Searcher(config, context, policy, problems, examples)
    rows: list[dict[str, Any]] = []
    for by in [by for by in SEARCHES if by in config.select.by]:
        for n, found in searcher.searched(by, pids, sorted(set(config.select.n))):
            rows += [{"by": by, "n": n, **row} for row in searcher.finished(found)]
    path = context.folder / "searched.jsonl"
    write_jsonl(path, rows)
    tokens = sum(row["tokens"] for row in rows) / max(1, len(rows))
    right = sum(row["correct"] for row in rows) / max(1, len(rows))
    return StepResult(
        {"searched": path}, {"right": right, "tokens": tokens}, usd=searcher.usd, requests=searcher.requests
    )


@dataclass
class _Searcher:
    """Writes with the policy and asks the Teacher; `calls` numbers what it has written so far, for its seeds."""

    config: Config
    context: StepContext
    policy: "Policy"
    problems: Mapping[str, Problem]
    examples: Mapping[str, Example]
    usd: float = 0.0
    requests: int = 0
    calls: int = field(default=0)

    def searched(
        self, by: str, pids: Sequence[str], widths: Sequence[int]
    ) -> "list[tuple[int, dict[str, Searched]]]":
        """The outcome for each width: continuations per sentence, or versions of a solution that is repaired."""
        block = self.config.select
        if by == "steps":
            return [(n, by_steps(pids, n, self.continued, self.score, longest=block.longest)) for n in widths]
        drafts = self.continued([(pid, Draft()) for pid in pids])
        found = {pid: Searched(draft, len(draft.ids)) for pid, draft in zip(pids, drafts, strict=True)}
        outcomes, done = [], 1
        for n in widths:
            now = {pid: own.draft for pid, own in found.items()}
            repaired = by_repair(now, n - done, self.continued, self.score, threshold=block.threshold)
            found = {
                pid: Searched(own.draft, found[pid].tokens + own.tokens) for pid, own in repaired.items()
            }
            outcomes.append((n, found))
            done = n
        return outcomes

    def continued(self, asked: Sequence[tuple[str, Draft]]) -> list[Draft]:
        """Each draft written on to its end, in one batch; each question's prompt is encoded once."""
        from ares.models.inputs import Sampling

        block, self.calls = self.config.select, self.calls + 1
        rows = {pid: row for row, pid in enumerate(dict.fromkeys(pid for pid, _ in asked))}
        inputs = self.policy.encode([self.examples[pid] for pid in rows])
        written = self.policy.continuations(
            inputs.select([rows[pid] for pid, _ in asked]),
            [draft.ids for _, draft in asked],
            max_new_tokens=self.config.generate.max_new_tokens,
            seed=part_seed(self.config.seed, 0, self.calls) % 2**63,
            sampling=Sampling(0, block.top_p, block.temperature),
            slots=self.config.generate.batch_size,
        )
        found = []
        for ids in written:
            text, spans, ends = self.policy.sentences(ids)
            sentences = tuple(text[span.start : span.end] for span in spans)
            found.append(Draft(tuple(ids), sentences, tuple(ends), complete=True))
        return found

    def score(self, drafts: Mapping[str, Sequence[Draft]]) -> dict[str, list[list[float | None]]]:
        """The scores of the drafts' sentences; None for one that gives the answer, and without a usable reply."""
        groups: list[Group] = list(drafts.items())
        total = max(1, sum(map(len, drafts.values())))
        answers = ask_teacher(
            with_reward_model(self.config),
            self.context,
            groups,
            self._ask,
            artefact=f"search-{self.calls}",
            total=total,
        )
        self.usd, self.requests = self.usd + answers.usd, self.requests + answers.requests
        return dict(zip(drafts, answers.rows, strict=True))

    async def _ask(self, teacher: Teacher, group: Group, reject: Reject) -> list[list[float | None]]:
        pid, drafts = group
        scored = [
            [i for i, text in enumerate(draft.sentences) if not ANSWER.search(text)] for draft in drafts
        ]
        stripped = [strip_solution(draft.sentences) for draft in drafts]
        asked = [[own[i] for i in places] for own, places in zip(stripped, scored, strict=True)]
        results = await teacher.score(self.problems[pid], asked)
        found: list[list[float | None]] = []
        for draft, places, result in zip(drafts, scored, results, strict=True):
            if isinstance(result.scores, FeedbackError):
                reject(pid, result.scores, result.request_hash)
                scores = {}
            else:
                scores = dict(zip(places, result.scores, strict=True))
            found.append([scores.get(i) for i in range(len(draft.sentences))])
        return found

    def finished(self, found: Mapping[str, Searched]) -> list[dict[str, Any]]:
        """The lines of searched.jsonl; with select.answers=adapter the adapter answers."""
        checker = self.config.data.checker
        rows = []
        for pid, own in found.items():
            empty = Solution(0, 0, pid, 0, "", None, False, own.tokens)
            rows.append(with_text(empty, self.problems[pid], self.policy.decode(own.draft.ids), checker))
        if self.config.select.answers == "adapter":
            answerer = self.policy.answerer(self.context.inputs["adapter"])
            rows = answered(self.config, answerer, self.problems, rows)
        return [
            {name: getattr(row, name) for name in ("pid", "text", "answer", "correct", "tokens")}
            for row in rows
        ]
