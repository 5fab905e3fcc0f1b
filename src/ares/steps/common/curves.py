"""A step's curves in metrics.csv, which a resumed fit continues."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import CSVLogger

from ares.storage.files import read_csv


class CurveLogger(CSVLogger):
    """Lightning's logger, which deletes an existing file, but keeps its rows before the first step that is logged.

    A killed fit logged later rows after its last checkpoint; they are computed again.
    """

    LOGGER_JOIN_CHAR = "/"  # round-1/ppo/train/kl_k3, not round-1/ppo-train/kl_k3

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # type: ignore[override]
        """Adds a row."""
        if self._experiment is None:
            rows = [] if step is None else read_csv(Path(self.log_dir) / "metrics.csv")
            kept = [row for row in rows if int(row["step"]) < step]  # type: ignore[operator]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about deleting the file; its rows are written again
                self.experiment.metrics += kept  # type: ignore[arg-type]
            self.experiment.save()
        super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def save(self) -> None:
        """Writes the logged rows; leaves an existing file alone until there are any."""
        if self._experiment is not None:
            super().save()
