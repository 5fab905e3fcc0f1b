"""Search by sentence over scripted continuations, with the results worked out by hand."""

from collections.abc import Iterator, Mapping, Sequence

from ares.evaluation.search import Draft, by_repair, by_steps

SCORES = {"good": 1.0, "so": 0.5, "bad": 0.0}


def draft(text: str, complete: bool = True) -> Draft:
    """A response of two tokens per word, a word per sentence, and an end token if it is complete."""
    words = tuple(text.split())
    ids = tuple(number for i in range(len(words)) for number in (2 * i, 2 * i + 1))
    return Draft(ids + ((99,) if complete else ()), words, tuple(range(1, 2 * len(words), 2)), complete)


def script(*texts: str) -> Iterator[Draft]:
    return iter([draft(text) for text in texts])


def score(drafts: Mapping[str, Sequence[Draft]]) -> dict[str, list[list[float | None]]]:
    return {pid: [[SCORES.get(word) for word in own.sentences] for own in drafts[pid]] for pid in drafts}


def test_first_sentences_of_a_draft() -> None:
    own = draft("good bad so")
    assert own.first(2) == draft("good bad", complete=False)
    assert own.first(0) == Draft()
    assert own.first(3) == own.first(9) == own


def test_best_next_sentence_goes_on() -> None:
    texts = script("bad so", "good bad", "good so end", "good so good end")
    prefixes = []

    def continued(asked: Sequence[tuple[str, Draft]]) -> list[Draft]:
        prefixes.append([" ".join(own.sentences) for _, own in asked])
        return [next(texts) for _ in asked]

    found = by_steps(["1"], 2, continued, score, longest=3)["1"]
    # good before bad; a new so before the bad that followed good; a third sentence that scores 1 before one that is not
    # scored, 0.5.
    assert prefixes == [["", ""], ["good"], ["good so"]]
    assert found.draft == draft("good so good", complete=False)
    assert found.tokens == (5 + 5) + 5 + 5


def test_search_ends_with_the_draft() -> None:
    texts = script("good", "bad so")
    found = by_steps(["1"], 2, lambda asked: [next(texts) for _ in asked], score, longest=9)["1"]
    assert found.draft == draft("good")
    assert found.draft.complete


def test_width_of_one_is_a_plain_sample() -> None:
    calls = []

    def continued(asked: Sequence[tuple[str, Draft]]) -> list[Draft]:
        calls.append([pid for pid, _ in asked])
        return [draft({"1": "good", "2": "bad so bad"}[pid]) for pid, _ in asked]

    found = by_steps(["1", "2"], 1, continued, score, longest=9)
    assert calls == [["1", "2"]]
    assert [(found[pid].draft, found[pid].tokens) for pid in ("1", "2")] == [
        (draft("good"), 3),
        (draft("bad so bad"), 7),
    ]


def test_questions_advance_together_and_independently() -> None:
    texts = script("good", "bad", "so bad", "bad so", "so good bad")
    calls = []

    def continued(asked: Sequence[tuple[str, Draft]]) -> list[Draft]:
        calls.append([pid for pid, _ in asked])
        return [next(texts) for _ in asked]

    found = by_steps(["1", "2"], 2, continued, score, longest=2)
    assert calls == [["1", "1", "2", "2"], ["2"]]
    assert found["1"].draft == draft("good")
    assert found["2"].draft == draft("so good", complete=False)


def test_repair_writes_on_from_the_first_weak_sentence() -> None:
    texts = script("good bad so", "good so end")
    cut = []

    def continued(asked: Sequence[tuple[str, Draft]]) -> list[Draft]:
        cut.append({pid: " ".join(own.sentences) for pid, own in asked})
        return [next(texts) for _ in asked]

    drafts = {"1": draft("bad bad"), "2": draft("good so")}
    found = by_repair(drafts, 5, continued, score, threshold=0.5)
    assert cut == [{"1": ""}, {"1": "good"}]
    assert found["1"].draft == draft("good so end")
    assert found["1"].tokens == 7 + 5
    assert (found["2"].draft, found["2"].tokens) == (drafts["2"], 0)


def test_repair_stops_after_its_rewrites() -> None:
    texts = script("bad", "bad", "bad")
    found = by_repair(
        {"1": draft("bad")}, 2, lambda asked: [next(texts) for _ in asked], score, threshold=0.5
    )
    assert found["1"].tokens == 6
    assert next(texts) == draft("bad")
