"""A step's curves in metrics.csv, which a resumed fit continues."""

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from ares.storage.files import atomic_path

_SECONDS = 5.0  # between writes, so that curves can be watched


class CurveLogger(Logger):
    """Writes the rows of `file` anew each time: a kill leaves all that was written before.

    Columns are `prefix`/<metric> in order of their names, and `step`.
    """

    def __init__(self, file: Path, prefix: str) -> None:
        super().__init__()
        self.file, self.prefix = file, prefix
        self._rows: list[dict[str, Any]] | None = None
        self._written = 0.0

    @property
    def name(self) -> str:
        """The step's name."""
        return self.file.parent.name

    @property
    def version(self) -> str:
        """None: there is one file."""
        return ""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows so far, those of the file included."""
        if self._rows is None:
            self._rows = [*rows_of(self.file)]
        return self._rows

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Drops the rows of optimizer steps from `step` on, which a killed fit logged after its last checkpoint."""
        self._rows = [row for row in self.rows if int(row["step"]) < step]

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Nothing: the run's configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a row."""
        self.rows.append({**{f"{self.prefix}/{key}": value for key, value in metrics.items()}, "step": step})
        if time.monotonic() - self._written > _SECONDS:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows; leaves an existing file alone until one is logged or dropped."""
        if self._rows is None:
            return
        columns = sorted({column for row in self._rows for column in row})
        with atomic_path(self.file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
        self._written = time.monotonic()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the rows."""
        self.save()


def rows_of(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv (a kill may leave half a row at its end); none without a file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
