"""Commands in settings: a line without a shell, with placeholders."""

import shlex
from collections.abc import Mapping
from typing import Any

from ares.types import AresError


def filled(setting: str, command: str, values: Mapping[str, Any]) -> list[str]:
    """The words of `command` with its placeholders filled in. Raises AresError, naming the setting, for an unknown one."""
    try:
        return [word.format(**values) for word in shlex.split(command)]
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        # A KeyError is the unknown name in quotes.
        wrong = f"{error} is not a placeholder" if isinstance(error, KeyError) else str(error)
        known = ", ".join(f"{{{name}}}" for name in values)
        raise AresError(f"{setting}={command}: {wrong}; use {known}.") from None
