"""Finds all mistakes of a command line at once, each with a suggestion."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ares.config.commands import assumed
from ares.config.compose import OPTIONS, folder, options, register_schema, to_config
from ares.config.schema import Config
from ares.config.suggestions import nearest, suggest
from ares.config.validation import impossible_combinations, impossible_values
from ares.config.values import problems_with_value, shortened, shown

Refused = Callable[[Config], Sequence[str]]
_COMPARED = {"experiment", "model", "strategy"}  # groups whose files set what combinations compare
_MANY_DIGITS = re.compile(r"\d{300}")  # Python converts at most 4,300, a float has fewer
_FLAGS = ("--help", "--cfg", "--multirun", "--info", "--hydra-help", "--config-dir", "--version")


def mistakes_in(arguments: Sequence[str], refused: Refused = lambda config: []) -> list[str]:
    """One sentence for each mistake in a command line.

    If there are any, those of `refused(config)`, which the run itself would report, are added.
    """
    parsed, unknown = get_args_parser().parse_known_args(arguments)
    if parsed.shell_completion or parsed.config_path or parsed.config_name or parsed.experimental_rerun:
        return []  # another configuration than ours, or no run
    flags = [text for text in unknown if text.startswith("-")]
    found = [f"There is no flag {flag}.{suggest(flag, _FLAGS)}" for flag in flags]
    if unknown and not flags:
        found.append("Flags such as -m and --cfg come before or after all settings, not between them.")
    line = _CommandLine([*parsed.overrides, *(text for text in unknown if text not in flags)])
    if parsed.config_dir:
        line.search_path.append(f"file://{Path(parsed.config_dir).resolve()}")
    with _hydra(line.search_path):
        found += line.mistakes()
        if found and not (parsed.cfg or parsed.info or parsed.help or parsed.hydra_help):
            found += line.refusals(refused)
    is_sweep = parsed.multirun or any(text.startswith("hydra.mode=") for text in parsed.overrides)
    if not is_sweep and not found:
        found += [f"{text}: several values make a sweep; add -m." for text in line.swept]
    return found


@contextmanager
def _hydra(search_path: Sequence[str]) -> Iterator[None]:
    """Initializes Hydra with our configuration and the folders of a `search_path`."""
    register_schema()
    version.setbase("1.3")
    path = create_config_search_path(str(folder()))
    for place in search_path:
        path.prepend("command-line", place, anchor="schema")
    Hydra.create_main_hydra2("ares", path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


class _CommandLine:
    """Checks the settings of a command line one after the other; the correct ones are applied."""

    def __init__(self, settings: Sequence[str]) -> None:
        self.found: list[str] = []
        self.failed: set[str] = set()  # keys with a wrong value, groups with an unknown option
        self.search_path: list[str] = []
        self.config: Config | None = None  # what the correct settings give
        self.overrides = self._parsed(settings)
        self.swept = [str(o.input_line) for o in self.overrides if o.is_sweep_override()]

    def mistakes(self) -> list[str]:
        """One sentence for each mistake: first options, then values, then combinations."""
        groups = set(GlobalHydra.instance().config_loader().list_groups(""))
        chosen = [o for o in self.overrides if o.key_or_group in groups]
        try:
            cfg = compose("config", overrides=self._options(chosen))
            known = [*sorted(groups), *_keys(OmegaConf.to_container(cfg))]
        except (HydraException, OmegaConfBaseException) as error:
            return [*self.found, _first_line(error)]
        for override in self.overrides:
            if override.key_or_group not in groups:
                self._set(cfg, override, known)
        for override in self._parsed([f"{key}={value}" for key, value in cfg.sweep.params.items()]):
            self._set(cfg, override, known)
        try:
            self.config = config = to_config(cfg)
        except OmegaConfBaseException as error:
            return [*self.found, _first_line(error)]
        self.found += impossible_values(config)
        if not self.failed & _COMPARED and not self.swept:
            self.found += self._new(impossible_combinations(config))
        return self.found

    def refusals(self, refused: Refused) -> list[str]:
        """What `refused` finds in the correct settings; nothing if they depend on an option that is unknown."""
        groups = GlobalHydra.instance().config_loader().list_groups("")
        if self.config is None or self.swept or any(nearest(key, groups) in groups for key in self.failed):
            return []
        right = [str(o.input_line) for o in self.overrides if o.key_or_group not in self.failed]
        with assumed(right):
            return [text for text in self._new(refused(self.config)) if text not in self.found]

    def _new(self, mistakes: Iterable[str]) -> list[str]:
        """Except those with a setting that is already reported."""
        return [text for text in mistakes if not any(key in text for key in self.failed)]

    def _parsed(self, settings: Sequence[str]) -> list[Override]:
        found = []
        for text in settings:
            if _MANY_DIGITS.search(text):
                self.found.append(
                    f"{shortened(text, 60)}: a number has too many digits; write fewer than 300."
                )
                continue
            override = _override(text)
            if override is None:
                self.found.append(_malformed(text))
                continue
            if override.key_or_group == "hydra.searchpath":
                self.search_path += map(str, override.value())  # type: ignore[arg-type]
            elif not override.is_hydra_override():
                found.append(override)
        return found

    def _options(self, chosen: Sequence[Override]) -> list[str]:
        """The options to compose the configuration with; of swept ones, the first."""
        kept = []
        for override in chosen:
            group, right = override.key_or_group, []
            known = options(group)
            for value in [] if override.is_delete() else _values(override):
                if str(value) in known:
                    right.append(str(value))
                    continue
                self.found.append(
                    f"{group}={shown(value)}: there is no such {group}; choose from {', '.join(known)}."
                    f"{suggest(str(value), known)}"
                )
                # Check the rest as if the suggestion had been typed.
                if meant := nearest(str(value), known):
                    right.append(meant)
                else:
                    self.failed.add(group)
            prefix = "+" if override.is_add() else ""
            kept += [f"{prefix}{group}={right[0]}"] if right else []
        return kept

    def _set(self, cfg: DictConfig, override: Override, known: Sequence[str]) -> None:
        key = override.key_or_group
        if key.split(".")[0] in self.failed:
            return
        problem = _wrong_sign(cfg, override)
        problems = [problem] if problem else []
        for value in [] if problem else reversed(_values(override)):
            problems += _problems_with_setting(cfg, override, value, known)
        if problems:
            self.failed.add(key)
            self.found += [text for text in dict.fromkeys(problems) if text not in self.found]


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
    return f"{shortened(text)!r} is not of the form key=value.{suggest(shortened(text).lstrip('-'), _FLAGS)}"


def _wrong_sign(cfg: DictConfig, override: Override) -> str | None:
    """The mistake in the ~ or + of a setting, if any."""
    if override.is_delete():
        return f"{override.input_line}: keys cannot be removed; give another value."
    there = OmegaConf.select(cfg, override.key_or_group) is not None
    if override.is_add() and there and not isinstance(override.value(), dict):
        return f"{override.input_line}: the key exists; leave out the +."
    return None


def _problems_with_setting(
    cfg: DictConfig, override: Override, value: Any, known: Sequence[str]
) -> list[str]:
    """The mistakes in one value of a setting; a correct value is applied to the configuration."""
    key = override.key_or_group
    adds = override.is_add() and key.split(".")[0] in (*OPTIONS, "sweep")
    if problems := list(problems_with_value(cfg, key, value)):
        return problems
    try:
        OmegaConf.update(cfg, key, value, force_add=adds or override.is_force_add())
    except (ConfigAttributeError, ConfigKeyError) as error:
        missing = key if str(error.key) in key.split(".") else f"{key}.{error.key}"
        return [f"{override.input_line}: {_unknown(cfg, missing, known)}"]
    except OmegaConfBaseException as error:
        return [_first_line(error)]
    return []


def _first_line(error: Exception) -> str:
    key = getattr(error, "full_key", None)
    return f"{f'{key}: ' if key else ''}{str(error).splitlines()[0].rstrip('.')}."


def _values(override: Override) -> list[Any]:
    """The values of an override; of a sweep, all listed values or the ends of its interval."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_discrete_sweep():
        return list(override.sweep_iterator())
    interval = override.value()
    return [interval.start, interval.end]  # type: ignore[union-attr]


def _keys(values: Any, prefix: str = "") -> Iterator[str]:
    for name, value in values.items() if isinstance(values, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")


def _unknown(cfg: DictConfig, key: str, known: Sequence[str]) -> str:
    group, _, rest = key.partition(".")
    if group in OPTIONS and rest:
        there = [name.removeprefix(f"{group}.") for name in known if name.startswith(f"{group}.")]
        near = nearest(rest, there)
        hint = f"Did you mean '{group}.{near}'?" if near else f"See conf/{group}/."
        return f"{group}={cfg[group].name} has no key {rest!r}. {hint}"
    return f"there is no key {key!r}.{suggest(key, known)}"
