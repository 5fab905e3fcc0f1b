"""ARES: better chains of thought for multimodal question answering, from an AI Teacher's sentence-level feedback."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ares.serve.model import Model

__version__ = "0.1.0"


def load(folder: str | Path, *, device: str | None = None) -> "Model":
    """Opens a run or an exported folder to ask it questions (see `ares.serve.model.load`)."""
    from ares.serve import model  # imports torch

    return model.load(folder, device=device)
