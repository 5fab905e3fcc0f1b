"""The engine of a step, and the greedy rationales that it writes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ares.config.schema import Config
from ares.steps.common.contract import StepContext
from ares.steps.common.inputs import examples_of, logs_folder
from ares.steps.common.prompts import warn_shortened
from ares.types import AresError, Problem, Rationale

if TYPE_CHECKING:
    from ares.engines.base import Engine
    from ares.models.policy import Policy


def check_engine(config: Config) -> tuple[str, ...]:
    """Raises AresError if the engine has no server, or one that cannot serve the model; no warnings."""
    if config.engine.name != "server":
        return ()
    found = []
    urls, command = (config.engine.arguments.get(name) for name in ("urls", "command"))
    if bool(urls) == bool(command):
        found.append(
            "engine=server: give either engine.urls (of running servers) or engine.command (which starts one)."
        )
    if not config.model.reads_images:
        found.append(
            f"engine=server serves vision-language models; with model={config.model.name} use engine=hf."
        )
    if config.model.arguments.get("quantization", "none") != "none":
        found.append(
            "engine=server: the server's model would not be quantized as the policy's; use model.quantization=none, or "
            "engine=hf."
        )
    if found:
        raise AresError("\n".join(found))
    return ()


@contextmanager
def engine_of(
    config: Config, context: StepContext, policy: "Policy", *, batch_size: int
) -> Iterator["Engine"]:
    """The configured engine with the step's policy, `batch_size` prompts at a time; to be used in a `with` block."""
    from ares.engines.base import EngineJob

    log = logs_folder(context.root, context.key) / "server.log"
    job = EngineJob(context.key, context.inputs["policy"], batch_size, log)
    with config.engine.build(policy, job) as engine:
        yield engine
    warn_shortened(policy.shortened)


def greedy_rationales(
    config: Config, context: StepContext, engine: "Engine", problems: Sequence[Problem], label: str
) -> list[Rationale]:
    """The engine's greedy rationales of problems, in the same order."""
    by_pid = {problem.pid: problem for problem in problems}
    responses = engine.greedy(
        examples_of(by_pid, by_pid, "QCM-E", config),
        max_new_tokens=config.generate.max_new_tokens,
        label=f"{context.key} {label}",
    )
    return [Rationale(**vars(response)) for response in responses]
