"""A finished run of the smallest sizes, made in this process, and commands as the entry point runs them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ares.config.schema import Config
from ares.config.validation import validate
from ares.pipeline.runner import run_stage
from ares.steps.export import export
from ares.steps.prepare import prepare_alone
from ares.storage.failures import disk_errors
from tests.support.composed import composed

SMALL = (
    "experiment=demo",
    "data.sizes={train: 12, val: 4, test: 4}",
    "model.d_model=16",
    "model.d_ff=16",
    "model.layers=1",
    "model.heads=2",
    "rationale.epochs=1",
    "rationale.eval_questions=2",
    "rl.questions=6",
    "rl.questions_per_part=6",
    "rl.k=2",
    "rl.ppo_epochs=1",
    "rl.max_new_tokens=8",
    "rl.eval_questions=2",
    "rl.holdout=0",
    "generate.max_new_tokens=8",
    "correct.on_quarantine=keep_own",
    "sft.epochs=1",
    "sft.eval_questions=2",
    "lora.epochs=1",
    "lora.r=2",
    "lora.eval_questions=2",
    "lora.max_output_tokens=8",
)


def configured(runs: Path, *settings: str) -> Config:
    """The small run's configuration with further settings, its runs in the given folder."""
    return composed(*SMALL, *settings, runs=runs)


def run(config: Config) -> None:
    """Runs a stage as `ares.__main__` does, which prints an AresError and ends with exit code 2."""
    with disk_errors():
        validate(config)
        if config.stage.name == "prepare":
            prepare_alone(config)
        elif config.stage.name == "export":
            export(config)
        else:
            run_stage(config)


@contextlib.contextmanager
def out_of_space(limit: int = 2**12) -> Iterator[None]:
    """No file can grow beyond `limit` bytes inside, whichever library writes it."""
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
