"""stage=prepare on data sets of the published sizes: reading, extraction, memory, kill and resume.

    python -m benchmarks.prepare /big/disk [--data scienceqa aokvqa] [--scale 1.0] [--model vit_tiny_patch16_224]

The encoder has seeded weights: speed and memory do not depend on them. The baseline, measured in the same run
on the same images, is the original's way: one image at a time, all features kept in memory.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.synthetic import write_aokvqa, write_scienceqa

REPOSITORY = Path(__file__).resolve().parents[1]
WRITERS = {"scienceqa": write_scienceqa, "aokvqa": write_aokvqa}


def main() -> None:
    """Writes the data, prepares them with one kill in between, and prints the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", choices=WRITERS, default=list(WRITERS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    for name in arguments.data:
        measure(name, arguments)


def measure(name: str, arguments: argparse.Namespace) -> None:
    """One data set."""
    root, runs = arguments.folder / name, arguments.folder / f"runs-{name}"
    count = WRITERS[name](root, scale=arguments.scale)
    print(f"{name}: {count:,} images written", flush=True)
    print(f"{name}: {reading(name, root)}", flush=True)
    command = [
        sys.executable,
        "train.py",
        "stage=prepare",
        f"data={name}",
        f"data.root={root}",
        f"paths.runs={runs}",
        "features=timm",
        f"features.model={arguments.model}",
        "features.pretrained=false",
        f"features.workers={arguments.workers}",
    ]
    first = Prepared(command)
    done = first.kill_after(runs, count // 3)
    resumed = Prepared(command)
    resumed.wait()
    rest = count - done
    print(f"{name}: killed after {done:,} images ({first.seconds:.0f} s), resumed: {rest:,} left", flush=True)
    print(f"{name}: {resumed.text}")
    print(
        f"{name}: {rest / resumed.extracting:.1f} images/s ({rest:,} in {resumed.extracting:.0f} s), all in {resumed.seconds:.0f} s; "
        f"peak memory {resumed.peak:.0f} MiB (without file pages) in all processes",
        flush=True,
    )
    # By processor time, which does not depend on the machine's load.
    rate, base = rest / resumed.processor, baseline(root, arguments)
    print(
        f"{name}: {rate:.1f} images per processor second, start included; baseline, one image at a time: {base:.1f}; "
        f"ratio {rate / base:.2f}",
        flush=True,
    )
    print(f"{name}: {checked(runs)}", flush=True)


def reading(name: str, root: Path) -> str:
    """Seconds and memory of reading the problems, in a process of its own."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from ares.data.scienceqa import read_scienceqa; from ares.data.aokvqa import read_aokvqa\n"
        "def mib(): return int(next(l for l in open('/proc/self/status') if l.startswith('RssAnon')).split()[1]) / 1024\n"
        "before = mib(); start = time.perf_counter()\n"
        f"problems, splits = read_{name}(sys.argv[1])\n"
        "print(f'{len(problems):,} problems read in {time.perf_counter() - start:.2f} s, {mib() - before:.0f} MiB')"
    )
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Prepared:
    """A running `stage=prepare`, watched: its memory, and when it began to extract."""

    def __init__(self, command: list[str]) -> None:
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.peak, self.seconds, self.extracting, self.processor, self.text = 0.0, 0.0, 0.0, 0.0, ""
        threading.Thread(target=self._watch, daemon=True).start()

    def kill_after(self, runs: Path, images: int) -> int:
        """Kills the process when so many images are done; returns how many were."""
        while True:
            assert self.process.poll() is None, self.process.communicate()[1]
            for state in runs.glob("shared/features-*/progress.json"):
                done = json.loads(state.read_text())["done"]
                if done >= images:
                    os.kill(self.process.pid, signal.SIGKILL)
                    self.process.communicate()
                    self.seconds = time.perf_counter() - self.start
                    return int(json.loads(state.read_text())["done"])
            time.sleep(0.2)

    def wait(self) -> None:
        """Waits for the end."""
        before = processor_seconds()
        out, err = self.process.communicate()
        self.processor = processor_seconds() - before
        assert self.process.returncode == 0, err
        self.seconds = time.perf_counter() - self.start
        self.text = out.strip().replace("\n", "; ")
        # tqdm's last line: "image features: 100%|...| 10332/10332 [03:21<00:00, 34.2image/s]"
        clock = err.rsplit("[", 1)[1].split("<")[0]
        self.extracting = float(
            sum(int(part) * 60**power for power, part in enumerate(clock.split(":")[::-1]))
        )

    def _watch(self) -> None:
        while self.process.poll() is None:
            self.peak = max(self.peak, sum(map(anonymous, family(self.process.pid))))
            time.sleep(0.2)


def processor_seconds() -> float:
    """Processor seconds of all children that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def anonymous(pid: int) -> float:
    """MiB of a process's own memory, without file pages."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def baseline(root: Path, arguments: argparse.Namespace) -> float:
    """Images per processor second, one at a time."""
    from ares.vision.encoders import TimmEncoder

    encoder = TimmEncoder(arguments.model, pretrained=False)
    paths = sorted(root.rglob("*.png" if (root / "images").is_dir() else "*.jpg"))[:100]
    encoder.encode([encoder.read(paths[0])])
    start = time.process_time()
    kept = [encoder.encode([encoder.read(path)]) for path in paths]
    return len(kept) / (time.process_time() - start)


def checked(runs: Path) -> str:
    """The size of the features and how many sampled rows are empty, from before and after the kill."""
    [folder] = runs.glob("shared/features-*/")
    index = json.loads((folder / "index.json").read_text())
    features = np.load(folder / "features.npy", mmap_mode="r")
    empty = sum(not features[row].any() for row in range(0, len(features), max(1, len(features) // 500)))
    return f"{len(index['rows']):,} problems in the index, features {features.shape}, {empty} empty rows in a sample of 500"


if __name__ == "__main__":
    main()
