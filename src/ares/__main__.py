"""Checks the command line, lets Hydra compose the configuration, and runs the stage."""

import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports prints no traceback

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ares import interrupts
from ares.config.command_line import mistakes_in
from ares.config.commands import call
from ares.config.compose import folder, register_schema, to_config
from ares.config.help import information
from ares.config.schema import Config
from ares.config.validation import validate, warnings_of
from ares.ranks import is_first
from ares.storage.failures import disk_failure
from ares.types import AresError

# Stages without a run folder and a manifest.
_ALONE = {
    "prepare": "ares.steps.prepare.prepare_alone",
    "export": "ares.steps.export.export",
    "doctor": "ares.doctor.doctor",
    "serve": "ares.serve.playground.serve",
    "study": "ares.report.study.study",
}


@interrupts.reported()
def run(cfg: DictConfig) -> None:
    """Runs the configured stage; mistakes are printed without a traceback, with exit code 2."""
    is_job = HydraConfig.get().mode == RunMode.MULTIRUN
    config = to_config(cfg)
    try:
        validate(config)
        for warning in warnings_of(config):
            print(f"warning: {warning}", file=sys.stderr)
        if config.sweep.params and not is_job:
            raise AresError(
                f"sweep.params sweeps over {', '.join(config.sweep.params)}; add -m to run the sweep."
            )
        _run_stage(config)
    except Exception as error:
        mistake = error if isinstance(error, AresError) else disk_failure(error)
        if mistake is None:
            raise
        if is_job:  # the sweep continues with the other jobs
            raise AresError(str(mistake)) from error
        print(f"error: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None


def _run_stage(config: Config) -> None:
    if config.stage.name in _ALONE:
        interrupts.note(config.stage.name)
        from ares.launch.notices import quieten

        quieten()
        print("\n".join(hydra.utils.get_method(_ALONE[config.stage.name])(config)))
    elif config.stage.name == "report" and config.report.compare:
        from ares.report.compare import compare

        print(f"comparison: {compare(config)}")
    else:
        from ares.pipeline.runner import run_folder, run_stage

        if run_stage(config) and "report" in config.stage.steps:
            from ares.report.build import report

            print(f"report: {report(config, run_folder(config)).resolve()}")


def _information() -> str | None:
    try:
        return information(sys.argv[1:])
    except AresError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _refused(config: Config) -> list[str]:
    from ares.pipeline.checks import mistakes_of

    return mistakes_of(config)


def main() -> None:
    """The entry of `train.py`, `python -m ares` and the console script."""
    if sys.argv[1:2] == ["ask"]:
        from ares.serve.ask import ask

        raise SystemExit(ask(sys.argv[2:]))
    if text := _information():
        print(text)
        return
    interrupts.install(call(*sys.argv[1:]) if is_first() else None)
    with interrupts.reported():
        _start()


def _start() -> None:
    if mistakes := mistakes_in(sys.argv[1:], _refused):
        print("\n".join(f"error: {mistake}" for mistake in mistakes), file=sys.stderr)
        raise SystemExit(2)
    register_schema()
    hydra.main(version_base="1.3", config_path=str(folder()), config_name="config")(run)()


if __name__ == "__main__":
    main()
