"""What differs between a finished step and the configuration, told to the user."""

from collections.abc import Mapping, Sequence
from typing import Any

from ares.config.schema import Config
from ares.pipeline.plan import Step, full_plan


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix.rstrip("."): value}
    return {k: v for name, item in value.items() for k, v in _flatten(item, f"{prefix}{name}.").items()}


def difference(
    done: Mapping[str, Any],
    settings: Any,
    inputs: Mapping[str, Mapping[str, str]],
    altered: Sequence[str] = (),
) -> str:
    """How a step differs from what is asked for: settings and inputs that it was made with, outputs altered since."""
    before, now = _flatten(done["settings"]), _flatten(settings)
    changed = [
        f"{key} ({before.get(key)} → {now.get(key)})"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    old = done["inputs"]
    changed += [
        f"input {name}"
        for name in sorted(old.keys() | inputs.keys())
        if old.get(name, {}).get("sha256") != inputs.get(name, {}).get("sha256")
    ]
    told = [f"was made with another {', '.join(changed)}"] if changed else []
    told += [f"has an output altered since it was made ({', '.join(altered)})"] if altered else []
    return " and ".join(told) or "was made by another version of the program"


def refusal(
    step: Step,
    config: Config,
    manifest: Mapping[str, Any],
    changed: str,
) -> str:
    """Why a finished step is not touched (`changed`: see `difference`), what would become invalid, and what to type."""
    keys = [other.key for other in full_plan(config.rounds)]
    after = keys[keys.index(step.key) + 1 :] if step.key in keys else []
    later = [key for key in after if key in manifest["steps"]]
    invalid = f" and everything made from it ({', '.join(later)})" if later else ""
    return (
        f"run={config.run}: {step.key} {changed}; it{invalid} would be "
        "invalid. Use another run=<name>, on_change=rerun to make it again, or on_change=keep to keep it as it is."
    )
