"""What the steps that ask a Teacher share: the Teacher itself, asking all at once, and when to stop."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.storage.files import write_jsonl
from ares.teachers.base import Teacher
from ares.teachers.ledger.ledger import Ledger
from ares.teachers.parsing import FeedbackError
from ares.types import AresError

# Settings of the group that are not the Teacher's own, and decide no reply.
_STEPS_OWN = ("name", "_target_", "max_quarantine", "max_usd", "dry_run")


def make_teacher(config: Config, ledger: Ledger | None = None) -> Teacher:
    """The configured Teacher."""
    return config.teacher.build(ledger=ledger)


def teacher_of(config: Config, context: StepContext) -> Teacher:
    """The configured Teacher on the ledger that all runs share; this run pays."""
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)  # Hydra's log would get a line for each request
    ledger = Ledger(
        config.paths.ledger,
        payer=str(context.root),
        step=str(context.folder),
        max_usd=config.teacher.max_usd,
    )
    return make_teacher(config, ledger)


def check_teacher(config: Config) -> None:
    """Raises AresError where asking cannot succeed: no key, no package, a setting that cannot be, a cap without a
    price; prints warnings."""
    teacher = make_teacher(config)
    cap = config.teacher.max_usd
    if cap is not None and not teacher.priced:
        raise AresError(
            f"teacher.max_usd={cap}: the price of model {config.teacher.arguments['model']} is not known; add it to "
            "conf/prices.yaml, or leave teacher.max_usd out."
        )
    if not config.teacher.dry_run:
        for warning in teacher.check():
            print(f"warning: {warning}", file=sys.stderr)


@dataclass
class Quarantine:
    """The replies that could not be used, of `total` rows in all, for the file at `path`; `limit` is the share
    that is put up with."""

    path: Path
    limit: float
    total: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row_id: str, error: FeedbackError, request_hash: str) -> None:
        """Notes one; raises AresError as soon as they are too many, whatever is still to come."""
        self.rows.append(
            {"id": row_id, "reason": error.reason, "reply": error.reply, "request_hash": request_hash}
        )
        if len(self.rows) > self.limit * self.total:
            common = Counter(row["reason"] for row in self.rows).most_common(3)
            reasons = "; ".join(f"{reason} ({count})" for reason, count in common)
            raise AresError(
                f"{len(self.rows)} of {self.total} replies of the Teacher cannot be used, more than "
                f"teacher.max_quarantine={self.limit} allows: {reasons}; see them in {self.path}, then raise "
                "teacher.max_quarantine or choose another teacher.model, and give the same command again."
            )

    def write(self) -> None:
        """One line each, with reason and raw reply; no file where there is none."""
        self.path.unlink(missing_ok=True)
        if self.rows:
            write_jsonl(self.path, sorted(self.rows, key=lambda row: row["id"]))


def ask_all(teacher: Teacher, jobs: Sequence[Coroutine[Any, Any, None]], label: str) -> float:
    """Runs the jobs together, with a bar of how many are done, when the rest will be, and the money spent;
    returns what the step has paid for the replies (US dollars), before it was last stopped, too.

    After an AresError nothing more is sent, what is under way comes to its end and into the ledger, and the
    error is passed on.
    """
    try:
        asyncio.run(_ask_all(teacher, jobs, label))
        return teacher.ledger.paid(teacher.usage.answered) if teacher.ledger else teacher.usage.usd
    finally:
        if teacher.ledger:
            teacher.ledger.close()


async def _ask_all(teacher: Teacher, jobs: Sequence[Coroutine[Any, Any, None]], label: str) -> None:
    from tqdm import tqdm

    failure: AresError | None = None
    with tqdm(total=len(jobs), desc=label, dynamic_ncols=True) as bar:
        for job in asyncio.as_completed(jobs):
            try:
                await job
            except AresError as error:
                failure = failure or error
                teacher.stop()
            bar.update()
            bar.set_postfix(usd=f"{teacher.usage.usd:.2f}", requests=teacher.usage.requests, refresh=False)
    await teacher.close()
    if failure:
        raise failure
