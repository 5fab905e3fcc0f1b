"""The oracle of the generated data set: labeling sentences and repairing rationales."""

import random
from collections import Counter
from pathlib import Path

import pytest

from ares.data.sample import Item, generate, read_sample, write_sample
from ares.data.sample.kinds import KINDS
from ares.data.sample.oracle import TRUE, label, label_sentences, parse, repair
from ares.data.sample.remarks import REMARKS
from ares.text.sentences import sentences_of, split_sentences
from ares.types import AresError
from tests.support.sample import RELATIONS, statements

MAXIMS = [relation for relation in RELATIONS.values() if relation.sole]
SIZES = {"train": 240, "val": 0, "test": 80}


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return generate(SIZES, 7)


def of_kind(items: list[Item], kind: str) -> Item:
    return next(item for item in items if item.truth.kind == kind)


def test_gold_sentences_are_true_and_the_needed_ones_supporting(items: list[Item]) -> None:
    optional = {relation.name for relation in RELATIONS.values() if relation.optional}
    for item in items:
        labels = label_sentences(item.truth, sentences_of(item.problem.solution))
        assert labels == [
            "irrelevant" if fact.relation in optional else "supporting" for fact in item.truth.steps
        ]


@pytest.mark.parametrize("templates", ["gold", "paraphrase"])
def test_labels_of_made_up_true_and_false_statements(items: list[Item], templates: str) -> None:
    remarks = {remark.name for remark in REMARKS}
    for item in items:
        made = statements(item, templates=templates)
        assert [truth for _, truth in made] == [True, False] * len(item.truth.steps)
        for sentence, truth in made:
            invented = parse(sentence).relation in remarks
            assert label(item.truth, sentence) in (
                TRUE if truth else ("invented" if invented else "false",)
            ), sentence
            assert len(split_sentences(sentence)) == 1, sentence


def test_paraphrases_use_no_gold_template() -> None:
    gold = {template for relation in RELATIONS.values() for template in relation.gold}
    paraphrases = [template for relation in RELATIONS.values() for template in relation.paraphrase]
    assert len(set(paraphrases)) == len(paraphrases)
    assert not gold & set(paraphrases)


def test_all_templates_of_a_relation_have_the_same_slots() -> None:
    for relation in RELATIONS.values():
        for template in (*relation.gold, *relation.paraphrase):
            for slot in relation.slots:
                assert f"{{{slot}}}" in template, template
            assert template.count("{") == len(relation.slots), template
        assert set(relation.key) <= set(relation.slots)


def test_parse_inverts_write(items: list[Item]) -> None:
    for item in items[:100]:
        for fact, sentence in zip(item.truth.steps, sentences_of(item.problem.solution), strict=True):
            assert parse(sentence) == fact


def test_maxims_are_irrelevant_truths_of_their_kind(items: list[Item]) -> None:
    assert len(MAXIMS) >= 6
    for kind in KINDS:
        for maxim in (relation for relation in kind.relations if relation.sole):
            for item in (item for item in items if item.truth.kind == kind.name):
                for template in (*maxim.gold, *maxim.paraphrase):
                    assert label(item.truth, template.format(**maxim.sole)) == "irrelevant"


def test_unsaid_optional_facts_are_true_but_irrelevant(
    items: list[Item],
) -> None:
    optional = {relation.name for relation in RELATIONS.values() if relation.optional}
    said = [fact for item in items for fact in item.truth.steps if fact.relation in optional]
    unsaid = [(item, fact) for item in items for fact in item.truth.unsaid]
    assert {fact.relation for _, fact in unsaid} == optional
    assert 0.6 <= len(said) / (len(said) + len(unsaid)) <= 0.7
    for item, fact in unsaid:
        sentence = RELATIONS[fact.relation].write(fact.slots, random.Random(0))
        assert label(item.truth, sentence) == "irrelevant"
        assert sentence not in item.problem.solution


def test_remarks_are_not_predictable_from_the_question(items: list[Item]) -> None:
    """Neither the prompt's words nor the answer go with the day or the city of a question."""
    for remark, slot in zip(REMARKS, ("day", "city"), strict=True):
        drawn: dict[tuple[str, str], Counter[str]] = {}
        for item in items:
            [fact] = [f for f in (*item.truth.steps, *item.truth.unsaid) if f.relation == remark.name]
            assert fact.slots[slot] not in item.problem.question + item.problem.lecture
            for given in (item.truth.kind, fact.slots["person"], str(item.problem.answer)):
                drawn.setdefault((given, slot), Counter())[fact.slots[slot]] += 1
        for counts in drawn.values():
            assert max(counts.values()) <= 0.5 * sum(counts.values()) + 2


def test_sentences_of_other_problems_are_seldom_supporting(items: list[Item]) -> None:
    found: Counter[str] = Counter()
    for item, other in zip(items, items[1:] + items[:1], strict=True):
        for sentence in sentences_of(other.problem.solution):
            found[label(item.truth, sentence)] += 1
    assert found["supporting"] == 0  # neighbors are of different kinds
    assert found["invented"] >= 0.4 * found.total()
    same_kind: Counter[str] = Counter()
    for item, other in zip(items, items[len(KINDS) :], strict=False):
        if item.truth.kind == other.truth.kind:
            for sentence in sentences_of(other.problem.solution):
                same_kind[label(item.truth, sentence)] += 1
    assert same_kind["supporting"] <= 0.25 * same_kind.total()


def test_right_answer_with_wrong_letter_is_false(items: list[Item]) -> None:
    for item in items[:40]:
        conclusion = sentences_of(item.problem.solution)[-1]
        right = "ABCD"[item.problem.answer]
        for letter in "ABCDEFG":
            found = label(item.truth, conclusion.replace(f"({right})", f"({letter})"))
            assert found == ("supporting" if letter == right else "false" if letter in "ABCD" else "invented")


def test_rule_that_never_holds_is_false_everywhere_and_a_true_rule_irrelevant(items: list[Item]) -> None:
    for kind in ("maps", "grammar", "magnets"):
        truth = of_kind(items, kind).truth
        assert label(truth, "Two ends that are alike always attract.") == "false"
        assert label(truth, "Mark three in tens means twenty degrees.") == "false"
    assert label(of_kind(items, "grammar").truth, "Two ends that are alike always repel.") == "irrelevant"


def test_statement_about_another_person_is_invented(items: list[Item]) -> None:
    truth = of_kind(items, "thermometer").truth
    level = next(fact.slots for fact in truth.steps if fact.relation == "red_level")
    other = "Ben" if level["person"] != "Ben" else "Ada"
    template = "The red column of {} reaches mark {}."
    wrong = "one" if level["level"] != "one" else "four"
    assert label(truth, template.format(level["person"], level["level"])) == "supporting"
    assert label(truth, template.format(other, level["level"])) == "invented"
    assert label(truth, template.format(level["person"], wrong)) == "false"


def test_wrong_remark_is_invented_and_the_right_one_irrelevant(items: list[Item]) -> None:
    for item in items[:20]:
        [home] = [fact for fact in item.truth.facts if fact.relation == "home"]
        person, city = home.slots["person"], home.slots["city"]
        assert label(item.truth, f"In {city} lives {person}.") == "irrelevant"
        assert label(item.truth, f"In {'Rome' if city != 'Rome' else 'Oslo'} lives {person}.") == "invented"


@pytest.mark.parametrize(
    "text",
    [
        "Clouds drift over the quiet valley.",
        "  The magnet is a happy degree . ",
        "The red column of",
        "So it.",
        "",
    ],
)
def test_other_text_is_invented(items: list[Item], text: str) -> None:
    assert label(items[0].truth, text) == "invented"


def test_restatement_in_other_words_is_repeated(items: list[Item]) -> None:
    for item in items[:40]:
        gold, other = (statements(item, templates=templates)[0][0] for templates in ("gold", "paraphrase"))
        first = label(item.truth, gold)
        assert label_sentences(item.truth, [gold, other, gold]) == [first, "repeated", "repeated"]
        assert label_sentences(item.truth, ["Half a", "Half a"]) == ["invented", "repeated"]


def test_repair_keeps_what_is_true(items: list[Item]) -> None:
    for item in items:
        solution = sentences_of(item.problem.solution)
        assert repair(item.truth, solution) == solution


def test_repair_leaves_true_sentences_with_the_conclusion_and_nothing_else(items: list[Item]) -> None:
    rng = random.Random(0)
    for item, other in zip(items, items[8:] + items[:8], strict=True):
        own = [sentence for sentence, _ in statements(item)]
        spoilt = rng.sample([*own, *sentences_of(other.problem.solution), "Cut off in"], 6) * 2
        repaired = repair(item.truth, spoilt)
        assert set(label_sentences(item.truth, repaired)) <= set(TRUE)
        assert any(parse(sentence) == item.truth.steps[-1] for sentence in repaired)
        assert sentences_of(" ".join(repaired)) == repaired


def test_repair_restates_a_false_sentence_in_its_own_words(items: list[Item]) -> None:
    truth = of_kind(items, "thermometer").truth
    facts = {fact.relation: fact.slots for fact in truth.steps}
    person, level = facts["red_level"]["person"], facts["red_level"]["level"]
    wrong = "one" if level != "one" else "four"
    conclusion = RELATIONS["degrees_answer"].gold[0].format(**facts["degrees_answer"])
    said = [f"We see that {person} has red up to mark {wrong}.", f"In Rome lives {person}x."]
    assert repair(truth, said) == [f"We see that {person} has red up to mark {level}.", conclusion]
    assert repair(truth, []) == [conclusion]


def test_spaces_of_a_tokenizer_do_not_matter(items: list[Item]) -> None:
    for item in items[:20]:
        for sentence, _ in statements(item):
            spaced = " ".join(sentence.replace("(", "( ").replace(")", " )").replace(".", " .").split())
            assert label(item.truth, spaced.replace(",", " ,")) == label(item.truth, sentence)


def test_problems_read_from_files_carry_the_generated_truth(tmp_path: Path) -> None:
    sizes = {"train": 24, "val": 0, "test": 0}
    write_sample(tmp_path, sizes=sizes, seed=2)
    problems, _ = read_sample(tmp_path)
    for item in generate(sizes, 2):
        assert problems[item.problem.pid].truth == item.truth
    with pytest.raises(AresError, match=r"facts\.json is missing"):
        read_sample(tmp_path / "nowhere")
