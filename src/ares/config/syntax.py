"""One setting of a command line: parsed by Hydra, or what is wrong with how it is written."""

import re
import shlex
from itertools import accumulate

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ares.config.suggestions import suggest
from ares.config.values import shortened

FLAGS = ("--help", "--cfg", "--multirun", "--info", "--hydra-help", "--config-dir", "--version")
_MANY_DIGITS = re.compile(r"\d{300}")  # Python converts at most 4,300, a float has fewer
_DEEPEST = 50


def parse_setting(text: str) -> Override | str:
    """A parsed setting, or a sentence about its mistake."""
    if _MANY_DIGITS.search(text):
        return f"{shortened(text, 60)}: a number has too many digits; write fewer than 300."
    if _depth(text) > _DEEPEST:  # the parser would take minutes to give up
        return f"{shortened(text, 60)}: its brackets are nested too deeply."
    return _override(text) or _malformed(text)


def _depth(text: str) -> int:
    """How deeply the brackets of a setting are nested."""
    return max(accumulate((c in "[{(") - (c in "]})") for c in text), default=0)


def _override(text: str) -> Override | None:
    """A parsed setting, None if it is malformed."""
    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError):
        return None


def _malformed(text: str) -> str:
    """What is wrong with a setting that cannot be parsed; a value of special characters needs quotes."""
    key, equals, value = text.partition("=")
    quoted = value.replace('"', '\\"')
    setting = f'{key}="{quoted}"'
    if equals and len(text) < 1000 and not value.startswith(("[", "{", '"', "'")) and _override(setting):
        return f"{text!r}: a value with special characters needs quotes, twice in a shell: {shlex.quote(setting)}."
    return f"{shortened(text)!r} is not of the form key=value.{suggest(shortened(text).lstrip('-'), FLAGS)}"
