"""The vocabulary of the sample data set: one pool of words per slot; pools that a question mixes are disjoint.

The pools are small, and a question is about one person, so that a tiny model sees every word often.
"""

PERSONS = ("Ada", "Ben", "Cleo", "Dan", "Ella", "Finn", "Gus", "Hana", "Ivo", "June", "Kofi", "Lena")
ANIMALS = ("goat", "horse", "kitten", "puppy", "duck", "rabbit", "parrot", "turtle")

SUBSTANCES_BY_STATE = {
    "solid": ("brick", "coin", "marble", "nail", "ruby"),
    "liquid": ("milk", "honey", "juice", "ink", "oil"),
    "gas": ("steam", "helium", "oxygen", "neon", "methane"),
}
STATE = {substance: state for state, group in SUBSTANCES_BY_STATE.items() for substance in group}
CONTAINERS = ("jar", "box", "bowl", "bag", "tank", "cup")

RESOURCES_BY_CLASS = {
    "natural": ("water", "wood", "soil", "clay", "sand"),
    "human": ("baker", "driver", "tailor", "farmer", "painter"),
    "capital": ("oven", "truck", "needle", "plow", "brush"),
}
RESOURCE = {resource: name for name, group in RESOURCES_BY_CLASS.items() for resource in group}

NUMERALS = ("one", "two", "three", "four")
# The values of the marks, lowest first; in words, since a tokenizer may split digits.
SCALES = {
    "fives": ("five", "ten", "fifteen", "twenty"),
    "tens": ("ten", "twenty", "thirty", "forty"),
    "twenties": ("twenty", "forty", "sixty", "eighty"),
}

# What may stand in a slot of a template.
DOMAINS: dict[str, tuple[str, ...]] = {
    "person": PERSONS,
    "animal": ANIMALS,
    "substance": tuple(STATE),
    "resource": tuple(RESOURCE),
    "color": ("red", "green", "blue", "pink"),
    "side": ("left", "right"),
    "likeness": ("alike", "different"),
    "action": ("attract", "repel"),
    "level": NUMERALS,
    "scale": tuple(SCALES),
    "degrees": ("five", "ten", "fifteen", "twenty", "thirty", "forty", "sixty", "eighty"),
    "vhalf": ("upper", "lower"),
    "direction": ("northwest", "northeast", "southwest", "southeast"),
    "meaning": ("courage", "forest", "sea", "friendship"),
    "ending": ("a full stop", "a question mark", "an exclamation mark"),
    "form": ("declarative", "interrogative", "imperative", "exclamatory"),
    "purpose": ("tells a fact", "asks for an answer", "gives an order", "shows strong feeling"),
    "tense": ("past", "present", "future"),
    "moment": ("before now", "these days", "after now"),
    "behaviour": ("keeps its own shape", "flows but keeps its volume", "spreads to fill all space"),
    "state": ("solid", "liquid", "gas"),
    "origin": ("comes from nature", "is a person at work", "is made to make goods"),
    "class": ("natural", "human", "capital"),
    "count": NUMERALS,
    "length": ("longer", "shorter"),
    "order": ("first", "last"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "city": ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Tokyo"),
    "letter": ("A", "B", "C", "D"),
}
