"""The closest known word to a misspelled one."""

import difflib
from collections.abc import Sequence


def nearest(word: str, candidates: Sequence[str]) -> str | None:
    """The candidate closest to a misspelled word, None if none is close."""
    # A misspelled last part is likelier than a wrong block: compare full keys first, then last parts.
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not close:
        tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in candidates}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=1)]
    return close[0] if close else None


def suggest(word: str, candidates: Sequence[str]) -> str:
    """` Did you mean …?` for a misspelled word, empty if no candidate is close."""
    close = nearest(word, candidates)
    return f" Did you mean {close!r}?" if close else ""
