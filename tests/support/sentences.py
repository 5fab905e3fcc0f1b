"""What holds for the sentences of any text, and of any ids."""

from ares.text.sentences import sentence_spans, sentence_token_ends, split_sentences
from ares.types import Span


def check_spans(text: str, spans: list[Span]) -> None:
    """Disjoint, in order, no white space at either end, every other character covered."""
    end = 0
    for span in spans:
        assert not text[end : span.start].strip()
        assert span.end > span.start >= end
        sentence = text[span.start : span.end]
        assert sentence == sentence.strip()
        end = span.end
    assert not text[end:].strip()


def check_alignment(tokenizer, ids: list[int], newline: str) -> None:
    """The contract, with every prefix decoded."""
    text, spans, ends = sentence_spans(tokenizer, ids, newline=newline)
    check_spans(text, spans)
    outside = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    inside = [index for index, token in enumerate(ids) if token not in outside]
    assert len(spans) == len(ends)
    assert bool(spans) == bool(text.strip())
    assert ends == sorted(set(ends))
    assert set(ends) <= set(inside)
    assert ends[-1:] == (inside[-1:] if spans else [])
    assert ends == sentence_token_ends(tokenizer, ids, newline=newline)
    sentences = split_sentences(text)
    assert {span.end for span in spans} <= {span.end for span in sentences}
    assert {span.start for span in spans} <= {span.start for span in sentences}

    if newline == "space":
        assert text == tokenizer.decode(ids, skip_special_tokens=True)
        prefixes = [tokenizer.decode(ids[: index + 1], skip_special_tokens=True) for index in inside]
    else:
        prefixes = [sentence_spans(tokenizer, ids[: index + 1], newline=newline)[0] for index in inside]

    def first_token(end: int) -> int:
        return next(i for i, prefix in zip(inside, prefixes, strict=True) if prefix.startswith(text[:end]))

    assert ends[:-1] == [first_token(span.end) for span in spans[:-1]]
    # Sentences become one only where one token ends them.
    tokens = {*(first_token(span.end) for span in sentences[:-1]), *inside[-1:]}
    assert len(spans) == (len(tokens) if sentences else 0)
