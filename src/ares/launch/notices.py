"""Silences library messages."""

import logging
import warnings


def quieten() -> None:
    """Hides warnings and notices of libraries that users of this suite cannot act on."""
    for name in (
        "pytorch_lightning",
        "pytorch_lightning.utilities.rank_zero",
        "lightning_fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Which of its kernels are not installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for message in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",  # it leaves out the batches that were trained on
        ".*smaller than the logging interval.*",
        ".*sync_dist=True.*",
        ".*tie_word_embeddings.*",
        ".*isinstance.*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", message=message)
