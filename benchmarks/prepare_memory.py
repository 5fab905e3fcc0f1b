"""Memory of a training process that reads image features, for feature files of two sizes.

    python -m benchmarks.prepare_memory /big/disk

The file of the full size is ScienceQA's with the paper's ViT-L: 10,332 x 145 x 1024 float32, 5.7 GiB. The
process reads an epoch of training batches through the data module of `stage=rationale` and trains a small model on
some of them. The baseline, measured in the same run, is a file of a tenth of the images: memory must not grow with
the file. The measure is resident memory, file pages included.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.synthetic import SCIENCEQA_IMAGES

SHAPE = (145, 1024)


def main() -> None:
    """Prints the memory for each size and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker)
        return
    peaks = {}
    for fraction in (0.1, 1.0):
        count = round(SCIENCEQA_IMAGES * fraction)
        folder = arguments.folder / f"features-{count}"
        write(folder, count)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.prepare_memory", "--worker", folder],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[count] = float(done.stdout.split()[-1])
        size = (folder / "features.npy").stat().st_size / 2**30
        print(
            f"{count:,} images, file of {size:.2f} GiB: peak resident memory {peaks[count]:.0f} MiB",
            flush=True,
        )
    small, full = peaks.values()
    print(f"ratio to the baseline (a tenth of the images): {full / small:.2f}")


def write(folder: Path, count: int) -> None:
    """A feature file of random numbers, a block at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "index.json").exists():
        return
    block = np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float32)
    file = open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=(count, *SHAPE))
    for start in range(0, count, 64):
        file[start : start + 64] = block[: min(64, count - start)]
    file.flush()
    rows = {str(row): row for row in range(count)}
    index = {"rows": rows, "shape": SHAPE, "encoder": {}, "sha256": "", "features_sha256": ""}
    (folder / "index.json").write_text(json.dumps(index))


def work(folder: Path) -> None:
    """One epoch over the features; prints the peak of resident memory in MiB."""
    import torch

    from ares.datamodules.supervised import Encoded, SupervisedData
    from ares.models.t5 import T5ForMultimodalGeneration
    from ares.models.t5.fusion import FusionT5Config
    from ares.models.t5.inputs import T5Inputs
    from ares.vision.features import FeatureStore

    pids = list(json.loads((folder / "index.json").read_text())["rows"])
    inputs = T5Inputs([[5] * 30 + [1]] * len(pids), pids, FeatureStore(folder), pad_id=0)
    data = SupervisedData(pad_id=0, micro=8, accumulate=1, eval_batch=8, seed=0)
    data.train = Encoded(inputs, [[6] * 20 + [1]] * len(pids))
    config = FusionT5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, decoder_start_token_id=0
    )  # type: ignore[call-arg]
    model = T5ForMultimodalGeneration(config)
    optimizer = torch.optim.AdamW(model.parameters())
    peak = 0.0
    for number, batch in enumerate(data.train_dataloader()):
        ids, mask, images = batch["inputs"].tensors
        if number % 10 == 0:
            model(
                input_ids=ids, attention_mask=mask, image_features=images, labels=batch["response_ids"]
            ).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        peak = max(peak, resident())
    print(peak)


def resident() -> float:
    """MiB of the process, file pages included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
