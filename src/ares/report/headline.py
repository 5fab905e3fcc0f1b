"""The head of the report: what changed in rationales and answers, the judge's verdict, money and time."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ares.charts import number
from ares.evaluation.assessment import Assessment
from ares.evaluation.statistics import paired_bootstrap, share_interval
from ares.pipeline.headline import SHARES
from ares.pipeline.manifest import StepEntry
from ares.storage.files import read_json
from ares.storage.tables import read_predictions
from ares.types import Prediction

_PERCENT = frozenset({"accuracy", "direct_answer"})  # metrics that are percentages already


@dataclass(frozen=True)
class HeadlineNumber:
    """One headline number as text: `value` includes its unit; `note` states the sample."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Scored:
    """The answers of one place (`baseline` or `final`): its scores.json, and the predictions by pid."""

    scores: Mapping[str, Any]
    predictions: Mapping[str, Prediction]


def shown(name: str, value: float | None) -> str:
    """A metric as text: shares in percent, anything else with four significant digits."""
    if value is None:
        return "–"
    if name == "val/accuracy" or name.rsplit("/", 1)[-1] in SHARES:
        return percent(value)
    return f"{value:.1f}\u00a0%" if name.split("/")[0] in _PERCENT else number(value)


def percent(share: float) -> str:
    """A share in [0, 1] in percent, with one decimal; a small one with two or three."""
    value = 100 * share
    digits = 1 if value == 0 or abs(value) >= 0.095 else 2 if abs(value) >= 0.0095 else 3
    return f"{value:.{digits}f}\u00a0%".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the two largest of hours, minutes and seconds; no line breaks between a number and its unit."""
    if seconds < 59.95:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if hours else f"{minutes}\u00a0min {rest}\u00a0s"


def scored_at(root: Path, steps: Mapping[str, StepEntry], place: str) -> Scored | None:
    """The answers of `baseline` or `final`, None if they have not been evaluated."""
    if f"{place}/evaluate" not in steps:
        return None
    scores = read_json(root / steps[f"{place}/evaluate"].outputs["scores"].path)
    output = steps[f"{place}/lora"].outputs["predictions"] if f"{place}/lora" in steps else None
    rows = read_predictions(root / output.path) if output else []
    return Scored(scores, {row.pid: row for row in rows})


def method_of(steps: Collection[str]) -> str:
    """What trained the policy on sampled rationales: RL or preferences."""
    return "preferences" if any(key.endswith("/prefer") for key in steps) else "RL"


def policy_name(key: str, method: str = "RL") -> str:
    """The display name of the policy that a step assessed."""
    place = key.removesuffix("/assess")
    return {"rationale": f"before {method}", "final": "after SFT"}.get(
        place, f"after {method} ({place.replace('-', ' ')})"
    )


def headline(
    steps: Mapping[str, StepEntry],
    assessed: Mapping[str, Sequence[Assessment]],
    without: Scored | None,
    with_ares: Scored | None,
) -> list[HeadlineNumber]:
    """The numbers at the head of the page: rationales, accuracy, wins, direct answers, money and time, where known."""
    found = [*_rationales(assessed, method_of(steps)), *_accuracy(without, with_ares), *_wins(steps)]
    if with_ares and with_ares.scores["direct_answer"] is not None:
        both = [scored.scores["direct_answer"] for scored in (without, with_ares) if scored]
        note = "VQA accuracy of the chosen options' texts, difficult questions left out"
        found.append(HeadlineNumber("Direct answers", " → ".join(f"{x:.1f}\u00a0%" for x in both), note))
    usd, requests = (sum(getattr(step, name) for step in steps.values()) for name in ("usd", "requests"))
    seconds = duration(sum(entry.seconds for entry in steps.values()))
    note = f"{_counted(requests, 'request')} to the Teacher; {_counted(len(steps), 'step')} in {seconds}"
    return [*found, HeadlineNumber("Cost", f"${usd:,.2f}", note)]


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _rationales(assessed: Mapping[str, Sequence[Assessment]], method: str) -> list[HeadlineNumber]:
    """The quality of the rationales by policy, and what `method` and all of ARES gain on the same questions."""
    values = {
        key: {row.pid: row.quality for row in rows if row.quality is not None}
        for key, rows in assessed.items()
    }
    if not values or not all(values.values()):
        return []
    exact = any(row.labels is not None for rows in assessed.values() for row in rows)
    first, *_, last = [*values, *values]
    names = [policy_name(key, method) for key in ([first] if len(values) == 1 else [first, last])]
    note = f"{len(values[first]):,} val rationales {' → '.join(names)}"
    before = values.get("rationale/assess", {})
    for name, key in ((method, "round-1/assess"), ("in all", "final/assess")):
        if pids := [pid for pid in before if pid in values.get(key, {})]:
            gain = paired_bootstrap([before[p] for p in pids], [values[key][p] for p in pids], seed=0)
            note += f"; {name} {interval(gain, scale=100 if exact else 1)}"
    means = [fmean(own.values()) for own in values.values()]
    ends = [means[0], means[-1]] if len(means) > 1 else means
    value = " → ".join(percent(mean) if exact else f"{mean:.3f}" for mean in ends)
    return [HeadlineNumber("Supporting sentences" if exact else "ROUGE-L", value, note)]


def _accuracy(without: Scored | None, with_ares: Scored | None) -> list[HeadlineNumber]:
    scored = with_ares or without
    if scored is None:
        return []
    average, questions = scored.scores["accuracy"]["AVG"], scored.scores["questions"]
    note, value = f"{questions:,} {scored.scores['split']} questions", f"{average:.1f}\u00a0%"
    if without and with_ares:
        value = f"{without.scores['accuracy']['AVG']:.1f}\u00a0% → {value}"
        note += ", the same adapter without → with ARES"
        before, after = without.predictions, with_ares.predictions
        if pids := [pid for pid in before if pid in after]:
            gain = paired_bootstrap(
                [before[p].correct for p in pids], [after[p].correct for p in pids], seed=0
            )
            note += f"; {interval(gain, scale=100)}"
    else:
        low, high = share_interval(round(average / 100 * questions), questions)
        note += f"; 95\u00a0% interval {100 * low:.1f} to {100 * high:.1f}"
    if (majority := scored.scores["majority"]) is not None:
        note += f"; always the most frequent choice: {majority:.1f}\u00a0%"
    return [HeadlineNumber("Accuracy", value, note)]


def _wins(steps: Mapping[str, StepEntry]) -> list[HeadlineNumber]:
    """How often the judge prefers the rationale after ARES."""
    if "final/judge" not in steps:
        return []
    entry = steps["final/judge"]
    wins, losses, ties = (entry.metrics[name] for name in ("a_wins", "b_wins", "ties"))
    teacher = entry.settings.get("teacher", {}).get("fingerprint", {})
    other = entry.inputs["against"].path if "against" in entry.inputs else "the policy before RL"
    note = (
        f"of the decided; {percent(wins)} won, {percent(losses)} lost, {percent(ties)} tied against {other}; judged by "
        f"{teacher.get('model') or teacher.get('name', 'the Teacher')} in both orders"
    )
    rate = wins / (wins + losses) if wins + losses else None
    return [HeadlineNumber("Rationales won", "–" if rate is None else percent(rate), note)]


def interval(gain: tuple[float, float, float], *, scale: float) -> str:
    """A mean gain and its 95 % interval as text; `scale=100` gives percentage points."""
    digits = 1 if scale == 100 else 3
    mean, low, high = (f"{scale * value:+.{digits}f}".replace("-", "−") for value in gain)
    unit = " points" if scale == 100 else ""
    return f"{mean}{unit}, 95\u00a0% interval {low} to {high}"
