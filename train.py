"""Runs a stage of ARES: `python train.py stage=rl model=large`, `python train.py --help`."""

from ares.__main__ import main

if __name__ == "__main__":
    main()
