"""What a run trained on: sampled rationales with scores and advantages, and preference pairs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ares.pipeline.manifest import StepEntry
from ares.storage.rollout_texts import read_pair_sentences, read_sentences
from ares.storage.tables import read_advantages, read_feedback
from ares.text.prompts import strip_solution


@dataclass(frozen=True)
class Sample:
    """A sampled rationale: per sentence the Teacher's score in [0, 1] and the advantage; None where unknown."""

    sentences: list[str]
    scores: list[float] | None
    advantages: list[float] | None


@dataclass(frozen=True)
class Preference:
    """A preference pair; `origin` as in `ares.types.Pair`."""

    origin: str
    chosen: Sample
    rejected: Sample


def last_round(steps: Mapping[str, StepEntry]) -> str:
    """The folder of a run's last round."""
    rounds = [int(key.split("/")[0].removeprefix("round-")) for key in steps if key.startswith("round-")]
    return f"round-{max(rounds, default=1)}"


def samples_of(root: Path, steps: Mapping[str, StepEntry], pids: Collection[str]) -> dict[str, list[Sample]]:
    """The sampled rationales of the last round by pid."""
    last = last_round(steps)
    rollouts = _output(root, steps, f"{last}/rollouts", "rollouts")
    if rollouts is None:
        return {}
    scores, advantages = {}, {}
    if path := _output(root, steps, f"{last}/score", "feedback"):
        scores = {row.row_id: [*row.scores] for row in read_feedback(path) if row.scores is not None}
    if path := _output(root, steps, f"{last}/ppo", "advantages"):
        rows = read_advantages(path)
        advantages = {row.row_id: [round(value, 3) for value in row.advantages] for row in rows}
    found: dict[str, list[Sample]] = {}
    for row_id, pid, sentences in read_sentences(rollouts, pids):
        sample = Sample(strip_solution(sentences), scores.get(row_id), advantages.get(row_id))
        found.setdefault(pid, []).append(sample)
    return found


def pairs_of(
    root: Path, steps: Mapping[str, StepEntry], pids: Collection[str]
) -> dict[str, list[Preference]]:
    """The preference pairs of the last round by pid."""
    path = _output(root, steps, f"{last_round(steps)}/pairs", "pairs")
    found: dict[str, list[Preference]] = {}
    if path is None:
        return found
    for pid, origin, sides in read_pair_sentences(path, pids):
        chosen, rejected = (Sample(strip_solution(sentences), scores, None) for sentences, scores in sides)
        found.setdefault(pid, []).append(Preference(origin, chosen, rejected))
    return found


def _output(root: Path, steps: Mapping[str, StepEntry], key: str, name: str) -> Path | None:
    output = steps[key].outputs.get(name) if key in steps else None
    return root / output.path if output else None
