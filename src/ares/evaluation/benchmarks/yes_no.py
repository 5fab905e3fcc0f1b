"""Yes or no in an output, by the rules of several suites; without either the output failed."""

import re


def exact(output: str) -> str | None:
    """lmms-eval (POPE): the output is nothing but yes or no, in any case; a period makes it unreadable."""
    word = output.strip().lower()
    return word if word in ("yes", "no") else None


def beginning(output: str) -> str | None:
    """lmms-eval (MME): yes or no without periods, their first letters alone, or within the first four characters."""
    text = output.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text)
    return next((word for word in ("yes", "no") if word in text[:4]), None)


def one_word(output: str) -> str | None:
    """VLMEvalKit: exactly one of yes and no among the words, anywhere; else it would ask a judge."""
    words = set(re.findall(r"\w+", output.lower())) & {"yes", "no"}
    return words.pop() if len(words) == 1 else None


def unless_no(output: str) -> str | None:
    """LLaVA: no if the first sentence has No, no or not, otherwise yes, whatever it says."""
    words = output.split(".")[0].replace(",", "").split()
    return "no" if {"No", "no", "not"} & set(words) else "yes"
