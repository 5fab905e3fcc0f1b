"""The sweeper of `python train.py -m ...`: it calls `ares.pipeline.sweeps.jobs`. Hydra finds it by the name of this folder."""

import sys
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class AresSweeper(Sweeper):
    """Runs the steps that all jobs share once, then launches the unfinished jobs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Instantiates the launcher that `hydra/launcher` selects."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs a sweep over the overrides; mistakes are printed without a traceback, with exit code 2."""
        from ares.pipeline.sweeps.jobs import run_sweep
        from ares.report.compare import write_comparison
        from ares.types import AresError

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        HydraConfig.instance().set_config(self.config)  # messages repeat what was typed
        try:
            loader = self.hydra_context.config_loader
            return run_sweep(self.config, loader, self.launcher, arguments, compare=write_comparison)
        except AresError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None


ConfigStore.instance().store(
    group="hydra/sweeper", name="ares", node={"_target_": f"{__name__}.AresSweeper"}, provider="ares"
)
