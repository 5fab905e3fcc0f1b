"""The command line: checks it, lets Hydra compose the configuration, runs the stage."""

import sys

import hydra
from omegaconf import DictConfig

from ares.config import folder, problems_with, register_schema, to_config, validate, warnings_of
from ares.types import AresError


def run(cfg: DictConfig) -> None:
    """Runs the composed configuration's stage; mistakes are printed without a traceback, exit code 2."""
    from ares.run import run_stage

    config = to_config(cfg)
    try:
        validate(config)
        for warning in warnings_of(config):
            print(f"warning: {warning}", file=sys.stderr)
        if config.sweep.params and config.sweep.of is None:
            raise AresError(
                f"sweep.params sweeps over {', '.join(config.sweep.params)}; add -m to run all of it."
            )
        run_stage(config)
    except AresError as error:
        if config.sweep.of is not None:  # the sweep goes on with the other jobs
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def main() -> None:
    """The entry of `train.py`, `python -m ares` and the console script."""
    overrides = [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("-")]
    problems = problems_with(overrides)
    if problems:
        print("\n".join(f"error: {problem}" for problem in problems), file=sys.stderr)
        raise SystemExit(2)
    register_schema()
    hydra.main(version_base="1.3", config_path=str(folder()), config_name="config")(run)()


if __name__ == "__main__":
    main()
