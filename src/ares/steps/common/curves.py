"""A step's curves in metrics.csv, which a resumed fit goes on with."""

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import CSVLogger


class CurveLogger(CSVLogger):
    """Lightning's logger, which deletes the file that it finds, but for the rows before the first step logged here.

    A killed fit logged those from that step on after its last checkpoint; they are computed again.
    """

    LOGGER_JOIN_CHAR = "/"  # round-1/ppo/train/kl_k3, not round-1/ppo-train/kl_k3

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        """Adds a row."""
        if self._experiment is None:
            rows = [] if step is None else rows_before(Path(self.log_dir) / "metrics.csv", step)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the file is deleted: its rows are written again
                self.experiment.metrics += rows  # type: ignore[arg-type]
            self.experiment.save()
        super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def save(self) -> None:
        """Writes what was logged; a file that is there stays as it is until there is something to write."""
        if self._experiment is not None:
            super().save()


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; none where there is no file, and without a last one that a kill has torn."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def rows_before(path: Path, step: int) -> list[dict[str, str]]:
    """The rows of a metrics.csv whose step is below `step`."""
    return [row for row in rows_of(path) if int(row["step"]) < step]
