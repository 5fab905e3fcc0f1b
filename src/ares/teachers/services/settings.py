"""Checks of a Teacher's settings, before anything is trained; messages use the names of the command line."""

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ares.types import AresError


def is_number(value: Any, *, integer: bool = False) -> bool:
    """Whether a setting is a finite number (`integer`: an int); booleans are not numbers."""
    kinds = int if integer else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def check_above_zero(name: str, *, integer: bool = False, **settings: Any) -> None:
    """Raises AresError for a setting that is not a number above 0; None is allowed."""
    for setting, value in settings.items():
        if value is not None and not (is_number(value, integer=integer) and value > 0):
            kind = "a whole number" if integer else "a number"
            raise AresError(f"teacher={name}, teacher.{setting}={value}: give {kind} above 0.")


def check_switches(name: str, **settings: Any) -> None:
    """Raises AresError for a setting that is neither true nor false."""
    for setting, value in settings.items():
        if not isinstance(value, bool):
            raise AresError(f"teacher={name}, teacher.{setting}={value}: give true or false.")


def check_options(name: str, options: Any) -> None:
    """Raises AresError for options that are not a mapping."""
    if options is not None and not isinstance(options, Mapping):
        raise AresError(f"teacher={name}, teacher.options={options}: give a mapping, as {{temperature: 0}}.")


def check_url(name: str, base_url: Any) -> None:
    """Raises AresError for anything but an http(s) URL; None, the service's own, is allowed."""
    if base_url is not None and not _is_url(str(base_url)):
        raise AresError(
            f"teacher={name}, teacher.base_url={base_url}: give an address such as http://localhost:8000/v1."
        )


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:  # brackets that do not match, a port that is no number
        return False
