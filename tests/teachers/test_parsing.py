import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ares.teachers.parsing import (
    FeedbackError,
    parse_correction,
    parse_grouped_scores,
    parse_scores,
    parse_verdict,
)
from ares.teachers.prompts import default as prompts
from ares.teachers.prompts import paper

NOT_A_SCORE = {"nan", "underscore_number", "unicode_digits", "minus_zero"}
OTHER_TEXT = {"right_count_wrong_text", "right_count_reordered"}
# What the original rejected and has one reading only.
READ_NOW = {
    "trailing_comma_space": [0.9, 0.1],
    "one_line_json": [0.9, 0.1],
    "echo_prompt_then_answer": [0.9, 0.1],
    "nested_braces": [0.9, 0.1],
    "close_brace_in_first_sentence": [0.9, 0.1],
    "colon_sentence_split_over_lines": [0.6, 0.7],
    "sentence_wrapped_score_next_line": [0.9, 0.1],
}


@pytest.fixture(scope="module")
def cases(shared):
    found = json.loads((shared / "golden" / "feedback_parse.json").read_text())["cases"]
    assert len(found) == 59
    return found


def reason(call) -> str:
    with pytest.raises(FeedbackError) as caught:
        call()
    assert caught.value.reason == str(caught.value)
    return caught.value.reason


def asked_sentences(case) -> list[str]:
    lines = [line for line in case["rationale"].split("\n") if line.endswith((": xxx", ": xxx,"))]
    return [line.rsplit(":", 1)[0].strip()[1:-1] for line in lines]


def test_line_rule_accepts_the_recorded_replies(cases):
    accepted = [case for case in cases if case["accepted"] and case["name"] not in NOT_A_SCORE]
    assert len(accepted) > 15
    for case in accepted:
        expected = [float(score) for score in case["scores"]]
        assert parse_scores(case["response"], case["n_expected"]) == expected, case["name"]


def test_sentences_must_match_in_order(cases):
    for case in cases:
        if not case["accepted"] or case["name"] in NOT_A_SCORE:
            continue
        sentences = asked_sentences(case)
        assert len(sentences) == case["n_expected"]
        if case["name"] in OTHER_TEXT:
            assert "asked about" in reason(
                lambda c=case, s=sentences: parse_scores(c["response"], c["n_expected"], sentences=s)
            )
        else:
            expected = [float(score) for score in case["scores"]]
            assert parse_scores(case["response"], case["n_expected"], sentences=sentences) == expected


def test_values_that_are_not_scores_are_refused(cases):
    refused = [case for case in cases if case["name"] in NOT_A_SCORE]
    assert len(refused) == len(NOT_A_SCORE)
    for case in refused:
        assert "not a score" in reason(lambda c=case: parse_scores(c["response"], c["n_expected"]))


def test_other_recorded_replies(cases):
    for case in cases:
        if case["accepted"] or case["response"] is None:
            continue
        if case["name"] in READ_NOW:
            assert parse_scores(case["response"], case["n_expected"]) == READ_NOW[case["name"]]
        else:
            reason(lambda c=case: parse_scores(c["response"], c["n_expected"]))


def test_missing_commas_bullets_and_several_objects():
    assert parse_scores('{\n"a": 0.1\n"b": 0.2\n}', 2) == [0.1, 0.2]
    assert parse_scores("{\n- The sky is blue.: 0.1\n- It rains.: +.2\n}", 2) == [0.1, 0.2]
    bullets = "{\n- The sky is blue.: 0.1\n2. It rains.: 1.\n}"
    assert parse_scores(bullets, 2, sentences=["The sky is blue.", "It rains."]) == [0.1, 1.0]
    assert parse_scores('Sure:\n{\n"a": 0\n}\nand\n{\n"b": 5e-1\n}\nDone: 2', 2) == [0.0, 0.5]


def test_repeated_and_quoted_sentences():
    text = '{\n"Yes.": 0.7,\n"Yes.": 0.0,\n"He said "no".": 0.5\n}'
    assert parse_scores(text, 3, sentences=["Yes.", "Yes.", 'He said "no".']) == [0.7, 0.0, 0.5]
    escaped = json.dumps({'He said "no".': 0.5})
    assert parse_scores(escaped, 1, sentences=['He said "no".']) == [0.5]
    assert parse_scores('{"Yes.": 0.7, "Yes.": 0.0}', 2, sentences=["Yes.", "Yes."]) == [0.7, 0.0]


@pytest.mark.parametrize(
    "value", ["1.01", "-0.1", "inf", "1e3", "0.5.", "½", '"0.5"', "0,5", "high", "", "true"]
)
def test_bad_score(value):
    reason(lambda: parse_scores("{\n" + f'"a": {value}' + "\n}", 1))


def test_zero_sentences_are_refused():
    reason(lambda: parse_scores("{\n}", 0))
    reason(lambda: parse_scores("", 1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.booleans())
def test_round_trip_of_json(scores, indent):
    text = json.dumps(
        {f"sentence {i}: so": score for i, score in enumerate(scores)}, indent=2 if indent else None
    )
    assert parse_scores(text, len(scores)) == scores


@given(st.text(alphabet='{}":,\n .015x[]-', max_size=80), st.integers(0, 4))
def test_any_text_gives_scores_or_feedback_error(text, n_sentences):
    for part in parse_grouped_scores(text, [n_sentences, 1]):
        assert isinstance(part, list | FeedbackError)
    try:
        scores = parse_scores(text, n_sentences)
    except FeedbackError:
        return
    assert len(scores) == n_sentences
    assert all(0 <= score <= 1 for score in scores)


# --------------------------------------------------------------------------------------------------
# Grouped
# --------------------------------------------------------------------------------------------------


def kinds(parts) -> list:
    return [part if isinstance(part, list) else "error" for part in parts]


GROUPED = {
    "numbered lines": '{\n"1.1": 0.1,\n"1.2": 0.2,\n"2.1": 0.3\n}',
    "numbered, one line": 'Here: {"1.1": 0.1, "1.2": 0.2, "2.1": 0.3}',
    "numbered, no quotes or commas": "{\n1.1: 0.1\n- 1.2: 0.2\n2.1: 0.3\n}",
    "out of order": '{\n"2.1": 0.3,\n"1.2": 0.2,\n"1.1": 0.1\n}',
    "headings": 'Rationale 1:\n{\n"a": 0.1,\n"b": 0.2\n}\n**Rationale 2**\n{\n"c": 0.3\n}',
    "nested": '{"rationale_1": {"a": 0.1, "b": 0.2}, "rationale_2": {"c": 0.3}}',
    "objects": '{\n"a": 0.1,\n"b": 0.2\n}\n{\n"c": 0.3\n}',
    "lists": "[[0.1, 0.2], [0.3]]",
    "lists by name": '{"1": [0.1, 0.2], "2": [0.3]}',
}


@pytest.mark.parametrize("form", GROUPED)
def test_grouped_forms(form):
    assert kinds(parse_grouped_scores(GROUPED[form], [2, 1])) == [[0.1, 0.2], [0.3]]


@pytest.mark.parametrize("form", sorted(set(GROUPED) - {"out of order"}))
@pytest.mark.parametrize("bad", ["xxx", "1.5", "nan"])
def test_unreadable_rationale_does_not_affect_the_others(form, bad):
    assert kinds(parse_grouped_scores(GROUPED[form].replace("0.2", bad), [2, 1])) == ["error", [0.3]]
    assert kinds(parse_grouped_scores(GROUPED[form].replace("0.3", "2"), [2, 1])) == [[0.1, 0.2], "error"]


def test_missing_or_extra_score_affects_only_its_rationale():
    assert kinds(parse_grouped_scores(GROUPED["numbered lines"], [3, 1])) == ["error", [0.3]]
    assert kinds(parse_grouped_scores(GROUPED["numbered lines"], [1, 1])) == ["error", [0.3]]
    assert kinds(parse_grouped_scores(GROUPED["headings"], [2, 1, 1])) == [[0.1, 0.2], [0.3], "error"]
    assert kinds(parse_grouped_scores(GROUPED["objects"], [1, 1])) == ["error", [0.3]]
    twice = GROUPED["numbered lines"].replace('"1.2"', '"1.1"')
    assert kinds(parse_grouped_scores(twice, [2, 1])) == ["error", [0.3]]


@pytest.mark.parametrize(
    "ids", ["0.1 0.2 1.1 1.2", "2.1 2.2 3.1 3.2", "1.1 1.2 2.0 2.1", "1.1 1.2 2.1 2.2 3.1"]
)
def test_other_numbering_of_sentences_is_refused(ids):
    rows = [{"id": name, "score": 0.5} for name in ids.split()]
    assert kinds(parse_grouped_scores(json.dumps({"scores": rows}), [2, 2])) == ["error"] * 2


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        # Rows with more than was asked for, or twice, in another order than that of the sentences.
        ('{"scores": [{"id": "2.1", "n": 1, "score": 0.5}, {"id": "1.1", "n": 1, "score": 0.1}]}', [1, 1]),
        ('{"id": "2.1", "score": 0.5}\n{"id": "1.1", "score": 0.1}', [1, 1]),
        ('{"id": "1.2", "score": 0.5}\n{"id": "1.1", "score": 0.1}', [2]),
        ('{"scores": [{"id": "1.1", "score": 0.1, "score": 0.5}]}', [1]),
        (
            '[{"id": "1.1", "score": 0.5, "why": "x"}, {"id": "1.2", "score": 1}, {"id": "1.1", "score": 0}]',
            [2],
        ),
        # Two tries, of which the line rule sees one key each.
        ('Draft: {"1.1": 0.5, "2.1": 0.9}\nFinal: {"1.1": 0.1, "2.1": 0.2}', [1, 1]),
        ('{"1.1": 0.5, "2.1": 0.9}\n{"1.1": 0.1}\n{"2.1": 0.2}', [1, 1]),
        # Numbers in addition to the requested scores.
        ('[{"rationale": 1, "score": 0.1}, {"rationale": 1, "score": 0.2}]', [2, 2]),
        ('{"rationale": 2, "score": 0.5}\n{"rationale": 1, "score": 0.1}', [1, 1]),
        ('{"rationale_2": {"a": 0.5}, "rationale_1": {"a": 0.1}}', [1, 1]),
        ('{"rationale_2": {"a": 0.5}, "rationale_1": {"a": 0.1}}', [1, 2]),
        ('{"2": [0.5], "1": [0.1]}', [1, 1]),
        ('{"2": 0.5, "1": 0.1}', [2]),
    ],
)
def test_keys_in_another_order_are_refused(text, counts):
    assert kinds(parse_grouped_scores(text, counts)) == ["error"] * len(counts)


def test_numbered_keys_at_any_depth_and_with_sentences():
    nested = '{"rationale_1": {"1.1": 0.1, "1.2": 0.2}, "rationale_2": {"2.1": 0.3}}'
    for text in (nested, '{"2.1 Ice is 0.5 m: long.": 0.3, "1.2 So": 0.2, "1.1 It\'s": 0.1}'):
        assert kinds(parse_grouped_scores(text, [2, 1])) == [[0.1, 0.2], [0.3]]
    own = '{"rationale_1": {"1.1": 0.5}, "rationale_2": {"1.1": 0.1}}'
    assert kinds(parse_grouped_scores(own, [1, 1])) == ["error"] * 2


def test_indistinguishable_parts_are_all_errors():
    assert kinds(parse_grouped_scores(GROUPED["objects"], [2, 1, 1])) == ["error"] * 3
    assert kinds(parse_grouped_scores("I cannot do that.", [2, 1])) == ["error"] * 2
    assert kinds(parse_grouped_scores("", [1])) == ["error"]


def test_repeated_heading_is_an_error_in_its_place():
    again = GROUPED["headings"] + '\nRationale 1:\n{\n"a": 0.8,\n"b": 0.9\n}'
    assert kinds(parse_grouped_scores(again, [2, 1])) == ["error", [0.3]]


def test_single_rationale_needs_no_numbered_keys():
    assert kinds(parse_grouped_scores('{\n"a": 0.1,\n"b": 0.2\n}', [2])) == [[0.1, 0.2]]


# --------------------------------------------------------------------------------------------------
# Corrections and verdicts
# --------------------------------------------------------------------------------------------------

REPAIRED = "The corrected rationale is here. It is good."
CORRECTIONS_REFUSED = {
    "placeholder_original_no_braces",
    "mentions_original_space_rationale",
    "empty_final",
}
CORRECTIONS_OTHERWISE = {
    "brace_inside_text": "The set {1, 2} is small. " + REPAIRED,
    "list_of_sentences": "One. Two.",
    "literal_backslash_n": "One. Two.",
}


def test_recorded_corrections(shared):
    cases = json.loads((shared / "golden" / "correction_parse.json").read_text())["cases"]
    seen = {case["name"] for case in cases}
    assert seen > CORRECTIONS_REFUSED | set(CORRECTIONS_OTHERWISE)
    for case in cases:
        if case["response"] is None:
            continue
        if case["name"] in CORRECTIONS_REFUSED:
            reason(lambda c=case: parse_correction(c["response"]))
        elif case["name"] == "final_equals_orig":
            assert parse_correction(case["response"]) == " ".join(case["pred"].split())
        else:
            expected = CORRECTIONS_OTHERWISE.get(case["name"], REPAIRED)
            assert parse_correction(case["response"]) == expected, case["name"]


def test_last_json_correction_counts():
    assert parse_correction('{"final_rationale": "First try.", "final_rationale": "Second."}') == "Second."


def test_json_corrections_keep_any_character():
    text = 'A { and a "quote": so.'
    assert (
        parse_correction("Here:\n" + json.dumps({"original_rationale": "x", "final_rationale": text})) == text
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm sorry, but I cannot see the image.",
        "final_rationale:{I cannot see the image.}",
        '{"final_rationale": "I\'m unable to help with that."}',
        '{"final_rationale": ""}',
        "final_rationale:{ }",
        "final_rationale:{...}",
        "final_rationale:{It is cut off. And so",
        "Your task involves reviewing a set.\noriginal_rationale:{x}, final_rationale:{}",
        "final_rationale:{original_rationale}",
        "The rationale is fine as it is.",
        "final_rationale:{I’m sorry, but I can’t help with that.}",
        "final_rationale:{As a language model, I cannot help.}",
        "final_rationale:{I won't do that.}",
        "final_rationale:{I won’t do that.}",
        "final_rationale:{I will not be able to correct this rationale because the image is missing.}",
        "final_rationale:{Solution: I cannot help.}",
        "final_rationale:{N/A}",
        "final_rationale:{N/A.}",
        '{"final_rationale": "None."}',
        '{"final_rationale": "null"}',
        "final_rationale:{I refuse.}",
        '{"final_rationale": "It is cut off. And so',
        '{"final_rationale": "It is cut off. And so\n}',
        'final_rationale: "It is cut off. And so',
    ],
)
def test_unusable_corrections(text):
    reason(lambda: parse_correction(text))


@pytest.mark.parametrize(
    "text",
    [
        "Will it melt? Ice will not melt here, so I will say no.",
        "In the question: the choices are far apart. The answer is no.",
        "As an icicle, it cannot flow.",
        "Na is sodium.",
        "It’s a solid.",
    ],
)
def test_lookalikes_of_refusals_and_echoes_are_kept(text):
    for form in (prompts, paper):
        assert parse_correction(json.dumps({"final_rationale": text}), form.ECHO) == text


@pytest.mark.parametrize("form", [prompts, paper], ids=["default", "paper"])
@pytest.mark.parametrize("rationale", ["Ice is cold.", ""])
def test_echoed_prompt_is_not_a_correction(form, rationale, problem):
    asked = form.correct(problem(), rationale, has_image=True).text
    described = "Question:" + asked.split("Question:")[-1].split("\n\n")[0]
    parts = [asked.split("\n\n")[0], described, asked]
    if not rationale and form is prompts:
        parts.append("(none: write a short one)")
    for part in parts:
        text = json.dumps({"final_rationale": part})
        assert "repeats the prompt" in reason(lambda t=text: parse_correction(t, form.ECHO))


@pytest.mark.parametrize(
    "after", ["", "\n\nThe set {A, B} is left out.", ' {"confidence": 1}', "\n```\n", " }"]
)
def test_text_after_a_json_correction_is_ignored(after):
    said = json.dumps({"final_rationale": 'Ice "melts" {so}.'})
    assert parse_correction(f'{{"result": {said}}}{after}') == 'Ice "melts" {so}.'
    for before in ("", "The set {1, 2}:\n", "```json\n", '{"final_rationale": "First try."} '):
        assert parse_correction(before + said + after) == 'Ice "melts" {so}.'


FINAL = "Ice is solid. So B."


@pytest.mark.parametrize(
    "form",
    [
        # Remarks after the repair, which mention it.
        "final_rationale: {%s}\n\nNote: the final rationale: was shortened.",
        "final_rationale: {%s}\nI changed the final_rationale: {the second step}.",
        "final_rationale: {%s}\n\n**Changes to the final rationale:** dropped one step.",
        "Final Rationale: %s\n\nI removed the wrong step.",
        "Final Rationale: %s\n---\nLet me know.",
        "Final Rationale: %s\n**Explanation of the changes:** I removed it.",
        "final_rationale:\n```\n%s\n```\nI dropped a step.",
        # Markup.
        "## Final Rationale\n\n%s\n\n## Changes\n- dropped a step",
        "**Final Rationale**\n%s",
        "**Final Rationale:**\n\n%s",
        "__Final Rationale:__ %s",
        "**Final Rationale**: **%s**",
        "**Final Rationale: %s**",
        "**`final_rationale`**: {%s}",
        "<answer>final_rationale: %s</answer>",
        "<final_rationale>%s</final_rationale>",
        # Keys that follow, and objects that are almost JSON.
        '"final_rationale": "%s",\n"changes": ["Dropped one step."]',
        '{"final_rationale": "%s", "changes": "x",}',
        "{'final_rationale': '%s', 'changes': 'x'}",
        'final_rationale: "%s", "confidence": 0.9',
        'final_rationale: "%s"\nI dropped a step.',
        "“final_rationale”: “%s”",
        # Quotes inside braces.
        'final_rationale: {"%s"}',
        "final_rationale: {'%s'}",
        # Reasoning.
        "<think>\nfinal_rationale: {Bad.}\n</think>\n\nfinal_rationale: {%s}",
        '<thinking>{"final_rationale": "Bad."}</thinking>final_rationale: {%s}',
        "Hm, final_rationale: {Bad.} </think> final_rationale: {%s}",
        "final_rationale: {%s}\n<think>final_rationale: {Bad.}",
        "[THINK]<think>a</think>final_rationale: {Bad.}[/THINK]final_rationale: {%s}",
        # Several keys.
        "final_rationale: {Draft.}\n\nfinal_rationale: {%s}",
        "original: {Bad.}, final_rationale: {%s}",
        "Here is the final rationale:\n\n%s",
    ],
)
def test_only_the_repair_is_taken(form):
    assert parse_correction(form.replace("%s", FINAL)) == FINAL


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('final_rationale: {\n"One.",\n"Two."\n}', "One. Two."),
        ('final_rationale: {"Stop," he said. "Go."}', '"Stop," he said. "Go."'),
        ('final_rationale: {"He said \\"no\\". So B."}', 'He said "no". So B.'),
        ("Final rationale: Look at both:\n\n- 5 mL\n- 3 mL", "Look at both: 5 mL 3 mL"),
        ("Final rationale:\n\n1. Ice is solid.\n\n2. So B.", "1. Ice is solid. 2. So B."),
        ("final_rationale: {The set **A** is *it*.}", "The set **A** is *it*."),
    ],
)
def test_lists_quotes_and_emphasis_inside_a_repair_are_kept(reply, expected):
    assert parse_correction(reply) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I cannot swim is a complete sentence.",
        "I do not have a dog uses do not.",
        "Sorry is an adjective. So A.",
        "I am sorry I am late is an apology.",
        "I am afraid of the dark. So B.",
        "I am not able to fly because I have no wings. So B.",
        "I won't help you is in the future tense.",
        "There is no text on the sign, so it is blank.",
        "There is no image of a bird on the map. So A.",
        "The image is given in the problem. So B.",
        "Unfortunately, the image shows only one magnet. So B.",
        "As an assistant, the nurse helps. So B.",
        "None of the magnets attract. So A.",
    ],
)
def test_sound_sentences_that_begin_like_a_refusal_are_kept(text):
    assert parse_correction(f"final_rationale: {{{text}}}") == text


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry. I can't help with that.",
        "I apologize, but I cannot see the image.",
        "Unfortunately, I can't view the image.",
        "Unfortunately, no image was provided.",
        "The image is missing.",
        "As an AI language model, I can't see images.",
        "I'm not comfortable with this.",
        "I need the image to answer.",
        "I can’t.",
    ],
)
def test_refusals_in_place_of_a_repair(text):
    assert reason(lambda: parse_correction(f"final_rationale: {{{text}}}")) == "the Teacher refused"


@pytest.mark.parametrize(
    "text",
    [
        '{"1.1": 0.1, "1.2": 0.2, "2.1": 0.3,\n}',
        '```json\n{"1.1": 0.1, "1.2": 0.2, "2.1": 0.3,}\n```',
        '{"rationale_1": {"1.1": 0.1, "1.2": 0.2,}, "rationale_2": {"2.1": 0.3,},}',
        '[{"id": "1.1", "score": 0.1,}, {"id": "1.2", "score": 0.2}, {"id": "2.1", "score": 0.3},]',
        "[[0.1, 0.2,], [0.3],]",
        '{"1.1 A list, {a,}": 0.1, "1.2": 0.2, "2.1": 0.3,}',
        '{"1.1": 0.9}</think>{"1.1": 0.1, "1.2": 0.2, "2.1": 0.3}',
    ],
)
def test_extra_commas_and_reasoning_lose_no_score(text):
    assert parse_grouped_scores(text, [2, 1]) == [[0.1, 0.2], [0.3]]


def test_reasoning_that_was_cut_off_is_no_answer():
    assert kinds(parse_grouped_scores('<think>maybe {"1.1": 0.5}', [1])) == ["error"]
    reason(lambda: parse_scores('<think>maybe {"a": 0.5}', 1))
    reason(lambda: parse_correction("<think>final_rationale: {Ice is solid.}"))
    reason(lambda: parse_verdict("<think>winner: first"))
    assert parse_verdict("<think>winner: first</think>winner: second") == "second"


PARTS = st.sampled_from(["final_rationale", ":", "{", "}", '"', "'", "**", "\n", "<think>", "</think>", "Ice.", "```", ",", " ", "\\"])  # fmt: skip


@given(st.one_of(st.text(), st.lists(PARTS).map("".join)))
def test_any_text_gives_a_correction_or_feedback_error(text):
    try:
        found = parse_correction(text)
    except FeedbackError:
        return
    assert found == " ".join(found.split())
    assert "<think>" not in found


@pytest.mark.parametrize("value", ['["One.", "Two."]', "null", '{"text": "One."}', r'"Ice \ud83d melts."'])
def test_correction_must_be_a_valid_string(value):
    reason(lambda: parse_correction(f'{{"final_rationale": {value}}}'))


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ('{"winner": "first"}', "first"),
        ("The first one is short. Winner: Second", "second"),
        ("tie", "tie"),
        ("The winner is the first rationale.", "first"),
        ("winner: **Second**", "second"),
        ("The first one.", "first"),
    ],
)
def test_verdict(text, winner):
    assert parse_verdict(text) == winner


@pytest.mark.parametrize(
    "text",
    [
        *("", "both", "winner: first or second", "At first glance I cannot tell."),
        *("Winner: neither, though the first is shorter", "Send the second one, and I name a winner."),
    ],
)
def test_no_verdict(text):
    reason(lambda: parse_verdict(text))


@pytest.mark.parametrize(
    "reply",
    [
        "{'1.1': 0.5, '1.2': 1.0, '2.1': 0.1}",
        "[{'id': '1.1', 'score': 0.5}, {'id': '1.2', 'score': 1.0}, {'id': '2.1', 'score': 0.1}]",
        '[{"1.1": 0.5, "1.2": 1.0}, {"2.1": 0.1}]',
        '{"1.1": 0.5, "1.2": 1.0}\n{"2.1": 0.1}',
        '["1.1": 0.5, "1.2": 1.0, "2.1": 0.1]',
        "(1.1: 0.5, 1.2: 1.0, 2.1: 0.1)",
        "{“1.1”: 0.5, “1.2”: 1.0, “2.1”: 0.1}",
        '{"1.1" = 0.5; "1.2" = 1.0; "2.1" = .1}',
        '{{"1.1": 0.5 "1.2": 1.0 "2.1": 0.1}}',
        "- **1.1**: 0.5\n- **1.2**: 1.0\n- **2.1**: 0.1",
        "| 1.1 | 0.5 |\n| 1.2 | 1.0 |\n| 2.1 | 0.1 |",
    ],
)
def test_numbered_scores_in_other_notations(reply: str) -> None:
    assert parse_grouped_scores(reply, [2, 1]) == [[0.5, 1.0], [0.1]]


@pytest.mark.parametrize(
    "reply",
    [
        "{'1.1': 0.5, '1.2': 1.0, '2.1': 0.1",  # cut off: 0.15?
        "[1.1: 0.5, 1.2: 1.0, 2.1: 0.1",
        "{'1.1': 0,5, '1.2': 1,0, '2.1': 0,1}",
        "{'1.1': 50%, '1.2': 100%, '2.1': 10%}",
        "1.1: 0.5, 1.2: 1.0, 2.1: 0.1, on a scale of 2",
        "{'1.1': '0.5', '1.2': '1', '2.1': '0.1'}",
        "{'1.1': 0.5, '1.2': 1.0, '3.1': 0.1}",
    ],
)
def test_scores_that_may_mean_something_else_are_refused(reply: str) -> None:
    assert all(isinstance(scores, FeedbackError) for scores in parse_grouped_scores(reply, [2, 1]))
