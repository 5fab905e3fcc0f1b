"""What a Teacher needs from the machine: a package and a key."""

import os
from importlib.util import find_spec

from ares.types import AresError


def check_needs(teacher: str, package: str, key_variable: str, without_key: str = "") -> None:
    """Raises AresError if the package or the key in the environment variable is missing; "" needs none.

    `without_key` says in the error message what works without the key.
    """
    if package and find_spec(package) is None:
        raise AresError(
            f"teacher={teacher} needs the {package} package; install it with `uv pip install -e '.[{package}]'`."
        )
    if key_variable and not key_in(key_variable):
        alternative = f", or {without_key}" if without_key else ""
        raise AresError(
            f"teacher={teacher} needs a key; set the environment variable {key_variable}{alternative}."
        )


def key_in(variable: str) -> str | None:
    """The key in an environment variable, None without one; raises AresError if it does not fit into a header."""
    key = os.environ.get(variable, "").strip()  # a key read from a file ends in a newline
    if not (key.isascii() and key.isprintable()):
        raise AresError(f"{variable} holds characters that no key has; set it again, without line breaks.")
    return key or None
