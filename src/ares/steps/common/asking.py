"""Asks the Teacher about all rows of a step, quarantines unusable replies and stops if there are too many."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from hydra.utils import get_class

from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.steps.common.dry_run import dry_run
from ares.storage.files import write_jsonl
from ares.teachers.base import Teacher
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.types import AresError

Item = TypeVar("Item")
Row = TypeVar("Row")
Reject = Callable[[str, FeedbackError, str], None]  # row id, reason, request hash
Ask = Callable[[Teacher, Item, Reject], Coroutine[Any, Any, Row]]


def teacher_class(config: Config) -> type[Teacher]:
    """The class of the configured Teacher."""
    return get_class(config.teacher._target_ or "")


def make_teacher(config: Config, ledger: Ledger | None = None) -> Teacher:
    """The configured Teacher; raises AresError for impossible settings."""
    return config.teacher.build(ledger=ledger)


def teacher_warnings(config: Config) -> list[str]:
    """Warnings about the Teacher's settings.

    Raises AresError for a missing key or package, an impossible setting, and a cap without a known price.
    """
    teacher = make_teacher(config)
    cap = config.teacher.max_usd
    if cap is not None and not teacher.priced:
        raise AresError(
            f"teacher.max_usd={cap}: the price of model {config.teacher.arguments['model']} is unknown; add it to "
            "conf/prices.yaml or leave out teacher.max_usd."
        )
    return [] if config.teacher.dry_run else teacher.check()


@dataclass
class Quarantine:
    """The unusable replies among `total` rows, for the file at `path`; `limit` is the tolerated fraction."""

    path: Path
    limit: float
    total: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row_id: str, error: FeedbackError, request_hash: str) -> None:
        """Records one; raises AresError as soon as there are too many."""
        self.rows.append(
            {"id": row_id, "reason": error.reason, "reply": error.reply, "request_hash": request_hash}
        )
        if len(self.rows) > self.limit * self.total:
            common = Counter(row["reason"] for row in self.rows).most_common(3)
            reasons = "; ".join(f"{reason} ({count})" for reason, count in common)
            raise AresError(
                f"{len(self.rows)} of {self.total} replies of the Teacher cannot be used, more than "
                f"teacher.max_quarantine={self.limit} allows: {reasons}; see them in {self.path}, then raise "
                "teacher.max_quarantine or choose another teacher.model, and run the same command again."
            )

    def write(self) -> None:
        """Writes one line per row, with reason and raw reply; no file without rows."""
        self.path.unlink(missing_ok=True)
        if self.rows:
            write_jsonl(self.path, sorted(self.rows, key=lambda row: row["id"]))


@dataclass(frozen=True)
class Answers(Generic[Row]):
    """One row per item, and their cost (US dollars) over all attempts of the step."""

    rows: list[Row]
    usd: float
    requests: int


def ask_teacher(
    config: Config,
    context: StepContext,
    items: Sequence[Item],
    ask: Ask[Item, Row],
    *,
    artefact: str,
    total: int,
) -> Answers[Row]:
    """Asks the configured Teacher about all items concurrently, by `ask(teacher, item, reject)`.

    `ask` calls `reject` for each unusable reply; too many of the `total` replies stop the step. Unusable replies are
    written to `<artefact>-quarantine.jsonl`. With teacher.dry_run=true nothing is sent: the cost is printed and
    the program ends.
    """
    teacher = _paid_teacher(config, context)
    if config.teacher.dry_run:
        dry_run(teacher, [ask(teacher, item, lambda *_: None) for item in items], context.key)
    path = context.folder / f"{artefact}-quarantine.jsonl"
    quarantine = Quarantine(path, config.teacher.max_quarantine, total)
    try:
        jobs = [ask(teacher, item, quarantine.add) for item in items]
        rows = asyncio.run(_run_all(teacher, jobs, context.key))
        assert teacher.ledger is not None
        return Answers(rows, teacher.ledger.paid(teacher.usage.answered), teacher.usage.requests)
    finally:
        quarantine.write()
        if teacher.ledger:
            teacher.ledger.close()


def _paid_teacher(config: Config, context: StepContext) -> Teacher:
    """The configured Teacher, with the ledger that all runs share; the cost is charged to this run."""
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every request
    ledger = Ledger(
        config.paths.ledger,
        payer=str(context.root),
        step=str(context.folder),
        max_usd=config.teacher.max_usd,
    )
    return make_teacher(config, ledger)


async def _run_all(teacher: Teacher, jobs: Sequence[Coroutine[Any, Any, Row]], label: str) -> list[Row]:
    """The jobs' results in order, with a progress bar and the money spent.

    After an AresError no further request is sent, open ones are completed and recorded, and the error is raised.
    """
    from ares.console import tqdm

    failure: AresError | None = None
    tasks = [asyncio.ensure_future(job) for job in jobs]
    with tqdm(total=len(jobs), desc=label, dynamic_ncols=True) as bar:
        for task in asyncio.as_completed(tasks):
            try:
                await task
            except AresError as error:
                failure = failure or error
                teacher.stop()
            bar.update()
            bar.set_postfix(usd=f"{teacher.usage.usd:.2f}", requests=teacher.usage.requests, refresh=False)
    await teacher.close()
    if failure:
        raise failure
    return [task.result() for task in tasks]
