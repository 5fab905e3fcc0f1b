"""The kinds of question, one file each, with its texts and sentence templates in YAML.

Pictures and words alternate, so that any prefix is half and half.
"""

from ares.data.sample.items import Kind
from ares.data.sample.kinds import flags, grammar, magnets, maps, resources, states, tenses, thermometer

KINDS: tuple[Kind, ...] = (
    *(maps.KIND, grammar.KIND, thermometer.KIND, states.KIND),
    *(flags.KIND, tenses.KIND, magnets.KIND, resources.KIND),
)
