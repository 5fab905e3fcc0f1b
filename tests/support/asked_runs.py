"""Small runs that can be asked: trained for one epoch in this process."""

from pathlib import Path

from ares.config.schema import Config
from ares.pipeline.runner import run_stage
from tests.support.composed import composed

STEPS = "stage.steps=[rationale,final/generate,lora,evaluate]"
_SMALL = (
    *("experiment=demo", "model.d_model=16", "model.d_ff=16", "model.layers=1", "model.heads=2"),
    *("data.sizes={train: 16, val: 2, test: 6}", "tokenizer.vocab_size=400", "generate.max_new_tokens=24"),
    *("rationale.epochs=1", "rationale.eval_every_epochs=1", "rationale.eval_questions=1"),
    *("lora.epochs=1", "lora.eval_every_epochs=1", "lora.eval_questions=1", "lora.max_output_tokens=32"),
)
T5 = (*_SMALL, "run=t5", "model.d_kv=8")
VLM = (*_SMALL, "run=vlm", "model=tiny_vlm", "features=none")


def trained(runs: Path, *settings: str) -> Config:
    """The configuration of a run in `runs` that wrote a policy, rationales, an adapter and predictions."""
    config = composed(*settings, STEPS, f"paths.runs={runs}")
    run_stage(config)
    return config
