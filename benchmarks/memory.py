"""Device memory: estimates of ares.models.memory, and peaks of tiny models on the CPU next to their estimates.

    python -m benchmarks.memory

docs/memory.md shows the tables; tests compare the two.
"""

from functools import cache

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ares.config.compose import folder, register_schema, to_config, to_plain
from ares.doctor.requirements import memory_of, model_of
from ares.models.memory import MOST_LOGITS, Memory
from ares.models.vlm.size import published_config, size_of_config
from benchmarks.memory_peaks import CASES, missing, steps_of

PARTS = ("weights", "gradients", "moments", "activations", "working")
T5_OPTIONS = (
    "strategy=single",
    "strategy=single rl.objective=grpo",
    "strategy=single rl.share_trunk=true",
    "strategy=single rl.lora.r=64",
    "strategy=single rl.share_trunk=true rl.lora.r=64",
    "strategy=single trainer.activation_checkpointing=true",
    "strategy=ddp trainer.devices=4",
    "strategy=fsdp trainer.devices=4",
)
VLMS = {
    "2B": "Qwen/Qwen2-VL-2B-Instruct",
    "7B": "Qwen/Qwen2.5-VL-7B-Instruct",
    "32B": "Qwen/Qwen2.5-VL-32B-Instruct",
}
VLM_RUN = (
    "model=vlm trainer.devices=1 trainer.activation_checkpointing=true text.max_input_tokens=1024 "
    "rl.max_new_tokens=256 rl.micro_batch_size=4 rl.generation_batch=8 rl.k=4"
)
VLM_OPTIONS = {
    "LoRA": "",
    "LoRA, NF4": "model.quantization=nf4",
    "all weights": "model.lora.r=0 model.dtype=float32",
    "all weights, grpo": "model.lora.r=0 model.dtype=float32 rl.objective=grpo",
}
DEVICES = (
    *(("1", "strategy=single"), ("4, 8", "strategy=ddp trainer.devices=8")),
    *((str(count), f"strategy=fsdp trainer.devices={count}") for count in (4, 8)),
)


def needs(settings: str) -> dict[str, Memory]:
    """GiB per device by step, as stage=doctor finds them, of a run with these settings."""
    model, *others = settings.replace("strategy=", "strategy.name=").split()
    config = to_config(OmegaConf.merge(_composed(model), OmegaConf.from_dotlist(others)))
    size = model_of(config)
    assert size is not None, settings
    return memory_of(config, size)


@cache
def _composed(model: str) -> DictConfig:
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return OmegaConf.create(to_plain(to_config(compose("config", overrides=[model]))))


def t5_table() -> str:
    """GiB per device in ppo, by model and option."""
    lines = [f"| model | options | {' | '.join(PARTS)} | total |", "|---|---|" + "---|" * (len(PARTS) + 1)]
    for model in ("base", "large"):
        for option in T5_OPTIONS:
            found = needs(f"model={model} trainer.devices=1 {option}")["ppo"]
            lines.append(f"| {model} | `{option}` | {_cells(found)} |")
    return "\n".join(lines)


def vlm_table() -> str:
    """GiB per device in ppo, and in rollout, by model, training, strategy and number of devices."""
    heads = ["model", "trained", "strategy", "GPUs", *PARTS, "ppo", "rollout"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|" + "---|" * (len(PARTS) + 2)]
    for name, init in VLMS.items():
        for option, settings in VLM_OPTIONS.items():
            for count, strategy in DEVICES:
                if ("ddp" in strategy and "all" in option) or ("fsdp" in strategy and "LoRA" in option):
                    continue
                found = needs(f"{VLM_RUN} model.init={init} {settings} {strategy}")
                short = strategy.split()[0].removeprefix("strategy=")
                cells = f"{_cells(found['ppo'])} | {found['rollout'].total:.1f}"
                lines.append(f"| {name} | {option} | {short} | {count} | {cells} |")
    return "\n".join(lines)


def _cells(found: Memory) -> str:
    return " | ".join(f"{number:.1f}" for number in (*(getattr(found, part) for part in PARTS), found.total))


def arithmetic() -> str:
    """The terms of one row: Qwen2.5-VL-7B, LoRA, one device."""
    size, rows, tokens, logits = size_of_config(published_config(VLMS["7B"])), 4, 1024 + 256, MOST_LOGITS
    stack, adapters = size.decoder, 2 * 64 * size.adapted + size.value_head
    found = needs(f"{VLM_RUN} model.init={VLMS['7B']} strategy=single")["ppo"]
    return "\n".join(
        [
            f"- {size.parameters:,} weights · 2 bytes, and two adapters of rank 64 and a value head, together {adapters:,} "
            f"weights, · 6 bytes (float32 and a bfloat16 copy): **{found.weights:.1f}**",
            f"- gradients, {adapters:,} · 4 bytes: **{found.gradients:.1f}**; AdamW's moments, twice as much: "
            f"**{found.moments:.1f}**",
            f"- activations: the inputs of {stack.layers} layers, {rows} · {tokens:,} tokens · {stack.width:,} numbers · "
            f"2 bytes, for each of the two models, and all activations of one layer: **{found.activations:.1f}**",
            f"- working memory, the larger of 2 · {logits:,} logits · 4 bytes and the gradients in one layer: "
            f"**{found.working:.1f}**",
        ]
    )


def measured_table() -> str:
    """Measured peaks next to estimates, MB."""
    lines = ["| tiny model | step | measured, MB | estimated, MB | ratio |", "|---|---|---|---|---|"]
    for case in CASES:
        for step, measure in steps_of(case):
            if missing(case):
                continue
            bytes_, estimate = measure(case)
            shown = f"{bytes_ / 1e6:.1f} | {estimate.total / 1e6:.1f} | {estimate.total / bytes_:.2f}"
            lines.append(f"| {case.name} | {step} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for table in (t5_table, vlm_table, arithmetic, measured_table):
        print(table(), end="\n\n")
