"""The oracle of the generated data set: judging sentences, and making up true and false ones."""

import random
from collections import Counter
from pathlib import Path

import pytest

from ares.data.sample import Item, Oracle, generate, statements, write_sample
from ares.data.sample.kinds import KINDS
from ares.data.sample.oracle import _parse
from ares.data.sample.remarks import REMARKS
from ares.text.sentences import split_sentences
from ares.types import AresError

RELATIONS = {r.name: r for kind in KINDS for r in kind.relations} | {r.name: r for r in REMARKS}
MAXIMS = [relation for relation in RELATIONS.values() if relation.sole]
SIZES = {"train": 240, "val": 0, "test": 80}


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return generate(SIZES, 7)


@pytest.fixture(scope="module")
def oracle(items: list[Item]) -> Oracle:
    return Oracle(items)


def of_kind(items: list[Item], kind: str) -> Item:
    return next(item for item in items if item.kind == kind)


def sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split_sentences(text)]


def test_every_gold_sentence_is_true(items: list[Item], oracle: Oracle) -> None:
    for item in items:
        for sentence in sentences(item.problem.solution):
            assert oracle.judge(item.problem.pid, sentence) == "true", sentence


@pytest.mark.parametrize("templates", ["gold", "paraphrase"])
def test_made_up_statements_are_judged_as_made(items: list[Item], oracle: Oracle, templates: str) -> None:
    for item in items:
        made = statements(item, templates=templates)
        assert made == oracle.statements(item.problem.pid, templates=templates)
        assert [truth for _, truth in made] == ["true", "false"] * len(item.steps)
        for sentence, truth in made:
            assert oracle.judge(item.problem.pid, sentence) == truth, sentence
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


def test_a_sentence_is_read_back_as_the_statement_it_was_written_from(items: list[Item]) -> None:
    for item in items[:100]:
        for fact, sentence in zip(item.steps, sentences(item.problem.solution), strict=True):
            assert _parse(sentence) == fact


def test_a_maxim_is_true_of_every_question_of_its_kind(items: list[Item], oracle: Oracle) -> None:
    assert len(MAXIMS) >= 6
    for kind in KINDS:
        for maxim in (relation for relation in kind.relations if relation.sole):
            for item in (item for item in items if item.kind == kind.name):
                for template in (*maxim.gold, *maxim.paraphrase):
                    assert oracle.judge(item.problem.pid, template.format(**maxim.sole)) == "true"


def test_two_thirds_of_the_optional_facts_are_said_the_others_are_true_all_the_same(
    items: list[Item], oracle: Oracle
) -> None:
    optional = {name for kind in KINDS for name in kind.optional} | {remark.name for remark in REMARKS}
    said = [fact for item in items for fact in item.steps if fact.relation in optional]
    unsaid = [(item, fact) for item in items for fact in item.unsaid]
    assert {fact.relation for _, fact in unsaid} == optional
    assert 0.6 <= len(said) / (len(said) + len(unsaid)) <= 0.7
    for item, fact in unsaid:
        sentence = RELATIONS[fact.relation].write(fact.slots, random.Random(0))
        assert oracle.judge(item.problem.pid, sentence) == "true"
        assert sentence not in item.problem.solution


def test_remarks_cannot_be_guessed(items: list[Item]) -> None:
    """Neither the prompt's words nor the answer go with the day or the city of a question."""
    for remark, slot in zip(REMARKS, ("day", "city"), strict=True):
        drawn: dict[tuple[str, str], Counter[str]] = {}
        for item in items:
            [fact] = [f for f in (*item.steps, *item.unsaid) if f.relation == remark.name]
            assert fact.slots[slot] not in item.problem.question + item.problem.lecture
            for given in (item.kind, fact.slots["person"], str(item.problem.answer)):
                drawn.setdefault((given, slot), Counter())[fact.slots[slot]] += 1
        for counts in drawn.values():
            assert max(counts.values()) <= 0.5 * sum(counts.values()) + 2


def test_sentences_of_other_problems_are_seldom_true(items: list[Item], oracle: Oracle) -> None:
    verdicts: Counter[str | None] = Counter()
    for item, other in zip(items, items[1:] + items[:1], strict=True):
        for sentence in sentences(other.problem.solution):
            verdicts[oracle.judge(item.problem.pid, sentence)] += 1
    assert verdicts["true"] <= 0.02 * sum(verdicts.values())
    same_kind: Counter[str | None] = Counter()
    step = len(KINDS)
    for item, other in zip(items, items[step:], strict=False):
        if item.kind == other.kind:
            for sentence in sentences(other.problem.solution):
                if not any(maxim.parse(sentence) for maxim in MAXIMS):
                    same_kind[oracle.judge(item.problem.pid, sentence)] += 1
    assert same_kind["true"] <= 0.25 * sum(same_kind.values())
    assert same_kind["irrelevant"] >= 0.4 * sum(same_kind.values())


def test_the_right_answer_with_a_wrong_letter_is_false(items: list[Item], oracle: Oracle) -> None:
    for item in items[:40]:
        conclusion = sentences(item.problem.solution)[-1]
        right = "ABCD"[item.problem.answer]
        for letter in "ABCDEFG":
            verdict = oracle.judge(item.problem.pid, conclusion.replace(f"({right})", f"({letter})"))
            assert verdict == ("true" if letter == right else "false" if letter in "ABCD" else "irrelevant")


def test_a_rule_that_never_holds_is_false_everywhere(items: list[Item], oracle: Oracle) -> None:
    for kind in ("maps", "grammar", "magnets"):
        pid = of_kind(items, kind).problem.pid
        assert oracle.judge(pid, "Two ends that are alike always attract.") == "false"
        assert oracle.judge(pid, "Mark three in tens means twenty degrees.") == "false"
    pid = of_kind(items, "grammar").problem.pid
    assert oracle.judge(pid, "Two ends that are alike always repel.") == "irrelevant"


def test_a_fact_about_an_unknown_person_is_irrelevant(items: list[Item], oracle: Oracle) -> None:
    item = of_kind(items, "thermometer")
    level = next(fact.slots for fact in item.steps if fact.relation == "red_level")
    other = "Yara" if level["person"] != "Yara" else "Ada"
    template = "The red column of {} reaches mark {}."
    assert oracle.judge(item.problem.pid, template.format(level["person"], level["level"])) == "true"
    assert oracle.judge(item.problem.pid, template.format(other, level["level"])) == "irrelevant"
    wrong = "one" if level["level"] != "one" else "four"
    assert oracle.judge(item.problem.pid, template.format(level["person"], wrong)) == "false"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Clouds drift over the quiet valley.", "irrelevant"),
        ("  The magnet is a happy degree . ", "irrelevant"),
        ("The red column of", None),
        ("column of the red.", None),
        ("So it.", None),
        ("", None),
    ],
)
def test_other_text(items: list[Item], oracle: Oracle, text: str, verdict: str | None) -> None:
    assert oracle.judge(items[0].problem.pid, text) == verdict


def test_spaces_of_a_tokenizer_do_not_matter(items: list[Item], oracle: Oracle) -> None:
    for item in items[:20]:
        for sentence, truth in statements(item):
            spaced = " ".join(sentence.replace("(", "( ").replace(")", " )").replace(".", " .").split())
            assert oracle.judge(item.problem.pid, spaced.replace(",", " ,")) == truth


def test_an_oracle_of_files_judges_as_one_in_memory(tmp_path: Path) -> None:
    sizes = {"train": 24, "val": 0, "test": 0}
    write_sample(tmp_path, sizes=sizes, seed=2)
    loaded = Oracle.load(tmp_path)
    for item in generate(sizes, 2):
        for sentence, truth in statements(item, templates="paraphrase"):
            assert loaded.judge(item.problem.pid, sentence) == truth
    with pytest.raises(AresError, match=r"facts\.json is missing"):
        Oracle.load(tmp_path / "nowhere")
    with pytest.raises(KeyError):
        loaded.judge("unknown", "The red mark lies in the upper half.")
