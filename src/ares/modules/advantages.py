"""Records the advantages that RL starts with, sentence by sentence, for the report."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from ares.modules.ppo_module import PPOModule
from ares.storage.tables import write_advantages
from ares.types import Advantages


class RecordAdvantages(pl.Callback):
    """Writes the advantages of the first epoch after the value warm-up to a file, unless it exists.

    A resumed fit does not compute them again; the file belongs to its checkpoints.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Writes them before the first step."""
        assert isinstance(pl_module, PPOModule)
        first = pl_module.current_epoch == pl_module.warmup_epochs and batch_idx == 0
        if first and trainer.is_global_zero and not self.path.exists():
            write_advantages(self.path, sentence_advantages(pl_module))


def sentence_advantages(module: PPOModule) -> list[Advantages]:
    """The mean advantage over the tokens of each sentence of each row of the buffer."""
    buffer, found = module.data.buffer, []
    for row, kept in enumerate(buffer.kept):
        own = module.advantages[buffer.tokens(row)].cpu()
        ends = [0, *(end + 1 for end in buffer.rollouts.ends(kept))]
        means = [float(own[start:end].mean()) for start, end in pairwise(ends)]
        found.append(Advantages(buffer.rollouts.row_ids[kept], tuple(means)))
    return found
