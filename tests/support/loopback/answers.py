"""The answers of the loopback model, a deterministic function of the request text."""

import hashlib
import json
import re
from statistics import fmean

_NUMBERED = re.compile(r"^(\d+)\.(\d+) (.*)$", re.MULTILINE)
_KEYED = re.compile(r'^("(?:.*)"): xxx(,?)$', re.MULTILINE)


def fraction(*parts: object) -> float:
    """A number in [0, 1) drawn from a hash of the parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _score(sentence: str) -> float:
    return int(fraction("score", sentence) * 11) / 10


def answer(text: str, bias: float, wrong_count: bool) -> str:
    """The reply to a prompt; with `wrong_count` it leaves the last sentence out."""
    if "xxx" in text:
        return _filled(text, wrong_count)
    if "First rationale:" in text:
        first, second = re.findall(r"(?:First|Second) rationale: (.*)", text)
        winner = "tie" if first == second else "first" if _score(first) >= _score(second) else "second"
        return json.dumps({"winner": winner})
    if "final_rationale" in text:
        return _corrected(text, wrong_count)
    rows = _scores(text, bias)
    return json.dumps({"scores": rows[: len(rows) - wrong_count]})


def _scores(text: str, bias: float) -> list[dict[str, object]]:
    """With `bias` a rationale gains from worse rationales in the same request, as with graders that compare."""
    found = _NUMBERED.findall(text)
    means = {
        number: fmean(_score(sentence) for own, _, sentence in found if own == number)
        for number, _, _ in found
    }
    rows: list[dict[str, object]] = []
    for number, place, sentence in found:
        others = [mean for other, mean in means.items() if other != number]
        shift = bias * (means[number] - fmean(others)) if others else 0.0
        score = round(min(1.0, max(0.0, _score(sentence) + shift)), 3)
        rows.append({"id": f"{number}.{place}", "score": score})
    return rows


def _filled(text: str, wrong_count: bool) -> str:
    lines = [f"{key}: {_score(key)}{comma}" for key, comma in _KEYED.findall(text)]
    return "{\n" + "\n".join(lines[: len(lines) - wrong_count]) + "\n}"


def _corrected(text: str, wrong_count: bool) -> str:
    if wrong_count:
        return "The rationale is fine as it is."
    if paper := re.search(r"original_rationale:\{\n(.*)\n\}, \nfinal", text, re.DOTALL):
        return "final_rationale:{" + paper[1] + " So the answer is clear.}"
    [rationale] = re.findall(r"^Rationale: (.*)$", text, re.MULTILINE)
    return json.dumps({"final_rationale": f"{rationale} So the answer is clear."})
