"""What `--help` and `--version` print, without Hydra: a page, or the settings of one block with their comments."""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields
from importlib.metadata import version
from typing import Any

from ares.config.commands import call
from ares.config.compose import OPTIONS, folder, options
from ares.config.fields import block_of, requirement
from ares.config.schema import Config
from ares.config.suggestions import suggest
from ares.config.values import shown
from ares.types import AresError

# Of a field, whose value may take several lines.
_COMMENT = re.compile(r"^    (\w+): (?:[^#\n]|\n {4}[ )])*  # (.+)$", re.MULTILINE)


def information(arguments: Sequence[str]) -> str | None:
    """What a command line asks to print before anything is composed; None for any other command line.

    Raises AresError for help on a block that does not exist.
    """
    if "--version" in arguments:
        return f"ares {version('ares')}"
    if not {"--help", "-h"} & set(arguments):
        return None
    asked = [text for text in arguments if not text.startswith("-") and "=" not in text]
    return "\n\n".join(map(_block, asked)) if asked else _page()


def _page() -> str:
    groups = sorted(path.name for path in folder().iterdir() if path.is_dir())
    choices = {group: ", ".join(options(group)) for group in groups}
    width = max(map(len, choices))
    lines = [f"{call('[flags] [group=option ...] [key=value ...]')}    runs a stage of ARES".replace("'", "")]
    lines += ["", "Groups and their options:"]
    lines += [f"  {group:{width}}  {names}" for group, names in choices.items()]
    lines += ["", f"Blocks of settings, explained by {call('--help', '<block>')}:".replace("'", "")]
    lines += [
        f"  {', '.join(_blocks())}",
        "",
        "Settings outside of the blocks:",
        *_table([*_settings(Config, "")]),
    ]
    lines += [
        "",
        "Flags: -m runs a sweep; --cfg job prints the composed configuration; --version; --hydra-help lists the others.",
        f"First run: {call('experiment=demo')}. What stages, groups and settings are for: README.md and docs/.",
    ]
    return "\n".join(lines)


def _blocks() -> list[str]:
    return [item.name for item in fields(Config) if block_of(item)]


def _block(name: str) -> str:
    """A block's docstring, and each of its settings: its default, its comment and its possible values.

    `rl.lora` and `rl.kl_coef` are some or one of them.
    """
    first, _, rest = name.rstrip(".").partition(".")
    found = next((item for item in fields(Config) if item.name == first and block_of(item)), None)
    if found is None:
        raise AresError(
            f"--help {shown(name)}: there is no such block.{suggest(first, _blocks())} Choose from {', '.join(_blocks())}."
        )
    block = block_of(found)
    assert block is not None
    about = " ".join((block.__doc__ or "").split()) if '"""' in inspect.getsource(block) else ""
    rows = [row for row in _settings(block, f"{first}.") if not rest or _is_in(row[0], name.rstrip("."))]
    if not rows:
        known = [setting.partition("=")[0] for setting, _ in _settings(block, f"{first}.")]
        raise AresError(
            f"--help {shown(name)}: there is no such setting.{suggest(name, known)} See {call('--help', first)}."
        )
    lines = [": ".join(filter(None, (first, about))), "", *_table(rows)]
    note = f"The defaults are the schema's; files in conf/ change some: {call('--cfg', 'job')} prints what holds."
    if first in OPTIONS:
        note += f" Further keys depend on the option: see conf/{first}/."
    return "\n".join([*lines, "", note])


def _is_in(setting: str, name: str) -> bool:
    key = setting.partition("=")[0]
    return key == name or key.startswith(f"{name}.")


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(setting) for setting, _ in rows)
    return [f"  {setting:{width}}  {text}".rstrip() for setting, text in rows]


def _settings(block: type, prefix: str) -> Iterator[tuple[str, str]]:
    """Each setting with its default, and what is said about it; those of other blocks are left out of the root's."""
    comments = _comments(block)
    for item in fields(block):
        inner = block_of(item) or item.metadata.get("known")
        if inner and not prefix:
            continue
        if inner:
            own = prefix if item.metadata.get("known") else f"{prefix}{item.name}."
            yield from _settings(inner, own)
        elif not item.name.startswith("_") and item.name not in ("arguments", "name"):
            words = [comments.get(item.name, ""), f"({_possible(item)})"]
            yield f"{prefix}{item.name}={_default(item)}", " ".join(filter(None, words))


def _comments(block: type) -> dict[str, str]:
    """The comments after the fields of a block and of what it derives from."""
    sources = [
        inspect.getsource(cls) for cls in reversed(block.__mro__) if cls.__module__.startswith("ares.")
    ]
    return {name: text for source in sources for name, text in _COMMENT.findall(source)}


def _default(item: Field[Any]) -> str:
    value = item.default if item.default is not MISSING else item.default_factory()  # type: ignore[operator]
    return shown(value)


def _possible(item: Field[Any]) -> str:
    choices = item.metadata.get("choices") or (
        options(group) if (group := item.metadata.get("group")) else ()
    )
    return " | ".join(choices) if choices else requirement(item)
