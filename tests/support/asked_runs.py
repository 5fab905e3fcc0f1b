"""Small runs that can be asked: trained in this process, in seconds."""

from pathlib import Path

from ares.config.schema import Config
from ares.pipeline.runner import run_stage
from tests.support.composed import composed

STEPS = "stage.steps=[rationale,final/generate,lora,evaluate]"
_SMALL = (
    *("experiment=demo", "data.sizes={train: 16, val: 2, test: 6}", "generate.max_new_tokens=24"),
    *("tokenizer.vocab_size=400", "rationale.eval_every_epochs=99", "rationale.eval_questions=1"),
    *("rationale.epochs=2", "rationale.global_batch_size=8", "rationale.micro_batch_size=8"),
    *("lora.epochs=3", "lora.eval_every_epochs=99", "lora.eval_questions=1", "lora.max_output_tokens=32"),
    *("lora.global_batch_size=8", "lora.micro_batch_size=8"),
)
_SIZES = ("model.d_model=16", "model.d_ff=16", "model.layers=1", "model.heads=2")
T5 = (*_SMALL, *_SIZES, "model.d_kv=8", "run=t5")
VLM = (*_SMALL, "model=tiny_vlm", "features=none", *_SIZES, "run=vlm")


def trained(runs: Path, *settings: str) -> Config:
    """The configuration of a run in `runs` that wrote a policy, rationales, an adapter and predictions."""
    config = composed(*settings, STEPS, f"paths.runs={runs}")
    run_stage(config)
    return config


def adapted(runs: Path) -> Config:
    """The same of a run whose policy is an adapter, on a base that another run trained."""
    base = runs / trained(runs, *VLM).run / "rationale/policy"
    lora = ("model.dtype=float32", "model.lora.r=2", "lora.r=2", "trainer.precision=32-true", "run=adapter")
    return trained(runs, *_SMALL, "model=vlm", *lora, "features=none", f"model.init={base}")
