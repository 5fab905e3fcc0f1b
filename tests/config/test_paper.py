"""The presets of the paper carry the paper's values."""

import pytest

from ares.config.validation import validate, warnings_of
from tests.support.composed import composed

VALUES = {
    "rl.k": 4,
    "rl.top_k": 50,
    "rl.top_p": 1.0,
    "rl.temperature": 1.0,
    "rl.max_new_tokens": 512,
    "rl.neutral": 0.5,
    "rl.objective": "ppo",
    "rl.kl_in": "reward",
    "rl.kl_coef": 1e-4,
    "rl.gamma": 1.0,
    "rl.lam": 0.95,
    "rl.clip_range": 0.2,
    "rl.value_clip_range": None,
    "rl.vf_coef": 1.0,
    "rl.log_ratio_clamp": None,
    "rl.target_kl": None,
    "rl.recompute": False,
    "rl.value_warmup_epochs": 0,
    "rl.lr": 2e-5,
    "rl.warmup_fraction": 0.0,
    "rl.decay": "constant",
    "rl.weight_decay": 0.01,
    "rl.adam_eps": 1e-8,
    "rl.gradient_clip": None,
    "rl.holdout": 0.0,
    "rl.lora.r": 0,
    "rl.share_trunk": False,
    "sft.max_output_tokens": 512,
    "rationale.max_output_tokens": 512,
    "generate.max_new_tokens": 512,
    "lora.r": 64,
    "lora.alpha": 128,
    "lora.dropout": 0.05,
    "lora.epochs": 20,
    "lora.lr": 8e-5,
    "lora.max_output_tokens": 64,
    "text.newline": "escape",
    "trainer.devices": 4,
}
BY_SIZE = {
    "base": {"rl.whiten": True, "rl.ppo_epochs": 10, "rl.global_batch_size": 256, "rl.micro_batch_size": 8}
    | {
        f"{step}.{key}": value
        for step in ("rationale", "sft")
        for key, value in (("epochs", 20), ("lr", 8e-5))
    },
    "large": {"rl.whiten": False, "rl.ppo_epochs": 5, "rl.global_batch_size": 128, "rl.micro_batch_size": 2}
    | {
        f"{step}.{key}": value
        for step in ("rationale", "sft")
        for key, value in (("epochs", 50), ("lr", 5e-5))
    },
}


@pytest.mark.parametrize("size", BY_SIZE)
@pytest.mark.parametrize("data", ["scienceqa", "aokvqa"])
def test_presets_have_the_values_of_the_paper(data: str, size: str) -> None:
    config = composed("stage=rl", f"experiment=paper_{data}_{size}")
    validate(config)
    for key, expected in {**VALUES, **BY_SIZE[size]}.items():
        found = config
        for part in key.split("."):
            found = getattr(found, part)
        assert found == expected, key
    assert (config.data.name, config.model.name) == (data, size)
    assert (config.teacher.arguments["model"], config.teacher.arguments["prompt"]) == (
        "claude-3-haiku-20240307",
        "paper",
    )
    assert config.run == f"rl-paper-{data}-{size}"
    assert len(warnings_of(config)) == 2  # top_k, and a KL reward that is inert


@pytest.mark.parametrize("model", ["qwen", "llava"])
def test_presets_of_vl_rlhf_compose(model) -> None:
    """Fine-tuning on conversations, then a loss on pairs of the data."""
    assert composed(f"experiment=vlrlhf_{model}_sft").stage.steps == ["rationale"]
    for loss, name in {"dpo": "dpo", "kto": "kto_pair", "ddpo": "ddpo"}.items():
        config = composed(f"experiment=vlrlhf_{model}_{loss}", f"policy=vlrlhf-{model}-sft")
        validate(config)
        assert (config.prefer.loss, config.prefer.beta, config.pairs.source) == (name, 0.1, "brought")
        assert config.stage.steps == ["pairs", "prefer"]
        assert config.run == f"vlrlhf-{model}-{name}"
    assert config.prefer.ddpo.mask_unchanged
