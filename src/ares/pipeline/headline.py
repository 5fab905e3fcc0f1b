"""The metrics in a step's last line."""

from ares.pipeline.plan import Step
from ares.steps.common.contract import StepResult

_HEADLINE = 6  # metrics that a step's last line prints
_PERCENTAGES = ("accuracy", "direct_answer")  # beginnings of the names of those in percent already
# Metrics in [0, 1] that are shares of something, by the last part of their names.
SHARES = frozenset(
    [
        "supporting",
        "irrelevant",
        "false",
        "invented",
        "repeated",
        "repetition",
        "truncated",
        "quarantined",
        "empty",
        "changed",
        "deduplicated",
        "a_wins",
        "b_wins",
        "ties",
        "a_wins_without_ties",
        "order_decides",
        "clip_fraction",
        "right",
        "solved",
        "unreadable",
        "approval",
    ]
)
_SCORES = frozenset(["accuracy", "bleu1", "bleu4", "rouge_l", "similarity"])  # in [0, 1], too
_SMALLEST = 1e-12


def headline(step: Step, result: StepResult) -> str:
    """The metrics that a step's last line prints."""
    names = [name for name in step.spec.headline or result.metrics if name in result.metrics][:_HEADLINE]
    return "".join(f"{name} {_shown(name, result.metrics[name])} · " for name in names)


def _shown(name: str, value: float) -> str:
    """A metric as it is printed: shares as percentages, and what is as good as zero as 0."""
    if name.startswith(_PERCENTAGES):
        return f"{value:.4g} %"
    if name.rpartition("/")[2] in SHARES | _SCORES:
        return f"{round(100 * value, 2):.4g} %"
    return f"{value:.4g}" if abs(value) >= _SMALLEST else "0"
