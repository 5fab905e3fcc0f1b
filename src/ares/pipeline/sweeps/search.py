"""The settings that a sweep tries: every combination of the listed values, or a number of random draws."""

import itertools
import math
import random
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from ares.types import AresError

# The settings of one job: (key, value) in Hydra's syntax, in the order of the command line.
Setting = tuple[tuple[str, str], ...]


def settings_of(
    arguments: Sequence[str], *, samples: int | None, seed: int
) -> tuple[list[str], list[Setting]]:
    """The overrides that all jobs have in common, and the settings of each job.

    A later argument replaces an earlier one of the same key. `samples=None` gives every combination; a number
    gives that many draws with `seed`: lists and ranges uniformly, `interval(a, b)` uniformly and
    `tag(log, interval(a, b))` uniformly in the logarithm. Raises AresError if nothing is swept, and for an interval
    without `samples` or with another tag than log.
    """
    overrides = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(list(arguments))}
    fixed = [str(o.input_line) for o in overrides.values() if not o.is_sweep_override()]
    swept = {key: o for key, o in overrides.items() if o.is_sweep_override()}
    if not swept:
        raise AresError(
            "-m sweeps over several values, but no setting has them; try rl.kl_coef=0,0.01,0.1, or leave out -m."
        )
    for key, override in swept.items():
        if others := override.value().tags - {"log"}:  # type: ignore[union-attr]
            raise AresError(
                f"{key}: there is no tag {min(others)!r}; write tag(log, interval(a, b)), or no tag."
            )
    if samples is not None:
        return fixed, draws(swept, samples, seed)
    intervals = [key for key, override in swept.items() if not override.is_discrete_sweep()]
    if intervals:
        raise AresError(
            f"{', '.join(intervals)}: an interval has infinitely many values; draw some with sweep.samples=<number>."
        )
    lists = [[(key, text) for text in _distinct(override)] for key, override in swept.items()]
    return fixed, list(itertools.product(*lists))


def _distinct(override: Override) -> list[str]:
    # Compares values, not texts: 0.1 and 1e-1 are one job.
    texts = list(override.sweep_string_iterator())
    values = [value if isinstance(value, int | float) else None for value in override.sweep_iterator()]
    found: dict[object, str] = {}
    for text, value in zip(texts, values, strict=True):
        found.setdefault(text if value is None else value, text)
    return list(found.values())


def draws(swept: dict[str, Override], samples: int, seed: int) -> list[Setting]:
    """`samples` settings, each key drawn independently; a larger number starts with the draws of a smaller one."""
    generator = random.Random(seed)
    found = [
        tuple((key, _draw(override, generator)) for key, override in swept.items()) for _ in range(samples)
    ]
    return list(dict.fromkeys(found))


def _draw(override: Override, generator: random.Random) -> str:
    value = override.value()
    if not isinstance(value, IntervalSweep):
        return generator.choice(list(override.sweep_string_iterator()))
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if "log" not in value.tags:
        return f"{generator.uniform(low, high):.6g}"
    if low <= 0:
        raise AresError(f"{override.key_or_group}: a logarithmic interval must start above 0, not at {low}.")
    return f"{math.exp(generator.uniform(math.log(low), math.log(high))):.6g}"
