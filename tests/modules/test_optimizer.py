import json
from typing import ClassVar

import pytest
import torch
from torch import nn

from ares.models.policy import Trainable
from ares.models.t5 import FusionT5Config, T5ForMultimodalGeneration, T5ForMultimodalValue
from ares.modules.optimizer import lr_lambda, parameter_groups, scheduled_adamw


class Weights(Trainable):
    """A module without blocks and adapters."""

    blocks: ClassVar = []

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def lora_targets(self, targets: str) -> list[str]:
        return []


def names_of(model: nn.Module, weight_decay: float = 0.01) -> list[set[str]]:
    groups = parameter_groups(Weights(model), weight_decay)
    assert [group["weight_decay"] for group in groups] == [weight_decay, 0.0]
    by_id = {id(p): name for name, p in model.named_parameters()}
    return [{by_id[id(p)] for p in group["params"]} for group in groups]


def test_parameter_groups_equal_the_recorded_ones(shared):
    golden = json.loads((shared / "golden/optimizer.json").read_text())["untied"]
    config = FusionT5Config.from_pretrained(shared / "golden/model_untied")
    decayed, plain = (set(group["params"]) for group in golden["groups"])
    assert [group["weight_decay"] for group in golden["groups"]] == [0.01, 0.0]
    # The original's value model carries a frozen head that ours does not have.
    for prefix, cls in (("model.", T5ForMultimodalGeneration), ("value_function.", T5ForMultimodalValue)):
        model = cls(config)
        model.tie_weights()
        ours = names_of(model)
        for own, recorded in zip(ours, (decayed, plain), strict=True):
            theirs = {name.removeprefix(prefix) for name in recorded if name.startswith(prefix)}
            assert own ^ theirs <= {"lm_head.weight"}


def test_norms_biases_and_position_biases_do_not_decay():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.scale = nn.LayerNorm(2)
            self.relative_attention_bias = nn.Embedding(2, 2)
            self.frozen = nn.Linear(2, 2).requires_grad_(False)
            self.again = self.inner

    decayed, plain = names_of(Layer())
    assert decayed == {"inner.weight"}
    assert plain == {"inner.bias", "scale.weight", "scale.bias", "relative_attention_bias.weight"}


def test_linear_decay_after_warm_up():
    factor = lr_lambda(10, 0.2, "linear")
    rates = [factor(step) for step in range(12)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[3:10] == pytest.approx([1 - i / 8 for i in range(1, 8)])
    assert rates[9] > 0
    assert rates[10:] == [0.0, 0.0]


def test_constant_without_a_warm_up():
    factor = lr_lambda(10, 0.0, "constant")
    assert {factor(step) for step in range(20)} == {1.0}


def test_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        lr_lambda(10, 0.0, "cosine")


def test_each_model_keeps_its_own_schedule_and_decay():
    first, second = Weights(nn.Linear(2, 2)), Weights(nn.Linear(2, 2))
    built = scheduled_adamw(
        [(first, lambda s: 1.0), (second, lambda s: 0.5)], lr=0.1, weight_decay=0.2, eps=1e-5
    )
    groups = built["optimizer"].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.1, 0.1, 0.05, 0.05])
    assert [group["weight_decay"] for group in groups] == [0.2, 0.0, 0.2, 0.0]
    assert all(group["eps"] == 1e-5 and group["betas"] == (0.9, 0.999) for group in groups)
    assert isinstance(built["optimizer"], torch.optim.AdamW)
