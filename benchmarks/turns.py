"""Several sides of a benchmark, timed in turns, and the table of their speeds."""

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """Seconds of each repeat (of the processor where it is a CPU), and peaks in MB: of resident memory, and of a GPU's."""

    seconds: tuple[float, ...]
    peak_rss_mb: float
    peak_gpu_mb: float = 0.0

    @property
    def median(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.seconds)


def alternate(
    sides: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 3,
    device: str = "cpu",
    limit: float = math.inf,
) -> dict[str, Measured]:
    """Runs all sides in turn, `repeats` times, so that a busy or slow machine slows all of them alike.

    On a GPU, one more round comes first and does not count: libraries load their kernels in it. The second that counts and
    later ones begin within `limit` seconds only.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks, begun = dict.fromkeys(sides, (0.0, 0.0)), time.monotonic()
    for turn in range(0 if device == "cpu" else -1, repeats):
        if turn > 0 and time.monotonic() - begun > limit:
            break
        for name, run in sides.items():
            _forget_peak(device)
            start = _now(device)
            run()
            took = _now(device) - start
            print(f"{name}: {took:.1f} s", file=sys.stderr, flush=True)
            if turn >= 0:
                seconds[name].append(took)
                peaks[name] = max(peaks[name][0], _peak_rss_mb()), max(peaks[name][1], _peak_gpu_mb(device))
    return {name: Measured(tuple(seconds[name]), *peaks[name]) for name in sides}


def table(measured: Mapping[str, Measured], rows: Mapping[str, int]) -> dict[str, float]:
    """Prints a line per side, given how many rows each did, and returns the numbers of `ours` against the others'."""
    speed = {name: rows[name] / found.median for name, found in measured.items()}
    print(f"{'':14}{'rows/s':>10}{'lowest':>10}{'highest':>10}{'peak MB':>10}{'ours ×':>10}")
    for name, found in measured.items():
        low, high = rows[name] / max(found.seconds), rows[name] / min(found.seconds)
        ratio = speed["ours"] / speed[name]
        print(
            f"{name:14}{speed[name]:10.3f}{low:10.3f}{high:10.3f}{found.peak_gpu_mb or found.peak_rss_mb:10.0f}{ratio:10.2f}"
        )
    ratios = {f"ratio_{name}": speed["ours"] / speed[name] for name in measured if name != "ours"}
    own = measured["ours"]
    peaks = {"peak_rss_mb": own.peak_rss_mb} | ({"peak_gpu_mb": own.peak_gpu_mb} if own.peak_gpu_mb else {})
    return {**ratios, "rows_per_s": speed["ours"], **peaks}


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak(device: str) -> None:
    """Gives freed memory back and starts the records of the highest memory again, the kernel's and torch's."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak_rss_mb() -> float:
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("VmHWM:") + 1]) / 1024


def _peak_gpu_mb(device: str) -> float:
    if device == "cpu":
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 2**20
