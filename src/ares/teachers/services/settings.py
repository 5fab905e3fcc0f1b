"""What settings of a Teacher can be, told before anything is trained for it, in the words of the command line."""

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ares.types import AresError


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a setting is a finite number, a whole one where it must be; true and false are none."""
    kinds = int if whole else int | float
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def check_above_zero(name: str, *, whole: bool = False, **settings: Any) -> None:
    """Raises AresError for a setting that is no number above 0; None leaves it to the Teacher."""
    for setting, value in settings.items():
        if value is not None and not (is_number(value, whole=whole) and value > 0):
            kind = "a whole number" if whole else "a number"
            raise AresError(f"teacher={name}, teacher.{setting}={value}: give {kind} above 0.")


def check_switches(name: str, **settings: Any) -> None:
    """Raises AresError for a setting that is neither true nor false."""
    for setting, value in settings.items():
        if not isinstance(value, bool):
            raise AresError(f"teacher={name}, teacher.{setting}={value}: give true or false.")


def check_options(name: str, options: Any) -> None:
    """Raises AresError for options that are no mapping, as requests take them."""
    if options is not None and not isinstance(options, Mapping):
        raise AresError(f"teacher={name}, teacher.options={options}: give a mapping, as {{temperature: 0}}.")


def check_address(name: str, base_url: Any) -> None:
    """Raises AresError for an address that is none of a web server's; None is the service's own."""
    if base_url is not None and not _is_address(str(base_url)):
        raise AresError(
            f"teacher={name}, teacher.base_url={base_url}: give an address such as http://localhost:8000/v1."
        )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:  # brackets that do not match, a port that is no number
        return False
