"""Runs one benchmark: `python -m benchmarks <name> [--size small] [--policy t5] [--objective ppo] [--device cpu] [--seconds inf] [--json FILE]`.

`benchmarks/<name>.py` has a `main(args)` that prints its table and returns its numbers by name; they are written to FILE.
"""

import argparse
import importlib
import json
import math
from pathlib import Path

NAMES = ("rollout", "writing", "update", "sft", "prefer", "metrics", "startup", "scale")


def main() -> None:
    """Reads the options that all benchmarks share, and runs the one that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--size", choices=("small", "base", "large"), default="small", help="of the model")
    parser.add_argument("--policy", choices=("t5", "vlm"), default="t5")
    parser.add_argument("--objective", choices=("ppo", "rloo", "grpo"), default="ppo", help="of update")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, default=math.inf, help="after which no table repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers are written")
    args = parser.parse_args()
    numbers = importlib.import_module(f"benchmarks.{args.name}").main(args)
    if args.json and numbers:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
