"""Processes and devices: what was asked for against what is there."""

from ares.types import AresError, Config


def visible_gpus() -> int:
    """The number of CUDA devices this process may use; 0 without CUDA."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_devices(config: Config) -> None:
    """Raises AresError, with the command that works here, where more devices are asked for than can be used."""
    asked = config.trainer.devices
    if asked == 1:
        return
    gpus = 0 if config.trainer.accelerator == "cpu" else visible_gpus()
    works = f"python train.py stage={config.stage.name} data={config.data['name']} model={config.model['name']} strategy=single"
    if gpus < asked:
        there = f"{gpus} GPU{'s' if gpus != 1 else ''}"
        raise AresError(
            f"trainer.devices={asked} asks for {asked} GPUs and {there} can be seen; run `{works}"
            f"{'' if gpus else ' trainer.accelerator=cpu'}` on this machine."
        )
    raise AresError(f"trainer.devices={asked}: a stage runs on one device so far; run `{works}`.")
