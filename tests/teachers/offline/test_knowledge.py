"""What the reference Teacher makes of single sentences, on problems of its own."""

import pytest

from ares.teachers.offline.knowledge import Knowledge
from ares.teachers.offline.lexicon import stem, tokenize
from ares.teachers.offline.readings import Material
from ares.teachers.offline.repair import assess_all, repair

LIGHTHOUSE = Material(
    question="How tall is the lighthouse of Brill?",
    hint="The lighthouse has 3 floors.",
    choices=("12 meters", "15 meters", "20 meters"),
    answer=1,
    lecture="A floor is the part of a house between two ceilings. The height of a house grows with its floors.",
    solution=(
        "The lighthouse of Brill has three green floors. The tower of Tamm has seven grey floors. "
        "Each floor is 5 meters tall. Three floors of 5 meters are 15 meters. "
        "So the lighthouse of Brill is 15 meters tall, choice (B)."
    ),
)
METALS = Material(
    question="In which state is the mercury?",
    hint="",
    choices=("solid", "liquid", "gas"),
    answer=1,
    lecture="A solid holds its form. A liquid runs but fills the same room. A gas fills any room.",
    solution="The mercury runs but fills the same room. What runs is a liquid. So the mercury is a liquid.",
)


@pytest.fixture(scope="module")
def tower() -> Knowledge:
    return Knowledge(LIGHTHOUSE)


@pytest.mark.parametrize(
    ("sentence", "low", "high"),
    [
        # as the solution says it
        ("So the lighthouse of Brill is 15 meters tall, choice (B).", 1.0, 1.0),
        ("Each floor is 5 meters tall.", 0.9, 0.9),
        # in other words
        ("We count three green floors at the lighthouse in Brill.", 0.7, 0.9),
        ("In Brill the lighthouse reaches 15 meters.", 0.7, 1.0),
        # true, but only said again
        ("A floor is the part of a house between two ceilings.", 0.5, 0.5),
        ("The lighthouse has 3 floors.", 0.5, 0.5),
        # another number, colour, name, letter
        ("The lighthouse of Brill has seven green floors.", 0.0, 0.0),
        ("The lighthouse of Brill has three grey floors.", 0.0, 0.0),
        ("The lighthouse of Tamm has three green floors.", 0.0, 0.0),
        ("So the lighthouse of Brill is 15 meters tall, choice (A).", 0.0, 0.0),
        ("So the lighthouse of Brill is 20 meters tall, choice (C).", 0.0, 0.0),
        ("Three floors of 5 meters are 20 meters.", 0.0, 0.0),
        # about something else, cut off, or nothing
        ("Whales feed their young with milk.", 0.1, 0.1),
        ("So the lighthouse of Brill is", 0.2, 0.2),
        ("", 0.1, 0.1),
        ("...", 0.1, 0.1),
    ],
)
def test_scores(tower, sentence, low, high):
    assert low <= tower.assess(sentence).score <= high


def test_scores_are_tenths(tower):
    text = "The lighthouse of Brill has three green floors and 5 meters."
    for end in range(1, len(text)):
        score = tower.assess(text[:end] + ".").score
        assert score == round(score, 1)


def test_what_describes_another_choice_is_false():
    metals = Knowledge(METALS)
    assert metals.assess("The mercury holds its form.").score == 0
    assert metals.assess("What holds its form is a liquid.").score == 0
    assert metals.assess("A solid holds its form.").score == 0.5
    assert metals.assess("The mercury is a liquid.").score >= 0.7


def test_order_decides_in_comparisons():
    material = Material(
        question="Which lamp is brighter?",
        hint="",
        choices=("lamp P", "lamp Q"),
        answer=0,
        lecture="",
        solution="Lamp P has more light than lamp Q. So lamp P is brighter.",
    )
    lamps = Knowledge(material)
    assert lamps.assess("Lamp P has more light than lamp Q.").score >= 0.9
    assert lamps.assess("Lamp Q has more light than lamp P.").score == 0


def test_without_an_answer_only_the_solution_speaks():
    knowledge = Knowledge(Material("Is it red?", "", ("yes", "no"), None, "", "The ball is red."))
    assert knowledge.assess("The ball is red.").score == 0.9
    assert knowledge.assess("The ball is blue.").score == 0
    assert (knowledge.answer, knowledge.conclusion) == ("", "")


def test_a_repeated_sentence_scores_nothing(tower):
    sentences = [
        "Each floor is 5 meters tall.",
        "The lighthouse has 3 floors.",
        "So each floor is 5 meters tall!",
    ]
    assert [assessment.score for assessment in assess_all(tower, sentences)] == [0.9, 0.5, 0.0]


def mend(knowledge: Knowledge, *sentences: str) -> str:
    return repair(knowledge, " ".join(sentences), sentences)


def test_false_values_are_replaced_in_the_writers_words(tower):
    mended = mend(tower, "We count three grey floors in Brill.", "So it is 15 meters, choice (C).")
    assert mended == "We count three green floors in Brill. So it is 15 meters, choice (B)."
    mended = mend(
        tower, "Each floor is 12 meters tall.", "Thus the lighthouse of Brill has 12 meters, choice (A)."
    )
    assert mended == "Each floor is 5 meters tall. Thus the lighthouse of Brill has 15 meters, choice (B)."


def test_what_is_repeated_or_unrelated_goes_and_a_conclusion_comes(tower):
    repaired = mend(
        tower, "Each floor is 5 meters tall.", "Whales drink milk.", "Each floor is 5 meters tall."
    )
    assert (
        repaired == "Each floor is 5 meters tall. So the lighthouse of Brill is 15 meters tall, choice (B)."
    )


def test_a_true_rationale_comes_back_as_it_is(tower):
    rationale = "Solution:  Each floor is 5 meters tall.  The lighthouse has 3 floors."
    sentences = ["Each floor is 5 meters tall.", "The lighthouse has 3 floors."]
    assert repair(tower, rationale, sentences) == rationale


def test_a_repair_is_never_the_solution_itself(tower):
    sentences = [unit.text for unit in tower.solution]
    assert sentences[2] == "Each floor is 5 meters tall."
    sentences[2] = "Each floor is 6 meters tall."
    repaired = mend(tower, *sentences)
    assert repaired != LIGHTHOUSE.solution
    assert all(sentence in repaired for sentence in sentences if sentence != "Each floor is 6 meters tall.")


def test_an_empty_rationale_gets_a_step_and_the_conclusion(tower):
    assert mend(tower) == (
        "Each floor is 5 meters tall. So the lighthouse of Brill is 15 meters tall, choice (B)."
    )


def test_articles_follow_the_word_put_in():
    solution = "Rex barks. So Rex is an animal, choice (A)."
    knowledge = Knowledge(Material("What is Rex?", "", ("animal", "plant"), 0, "", solution))
    mended = mend(knowledge, "Rex barks.", "Thus Rex is a plant, choice (B).")
    assert mended == "Rex barks. Thus Rex is an animal, choice (A)."


@pytest.mark.parametrize(
    ("one", "other"), [("magnets", "magnet"), ("stopped", "stop"), ("stories", "story"), ("growing", "grows")]
)
def test_stems_that_agree(one, other):
    assert stem(one) == stem(other)


def test_tokens():
    tokens = tokenize("It's 1,300 m/s at 2.5 km. The dog's (B) isn’t red-hot.")
    assert [token.text for token in tokens] == [
        *("it", "1300", "m", "s", "at", "2.5", "km", "the", "dog", "(b)", "not", "red-hot"),
    ]
    assert [token.text for token in tokens if token.initial] == ["it", "the"]
