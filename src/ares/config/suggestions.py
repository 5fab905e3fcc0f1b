"""What to type instead of a misspelt word."""

import difflib
from collections.abc import Sequence


def suggest(word: str, candidates: Sequence[str]) -> str:
    """` Did you mean …?` for a misspelt word, empty where nothing is near."""
    # A misspelt last part is likelier than a wrong block: compare whole keys and, failing that, last parts.
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if not close:
        tails = {candidate.rsplit(".", 1)[-1]: candidate for candidate in candidates}
        close = [tails[tail] for tail in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=1)]
    return f" Did you mean {close[0]!r}?" if close else ""
