"""Runs a stage of ARES: `python train.py stage=rl model=large`, `python train.py --help`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports prints no traceback

from ares.__main__ import main

if __name__ == "__main__":
    main()
