"""What libraries print that nobody can act on."""

import logging
import warnings


def quieten() -> None:
    """Hides libraries' notices that a user of this suite can do nothing about."""
    for name in (
        "pytorch_lightning",
        "pytorch_lightning.utilities.rank_zero",
        "lightning_fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*sync_dist=True.*",
        ".*tie_word_embeddings.*",
        ".*isinstance.*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
