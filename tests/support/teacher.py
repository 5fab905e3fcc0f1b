"""The loopback server of `tests/support/loopback`, as a process of its own."""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

SERVER = Path(__file__).resolve().parent / "loopback" / "server.py"
KEY = "sk-secret-0123456789"


class Loopback:
    """The server as a process of its own."""

    key = KEY

    def __init__(self, **options) -> None:
        command = [sys.executable, str(SERVER), json.dumps(options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def _log(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/_log") as reply:
            return json.load(reply)

    @property
    def outcomes(self) -> Counter:
        """The number of attempts by outcome."""
        return Counter(outcome for _, _, outcome in self._log()["log"])

    @property
    def hashes(self) -> list[str]:
        """The hashes of the requests, one per attempt."""
        return [name for _, name, _ in self._log()["log"]]

    @property
    def times(self) -> list[float]:
        """The times of the attempts, seconds."""
        return [at for at, _, _ in self._log()["log"]]

    @property
    def most_open(self) -> int:
        """The most requests that were open at once."""
        return self._log()["most_open"]

    @property
    def batch_bytes(self) -> list[int]:
        """The sizes of the batches' bodies."""
        return self._log()["batches"]

    @property
    def batch_params(self) -> list[list[str]]:
        """The names of the parameters of each batch's first request."""
        return self._log()["batch_params"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
