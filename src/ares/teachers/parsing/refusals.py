"""Recognizes a Teacher that refuses instead of answering."""

import re

from ares.text.sentences import sentences_of

_CANNOT = (
    r"(?:cannot|can't|can not|could not|couldn't|will not|won't|would not|wouldn't|(?:must |have to )?decline|refuse"
    r"|(?:do not|don't|did not|didn't) (?:see|have|feel|want)|(?:am |'m )(?:unable|not (?:able|going|comfortable))"
    r"|(?:would )?need)\b"
)
# How a refusal begins: an apology, or what "I" cannot do. Sound sentences can begin like this, too.
_OPENING = re.compile(
    r"(?:solution:\s*)?(?:unfortunately,? |regrettably,? )?(?:"
    r"(?:i(?:'m| am) |my )?(?:(?:very |so |really |truly )?sorry|afraid|(?:sincere )?apologies)\b|i (?:must )?apologi[sz]e\b"
    rf"|i ?{_CANNOT})",
    re.IGNORECASE,
)
# What is refused: the request or one of its parts.
_TASK = re.compile(
    r"\b(?:help|assist|comply|fulfill|proceed|provide|identify|comment|engage|access|comfortable (?:with|doing)"
    r"|(?:do|process|answer|see|view|read|find|have) (?:that|this|it|so|any)|(?:image|picture|photo|attachment)s?"
    r"|(?:the|this|that|any|your|a|corrected|original) (?:rationales?|requests?|prompts?|tasks?|instructions?)"
    r"|to (?:correct|repair|revise|rewrite|answer|continue))\b",
    re.IGNORECASE,
)
# A sentence about language quotes what it explains: "I will not swim is in the future tense."
_GRAMMAR = re.compile(
    r"\b(?:tense|verbs?|nouns?|pronouns?|adjectives?|adverbs?|clauses?|fragment|run-on|idiom|euphemism|sentence)\b",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"(?:unfortunately,? )?(?:"
    r"(?:there (?:is|was) )?no (?:original |input )?(?:image|picture|rationale|text)\b"
    r"(?:\W*$|.*\b(?:provided|attached|available|included|given|to (?:correct|repair|see))\b)"
    r"|the (?:original |input )?(?:image|picture|rationale|text) (?:is|was|has|could|can)(?: not|n't| missing|not| unavailable)\b"
    r"(?:\W*$|.*\b(?:provided|attached|available|visible|included|accessible|loaded|shown|be (?:seen|read|loaded))\b)"
    r"|as an? (?:ai|(?:large )?language model|assistant)\b.*\bi (?:am|can|do|will|must)"
    r")",
    re.IGNORECASE,
)
# A refusal and nothing else.
_ALONE = re.compile(rf"(?:{_OPENING.pattern}|n/?a|none|null)\W*$", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether a rationale is none: its first sentence refuses the task, says that something is missing, or is empty
    words such as "N/A". A sentence that only begins like a refusal is sound."""
    first = next(iter(sentences_of(text.replace("’", "'"))), "")
    if _ALONE.match(first):
        return True
    if _GRAMMAR.search(first):
        return False
    return bool(_MISSING.match(first) or (_OPENING.match(first) and _TASK.search(first)))
