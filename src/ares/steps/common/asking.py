"""Asks the Teacher about all rows of a step, quarantines unusable replies and stops if there are too many."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from hydra.utils import get_class

from ares import interrupts
from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.steps.common.dry_run import dry_run
from ares.storage.files import write_jsonl
from ares.teachers.base import Teacher
from ares.teachers.ledger.database import unusable
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.types import AresError

_POLL = 0.1  # seconds
_OPEN_SECONDS = 6.0  # for the replies to open requests, after a signal

Item = TypeVar("Item")
Row = TypeVar("Row")
Reject = Callable[[str, FeedbackError, str], None]  # row id, reason, request hash
Ask = Callable[[Teacher, Item, Reject], Coroutine[Any, Any, Row]]


def teacher_class(config: Config) -> type[Teacher]:
    """The class of the configured Teacher."""
    return get_class(config.teacher._target_ or "")


def teacher_reads(config: Config) -> tuple[str, ...]:
    """The artefacts that the configured Teacher itself reads; none of a class outside this package."""
    return teacher_class(config).reads if config.teacher.is_own else ()


def make_teacher(config: Config, ledger: Ledger | None = None, **inputs: Path) -> Teacher:
    """The configured Teacher, with what it reads of the run; raises AresError for impossible settings."""
    return config.teacher.build(ledger=ledger, **inputs)


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


def check_asking(config: Config) -> list[str]:
    """The same warnings, for a step that asks; also raises AresError where replies cannot be recorded."""
    found = teacher_warnings(config)
    if reason := unusable(Path(config.paths.ledger)):
        raise AresError(f"The Teacher's replies cannot be recorded: {reason}; set paths.ledger=<file>.")
    return found


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
    """One row per item, and the requests and US dollars that the step has spent on them in all its processes."""

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
        requests, usd = teacher.ledger.paid(teacher.usage.answered)
        return Answers(rows, usd, requests)
    finally:
        interrupts.defer(False)
        quarantine.write()
        if teacher.ledger:
            teacher.ledger.close()


def _paid_teacher(config: Config, context: StepContext) -> Teacher:
    """The configured Teacher, with the ledger that all runs share; the cost is charged to this run."""
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every request
    path = Path(config.paths.ledger).resolve()

    def name_of(folder: Path) -> str:
        # A ledger among the runs moves with them.
        return str(folder.relative_to(path.parent) if folder.is_relative_to(path.parent) else folder)

    ledger = Ledger(
        path, payer=name_of(context.root), step=name_of(context.folder), max_usd=config.teacher.max_usd
    )
    inputs = {name: context.inputs[name] for name in teacher_reads(config) if name in context.inputs}
    return make_teacher(config, ledger, **inputs)


async def _run_all(teacher: Teacher, jobs: Sequence[Coroutine[Any, Any, Row]], label: str) -> list[Row]:
    """The jobs' results in order, with a progress bar and the money spent.

    After an AresError or a signal no further request is sent, open ones are completed and recorded, and the error is
    raised.
    """
    from ares.console import tqdm

    failure: AresError | None = None
    tasks = [asyncio.ensure_future(job) for job in jobs]
    interrupts.defer(True)
    signals = asyncio.create_task(_stop_after_signal(teacher, tasks))
    with tqdm(total=len(jobs), desc=label, dynamic_ncols=True) as bar:
        for task in asyncio.as_completed(tasks):
            try:
                await task
            except AresError as error:
                failure = failure or error
                teacher.stop()
            except asyncio.CancelledError:
                continue  # a reply that took too long after a signal
            bar.update()
            bar.set_postfix(usd=f"{teacher.usage.usd:.2f}", requests=teacher.usage.requests, refresh=False)
    signals.cancel()
    await teacher.close()
    interrupts.check()
    if failure:
        raise failure
    return [task.result() for task in tasks]


async def _stop_after_signal(teacher: Teacher, tasks: Sequence[asyncio.Task[Row]]) -> None:
    """After a signal sends nothing more, and cancels the requests that are still open some seconds later."""
    while not interrupts.received():
        await asyncio.sleep(_POLL)
    teacher.stop()
    await asyncio.sleep(_OPEN_SECONDS)
    for task in tasks:
        task.cancel()
