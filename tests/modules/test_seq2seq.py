"""Supervised fine-tuning: what the loss is, that dropout is on, that the best weights stay, that a resumed fit ends the same."""

from pathlib import Path

import pytest
import torch
from ares.datamodules.base import Encoded, Seq2SeqData
from ares.modules.seq2seq import fit_seq2seq
from pytorch_lightning.callbacks import Callback
from torch.nn import functional as F

from ares.config.schema import FitConfig
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration


class Digits:
    """A tokenizer of numbers: text "7 8" is ids 7, 8."""

    pad_token_id, eos_token_id = 0, 1

    def batch_decode(self, rows, skip_special_tokens: bool) -> list[str]:
        return [" ".join(str(int(i)) for i in row if int(i) > 1) for row in rows]


def model(dropout: float = 0.0) -> T5ForMultimodalGeneration:
    torch.manual_seed(0)
    config = FusionT5Config(
        vocab_size=12, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, patch_num=2, patch_dim=4,
        dropout_rate=dropout, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForMultimodalGeneration(config).eval()


def rows(count: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for number in range(count):
        ids = torch.randint(2, 12, (1 + number % 4,), generator=generator).tolist()
        made.append(Encoded(str(number), (*ids, 1), (*ids[:2], 1)))
    return made


def equal_share(references, hypotheses) -> float:
    return sum(r == h for r, h in zip(references, hypotheses, strict=True)) / len(references)


def fit(
    network, folder: Path, epochs: int = 1, *, callbacks=(), train=None, val=8, score=equal_share, **changes
) -> dict[str, float]:
    settings = {"lr": 1e-2, "global_batch_size": 4, "micro_batch_size": 4, "max_output_tokens": 4, **changes}
    micro = settings["micro_batch_size"]
    data = Seq2SeqData(
        train or rows(30), rows(val), features=None, pad_id=0, micro=micro,
        accumulate=settings["global_batch_size"] // micro, eval_batch=4, seed=3,
    )  # fmt: skip
    return fit_seq2seq(
        network,
        Digits(),
        data,
        FitConfig(epochs=epochs, **settings),
        score=score,
        metric="val/equal",
        devices=1,
        checkpoints=folder / "checkpoints",
        trainer_arguments={
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": callbacks,
        },
    )


class Watch(Callback):
    def __init__(self, stop_after: int | None = None) -> None:
        self.training: set[bool] = set()
        self.stop_after = stop_after

    def on_train_batch_start(self, trainer, module, batch, batch_index) -> None:
        self.training |= {m.training for m in module.model.modules() if isinstance(m, torch.nn.Dropout)}

    def on_train_epoch_start(self, trainer, module) -> None:
        if trainer.current_epoch == self.stop_after:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore")
def test_dropout_is_on_in_every_batch_though_the_model_came_in_eval_mode(tmp_path) -> None:
    watch = Watch()
    fit(model(dropout=0.1), tmp_path, epochs=2, callbacks=[watch])
    assert watch.training == {True}


@pytest.mark.filterwarnings("ignore")
def test_a_step_is_the_gradient_of_the_mean_over_the_optimiser_batchs_real_tokens(tmp_path) -> None:
    train = rows(8)
    cut, whole = model(), model()
    reference = model()
    fit(
        cut,
        tmp_path / "a",
        train=train,
        global_batch_size=8,
        micro_batch_size=2,
        gradient_clip=None,
        weight_decay=0.0,
    )
    fit(
        whole,
        tmp_path / "b",
        train=train,
        global_batch_size=8,
        micro_batch_size=8,
        gradient_clip=None,
        weight_decay=0.0,
    )
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0.0)
    total, tokens = torch.zeros(()), 0
    for row in train:
        labels = torch.tensor([row.label_ids])
        logits = reference(input_ids=torch.tensor([row.input_ids]), labels=labels).logits
        total = total + F.cross_entropy(logits[0], labels[0], reduction="sum")
        tokens += labels.numel()
    (total / tokens).backward()
    optimizer.step()
    for (name, a), b, c in zip(
        reference.named_parameters(), cut.parameters(), whole.parameters(), strict=True
    ):
        # Adam's first step is the sign of the gradient: where that is all but 0 the sign is rounding's.
        sure = a.grad.abs() > 1e-6 if a.grad is not None else torch.zeros_like(a, dtype=torch.bool)
        torch.testing.assert_close(b[sure], a[sure], atol=2e-5, rtol=0, msg=name)
        torch.testing.assert_close(c[sure], a[sure], atol=2e-5, rtol=0, msg=name)


@pytest.mark.filterwarnings("ignore")
def test_it_learns(tmp_path) -> None:
    figures = fit(model(), tmp_path, epochs=40, train=rows(64), eval_every_epochs=20)
    assert figures["val/equal"] >= 0.5
    assert figures["loss"] < 1.0


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
    return {key.removeprefix("model."): value for key, value in state.items()}


@pytest.mark.filterwarnings("ignore")
def test_the_weights_of_the_best_validation_stay(tmp_path) -> None:
    network, scores = model(), iter([0.2, 0.9, 0.1])
    figures = fit(network, tmp_path, epochs=3, score=lambda references, hypotheses: next(scores))
    best, last, left = weights(tmp_path, "best"), weights(tmp_path, "last"), network.state_dict()
    assert figures["val/equal"] == pytest.approx(0.9)
    assert all(torch.equal(left[key], best[key]) for key in best)
    assert not all(torch.equal(best[key], last[key]) for key in best)


@pytest.mark.filterwarnings("ignore")
def test_without_validation_the_latest_weights_stay_and_there_is_no_score(tmp_path) -> None:
    network = model()
    figures = fit(network, tmp_path, epochs=2, val=0)
    last, left = weights(tmp_path, "last"), network.state_dict()
    assert figures.keys() == {"loss"}
    assert all(torch.equal(left[key], last[key]) for key in last)


@pytest.mark.filterwarnings("ignore")
def test_a_killed_fit_goes_on_to_the_same_weights(tmp_path) -> None:
    fit(model(0.1), tmp_path / "whole", epochs=3)
    with pytest.raises(SystemExit):
        fit(model(0.1), tmp_path / "parts", epochs=3, callbacks=[Watch(stop_after=1)])
    fit(model(0.1), tmp_path / "parts", epochs=3)
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "parts")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
