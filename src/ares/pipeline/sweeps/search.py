"""Which settings a sweep tries: every combination of what is listed, or a number of random draws."""

import itertools
import math
import random
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from ares.types import AresError

# What one job sets: (key, value) in Hydra's syntax, in the order of the command line.
Setting = tuple[tuple[str, str], ...]


def settings_of(
    arguments: Sequence[str], *, samples: int | None, seed: int
) -> tuple[list[str], list[Setting]]:
    """The overrides that all jobs have, and what each job sets.

    A later argument replaces an earlier one of the same key. `samples=None` gives every combination; a number
    gives as many draws from `seed`: lists and ranges uniformly, `interval(a, b)` uniformly and
    `tag(log, interval(a, b))` uniformly in the logarithm. Raises AresError where nothing is swept, or an
    interval is to be tried exhaustively.
    """
    overrides = {o.key_or_group: o for o in OverridesParser.create().parse_overrides(list(arguments))}
    fixed = [str(o.input_line) for o in overrides.values() if not o.is_sweep_override()]
    swept = {key: o for key, o in overrides.items() if o.is_sweep_override()}
    if not swept:
        raise AresError(
            "-m sweeps over values and none are given; try rl.kl_coef=0,0.01,0.1, or leave -m out."
        )
    if samples is not None:
        return fixed, draws(swept, samples, seed)
    intervals = [key for key, override in swept.items() if not override.is_discrete_sweep()]
    if intervals:
        raise AresError(
            f"{', '.join(intervals)}: an interval has no end of values; draw some with sweep.samples=<number>."
        )
    lists = [[(key, text) for text in _distinct(override)] for key, override in swept.items()]
    return fixed, list(itertools.product(*lists))


def _distinct(override: Override) -> list[str]:
    # By their values: 0.1 and 1e-1 are one job.
    texts = list(override.sweep_string_iterator())
    values = [value if isinstance(value, int | float) else None for value in override.sweep_iterator()]
    found: dict[object, str] = {}
    for text, value in zip(texts, values, strict=True):
        found.setdefault(text if value is None else value, text)
    return list(found.values())


def draws(swept: dict[str, Override], samples: int, seed: int) -> list[Setting]:
    """`samples` settings, each key drawn by itself; those of a smaller number are the first of a larger one's."""
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
        raise AresError(f"{override.key_or_group}: a logarithmic interval starts above 0, not at {low}.")
    return f"{math.exp(generator.uniform(math.log(low), math.log(high))):.6g}"
