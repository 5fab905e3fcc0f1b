"""Supervised fine-tuning of an encoder-decoder: rationale, sft and, on an adapter, lora."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

from ares.config.schema import FitConfig
from ares.datamodules.base import Seq2SeqData
from ares.models.t5.generation import generate_greedy
from ares.modules.batching import batch_table
from ares.modules.optimizer import lr_lambda, scheduled_adamw
from ares.ranks import gather, is_first

# (references, hypotheses) -> a figure to maximise
Score = Callable[[Sequence[str], Sequence[str]], float]


class Seq2SeqModule(pl.LightningModule):
    """Cross-entropy over real label tokens; validation generates greedily and scores the texts."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        fit: FitConfig,
        *,
        total_steps: int,
        score: Score,
        metric: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.fit = model, tokenizer, fit
        self.total_steps, self.score, self.metric, self.seed = total_steps, score, metric, seed
        self.references: list[str] = []
        self.hypotheses: list[str] = []

    def on_fit_start(self) -> None:
        """Turns dropout on: Lightning leaves a module that `from_pretrained` returned in eval mode."""
        self.model.train()

    def on_train_batch_start(self, batch: dict[str, Any], batch_index: int) -> None:
        """Draws each batch's dropout from (seed, epoch, batch), so that a resumed fit ends as an uninterrupted one."""
        number = batch_index * self.trainer.world_size + self.global_rank
        torch.manual_seed(hash((self.seed, self.current_epoch, number)))

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        """The mean cross-entropy (nats a token) over the optimiser batch; this micro-batch's share of it."""
        logits = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            image_features=batch["image_features"],
            labels=batch["labels"],
        ).logits
        total = F.cross_entropy(
            logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=-100, reduction="sum"
        )
        tokens = int((batch["labels"] != -100).sum())
        self.log("loss", total.detach() / max(1, tokens), prog_bar=True, batch_size=max(1, tokens))
        self.log("lr", self.lr_schedulers().get_last_lr()[0])  # type: ignore[union-attr]
        # Lightning divides by the accumulated batches and DDP by the ranks; the denominator counts all of them.
        return total / batch["denominator"] * (self.trainer.accumulate_grad_batches * self.trainer.world_size)

    def on_validation_epoch_start(self) -> None:
        """Starts a fresh set of texts."""
        self.references, self.hypotheses = [], []

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Generates greedily."""
        ids = generate_greedy(
            self.model,
            batch["input_ids"],
            batch["attention_mask"],
            batch["image_features"],
            max_new_tokens=self.fit.max_output_tokens,
        )
        labels = batch["labels"].masked_fill(batch["labels"] == -100, self.tokenizer.pad_token_id)
        self.hypotheses += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        self.references += self.tokenizer.batch_decode(labels, skip_special_tokens=True)

    def on_validation_epoch_end(self) -> None:
        """Logs the score of the generated texts of all ranks."""
        parts = gather([self.references, self.hypotheses])
        references = [text for part in parts for text in part[0]]
        hypotheses = [text for part in parts for text in part[1]]
        self.log(self.metric, float(self.score(references, hypotheses)), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW without decay on norms and biases; warm-up, then constant or linear decay."""
        fit = self.fit
        return scheduled_adamw(
            [(self.model, lr_lambda(self.total_steps, fit.warmup_fraction, fit.decay))],
            lr=fit.lr,
            weight_decay=fit.weight_decay,
            eps=1e-8,
            beta2=fit.adam_beta2,
        )


def fit_seq2seq(
    model: nn.Module,
    tokenizer: Any,
    data: Seq2SeqData,
    fit: FitConfig,
    *,
    score: Score,
    metric: str,
    devices: int,
    checkpoints: Path,
    trainer_arguments: dict[str, Any],
) -> dict[str, float]:
    """Trains `model` in place on `data`, with its seed, and leaves the weights of its best validation in it.

    Checkpoints of every epoch go to `checkpoints`; a last one found there is resumed from.
    """
    data.setup("fit")  # the schedule is as long as the data before the Trainer asks for them
    _tell_batches(data, fit, metric, devices)
    pl.seed_everything(data.seed, verbose=False)
    steps = fit.epochs * data.steps_per_epoch()
    module = Seq2SeqModule(
        model, tokenizer, fit, total_steps=steps, score=score, metric=metric, seed=data.seed
    )
    best, last = _checkpoints(checkpoints, metric, fit)
    trainer = _trainer(fit, data.accumulate, [best, last], trainer_arguments)
    _fit_and_take_best(trainer, module, data, best, checkpoints / "last.ckpt")
    # Without questions to validate on there is no score, and the latest weights stay.
    figures = {metric: best.best_model_score, "loss": trainer.callback_metrics.get("loss")}
    return {name: float(figure) for name, figure in figures.items() if figure is not None}


def _fit_and_take_best(
    trainer: pl.Trainer, module: Seq2SeqModule, data: Seq2SeqData, best: ModelCheckpoint, last: Path
) -> None:
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None)
    if best.best_model_path:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)


def _trainer(
    fit: FitConfig, accumulate: int, checkpoints: list[ModelCheckpoint], arguments: dict[str, Any]
) -> pl.Trainer:
    return pl.Trainer(
        **{**arguments, "callbacks": [*checkpoints, *arguments.get("callbacks", ())]},
        max_epochs=fit.epochs,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=fit.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=min(fit.eval_every_epochs, fit.epochs),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _checkpoints(folder: Path, metric: str, fit: FitConfig) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """The best validation's and the latest epoch's."""
    every = min(fit.eval_every_epochs, fit.epochs)
    # Made at the end of the epoch: a checkpoint made in validation would resume inside it.
    each: dict[str, Any] = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, filename="best", monitor=metric, mode="max", every_n_epochs=every, **each)
    return best, ModelCheckpoint(folder, filename="last", **each)


def _tell_batches(data: Seq2SeqData, fit: FitConfig, metric: str, devices: int) -> None:
    if is_first():
        table = batch_table(
            f"fine-tuning for {metric}",
            rows=len(data.train),
            global_batch=fit.global_batch_size,
            micro=data.micro,
            accumulate=data.accumulate,
            world=devices,
            steps=data.steps_per_epoch(),
            epochs=fit.epochs,
        )
        print(table, flush=True)
