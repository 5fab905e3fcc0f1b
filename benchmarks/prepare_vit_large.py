"""The paper's encoder, ViT-L/32 at 384 pixels, on 200 images, and what that means for ScienceQA's 10,332.

    python -m benchmarks.prepare_vit_large /big/disk [--images 200] [--precision auto 32 bf16]

Seeded weights: speed does not depend on them. The baseline, measured in the same run, is the original's way:
32 bits, one image at a time.
"""

import argparse
import time
from pathlib import Path

from ares.vision.encoders import TimmEncoder
from ares.vision.extraction import extract_features
from benchmarks.synthetic import SCIENCEQA_IMAGES, write_scienceqa

MODEL = "vit_large_patch32_384"


def main() -> None:
    """Prints a line for each precision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", nargs="+", default=["32", "bf16"])
    arguments = parser.parse_args()
    root = arguments.folder / "few"
    write_scienceqa(root, scale=arguments.images / SCIENCEQA_IMAGES)
    paths = {path.parent.name: path for path in sorted(root.rglob("image.png"))[: arguments.images]}
    base = one_by_one(list(paths.values())[: max(10, arguments.images // 10)])
    print(f"baseline, 32 bits, one image at a time: {base:.2f} images per processor second", flush=True)
    for precision in arguments.precision:
        encoder = TimmEncoder(MODEL, pretrained=False, precision=precision)
        shape = encoder.shape  # builds the network
        start, processor = time.perf_counter(), time.process_time()
        extract_features(
            paths,
            encoder,
            arguments.folder / f"features-{precision}-{time.time_ns()}",
            batch_size=arguments.batch,
        )
        rate = len(paths) / (time.perf_counter() - start)
        alone = len(paths) / (time.process_time() - processor)
        hours = SCIENCEQA_IMAGES / rate / 3600, SCIENCEQA_IMAGES / alone / 3600
        print(
            f"{precision} bits, batches of {arguments.batch}, {shape[0]} x {shape[1]}: {rate:.2f} images/s, {alone:.2f} per processor "
            f"second, ratio {alone / base:.2f}; {SCIENCEQA_IMAGES:,} images would take {hours[0]:.1f} h at this load, "
            f"{hours[1]:.1f} h of one processor",
            flush=True,
        )


def one_by_one(paths: list[Path]) -> float:
    """Images per processor second, each read and encoded alone."""
    encoder = TimmEncoder(MODEL, pretrained=False, precision="32")
    encoder.encode([encoder.read(paths[0])])
    start = time.process_time()
    for path in paths:
        encoder.encode([encoder.read(path)])
    return len(paths) / (time.process_time() - start)


if __name__ == "__main__":
    main()
