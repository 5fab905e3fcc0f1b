"""A small run of the command line, with a loopback Teacher, that can be killed or stopped in the middle of a step."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ares.pipeline.manifest import StepEntry, read_manifest
from ares.storage.files import sha256_file
from tests.support.teacher import KEY, Loopback

REPOSITORY = Path(__file__).resolve().parents[2]
CONCURRENCY = 4
SMALL = (
    *("experiment=demo", "data.sizes={train: 96, val: 12, test: 12}"),
    *("model.d_model=32", "model.d_ff=64", "model.layers=1", "rationale.epochs=10"),
    *("rl.questions_per_part=8", "rl.questions=96", "rl.ppo_epochs=3", "rl.k=2", "rl.max_new_tokens=30"),
    *("rl.global_batch_size=32", "rl.micro_batch_size=8", "rl.eval_questions=12"),
    *("generate.max_new_tokens=30", "generate.batch_size=4", "sft.epochs=3", "lora.epochs=3"),
    *("teacher=anthropic", f"teacher.concurrency={CONCURRENCY}", "teacher.max_quarantine=1"),
)


@dataclass
class SmallRun:
    """A run in the folder `root`, with a ledger of its own, that asks `server`; `typed` are further settings."""

    root: Path
    server: Loopback
    typed: tuple[str, ...] = ()
    output: str = field(default="", init=False)
    unsaved: float = field(default=0.0, init=False)  # seconds of work that the last signal has lost

    @property
    def command(self) -> list[str]:
        """The command line."""
        own = (f"paths.runs={self.root}", f"paths.ledger={self.root}/ledger.sqlite")
        return [
            *(sys.executable, "train.py"),
            *SMALL,
            *own,
            f"teacher.base_url={self.server.url}",
            *self.typed,
        ]

    def start(self) -> subprocess.Popen[str]:
        """Starts the command in a session of its own."""
        return subprocess.Popen(
            self.command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "ANTHROPIC_API_KEY": KEY},
        )

    def finish(self) -> None:
        """Runs the command to its end."""
        process = self.start()
        self.output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, self.output

    def interrupt(self, step: str, delay: float, number: signal.Signals) -> tuple[int, float]:
        """Sends a signal `delay` seconds after a step has started, or when the next step starts, if that is earlier.

        Steps take half as long on one day as on another, so that a delay alone would often come too late.

        Returns:
            The exit code, and the seconds from the signal to the end.
        """
        process = self.start()
        assert process.stdout
        lines: list[str] = []
        sent: list[float] = []

        def send() -> None:
            sent.append(time.time())
            process.send_signal(number)

        timer = threading.Timer(delay, send)
        for line in process.stdout:
            lines.append(line)
            if line.startswith(f"{step}: started"):
                timer.start()
            elif re.match(r"[\w/-]+: started", line) and timer.is_alive():
                timer.cancel()
                send()
        process.wait(timeout=60)
        timer.cancel()
        self.output = "".join(lines)
        now = sent[0] if sent else time.time()
        self.unsaved = now - max(path.stat().st_mtime for path in self._resumed_from())
        return process.returncode, time.time() - now

    def _resumed_from(self) -> list[Path]:
        """The files from which a killed run continues: finished steps, checkpoints, parts and paid replies."""
        files = [*self.root.glob("ledger.sqlite*"), *(self.root / "demo").rglob("*")]
        left_out = (".tmp", ".lock", "metrics.csv")
        return [path for path in files if path.is_file() and not path.name.endswith(left_out)]

    @property
    def entries(self) -> dict[str, StepEntry]:
        """The finished steps."""
        return read_manifest(self.root / "demo")

    @property
    def last_started(self) -> str:
        """The step that the last process was in."""
        return re.findall(r"^([\w/-]+): started", self.output, re.MULTILINE)[-1]

    @property
    def seconds(self) -> dict[str, float]:
        """How long each finished step took, by its key."""
        return {key: entry.seconds for key, entry in self.entries.items()}

    @property
    def artefacts(self) -> dict[str, str]:
        """The sha256 of every file of every finished step's outputs, by path."""
        root = self.root / "demo"
        outputs = [root / output.path for entry in self.entries.values() for output in entry.outputs.values()]
        files = {file for path in outputs for file in ([path] if path.is_file() else path.rglob("*"))}
        return {
            file.relative_to(root).as_posix(): sha256_file(file)
            for file in files
            if file.is_file() and not file.name.startswith(".")
        }
