"""The kinds of question, one file each; pictures and words alternate, so that any prefix is half and half."""

from ares.data.sample.items import Kind
from ares.data.sample.kinds import (
    alphabet,
    flags,
    flasks,
    forces,
    grammar,
    magnets,
    maps,
    states,
    thermometer,
    trade,
)

KINDS: tuple[Kind, ...] = (
    *(maps.KIND, grammar.KIND, thermometer.KIND, forces.KIND, flags.KIND),
    *(alphabet.KIND, magnets.KIND, trade.KIND, flasks.KIND, states.KIND),
)
