"""What the console shows of a fit."""

import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

from ares.modules import progress
from ares.modules.progress import FitProgress


def test_epoch_and_share_of_the_fit_are_shown(monkeypatch, tmp_path) -> None:
    shown: list[tuple[float, float, str]] = []
    monkeypatch.setattr(
        progress.progress, "show", lambda done, total, *, detail: shown.append((done, total, detail))
    )
    trainer = pl.Trainer(
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=1,
        callbacks=[FitProgress()],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(BoringModel())
    assert shown == [
        (1, 4, "epoch 1/2"),
        (2, 4, "epoch 1/2"),
        (2, 4, "epoch 1/2 validation"),
        (3, 4, "epoch 2/2"),
        (4, 4, "epoch 2/2"),
        (4, 4, "epoch 2/2 validation"),
    ]
