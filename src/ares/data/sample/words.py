"""The words the sample data set is made of: one pool a slot, each word belonging to as few pools as possible."""

PERSONS = (
    *("Ada", "Ben", "Cleo", "Dan", "Ella", "Finn", "Gus", "Hana", "Ivo", "June"),
    *("Kofi", "Lena", "Milo", "Nora", "Omar", "Pia", "Quin", "Rosa", "Sami", "Tara"),
    *("Uma", "Vito", "Wren", "Yara", "Zane", "Abel", "Bela", "Cora", "Dara", "Emil"),
)
PLACES = (
    *("Avon", "Brill", "Corvo", "Dunmore", "Elsby", "Fenton", "Galva", "Harlow"),
    *("Inver", "Jarrow", "Kelso", "Lorne", "Marle", "Norby", "Oxley", "Penrith"),
    *("Quorn", "Ripley", "Selby", "Thorne", "Upton", "Varna", "Wexley", "Yarrow"),
)
LANDMARKS = ("mill", "school", "market", "harbor", "tower", "bridge", "chapel", "mine", "farm", "library")

# Five words an initial: distance in the alphabet is the only thing the initials share.
WORDS_BY_INITIAL = {
    "b": ("basket", "bell", "bottle", "boot", "bench"),
    "d": ("door", "drum", "desk", "doll", "dish"),
    "f": ("fern", "fork", "fence", "flute", "flag"),
    "h": ("hammer", "hat", "horn", "hook", "hedge"),
    "l": ("lamp", "ladder", "lemon", "leaf", "lock"),
    "p": ("pan", "pencil", "pillow", "plate", "pump"),
    "s": ("spoon", "stone", "scarf", "shell", "soap"),
    "w": ("wheel", "whistle", "wagon", "watch", "window"),
}
WORDS = tuple(word for words in WORDS_BY_INITIAL.values() for word in words)
INITIAL = {word: initial for initial, words in WORDS_BY_INITIAL.items() for word in words}

GOODS = (
    *("bread", "figs", "nuts", "tea", "rice", "salt", "wool", "corn"),
    *("beans", "cheese", "fish", "eggs", "paper", "cloth", "oats", "plums"),
)
ANIMALS = (
    "goat",
    "horse",
    "kitten",
    "puppy",
    "duck",
    "hen",
    "rabbit",
    "calf",
    "pony",
    "parrot",
    "lamb",
    "goose",
)

SUBSTANCES_BY_STATE = {
    "solid": ("brick", "coin", "marble", "nail", "ruby", "chalk", "pebble", "key"),
    "liquid": ("milk", "honey", "juice", "syrup", "vinegar", "ink", "broth", "oil"),
    "gas": ("steam", "helium", "air", "oxygen", "neon", "methane", "argon", "hydrogen"),
}
SUBSTANCES = tuple(substance for group in SUBSTANCES_BY_STATE.values() for substance in group)
STATE = {substance: state for state, group in SUBSTANCES_BY_STATE.items() for substance in group}
CONTAINERS = ("jar", "box", "bowl", "bag", "tank", "cup")

NUMERALS = ("one", "two", "three", "four")

# What may stand in a slot of a template: `{person2}` takes from "person".
DOMAINS: dict[str, tuple[str, ...]] = {
    "person": PERSONS,
    "place": PLACES,
    "landmark": LANDMARKS,
    "word": WORDS,
    "initial": tuple(WORDS_BY_INITIAL),
    "good": GOODS,
    "animal": ANIMALS,
    "substance": SUBSTANCES,
    "container": CONTAINERS,
    "colour": ("red", "green", "blue", "yellow", "pink", "black"),
    "pole": ("north", "south"),
    "likeness": ("alike", "different"),
    "action": ("attract", "repel"),
    "count": ("two", "four", "six"),
    "level": NUMERALS,
    "unit": ("2", "5", "10", "20"),
    "degrees": ("2", "4", "5", "6", "8", "10", "15", "20", "30", "40", "60", "80"),
    "grams": ("10", "20", "30", "40", "50", "60", "70", "80", "90"),
    "vhalf": ("upper", "lower"),
    "side": ("left", "right"),
    "direction": ("northwest", "northeast", "southwest", "southeast"),
    "stripe": ("top", "second", "third", "bottom"),
    "meaning": ("courage", "forest", "sea", "harvest", "friendship", "night"),
    "ending": ("full stop", "question mark", "exclamation mark"),
    "purpose": ("tell a fact", "ask for an answer", "give an order", "show strong feeling"),
    "form": ("declarative", "interrogative", "imperative", "exclamatory"),
    "behaviour": ("keeps its own shape", "flows but keeps its volume", "spreads to fill all space"),
    "state": ("solid", "liquid", "gas"),
    "letter": ("A", "B", "C", "D"),
}
