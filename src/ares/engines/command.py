"""A server that a step starts and stops."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from ares.config.placeholders import filled
from ares.types import AresError

_POLL = 0.2  # seconds
_GRACE = 15  # seconds from SIGTERM to SIGKILL
_TAIL = 20  # lines of the log in an error
# The server's process group ends when the pipe on stdin closes, even if this process is killed.
_GUARD = f"""
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{{ cat <&3 >/dev/null; trap "" TERM; kill -TERM 0; sleep {_GRACE}; kill -KILL 0; }} &
trap : TERM
wait $server; code=$?
wait $server  # a signal ends the first one early
exit $code
"""
# A server must not take itself for one of our ranks, or import our packages.
_OURS = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "PYTHONPATH")


@contextmanager
def running_server(command: str, values: Mapping[str, Any], *, startup: float, log: Path) -> Iterator[str]:
    """Starts a server by `command`, waits until it is healthy, and yields its url; it ends with the block.

    `values` fill the command's placeholders, {port} apart; its output goes to `log`. Raises AresError, with the end of
    the log, if the server ends or does not answer GET /health within `startup` seconds.
    """
    port = _free_port()
    words = filled("engine.command", command, {**values, "port": port})
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", *words],  # noqa: S607  # the user's own command
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, time.monotonic() + startup, startup, log)
        yield url
    finally:
        _end(process)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, until: float, startup: float, log: Path) -> None:
    from httpx2 import Client, TransportError

    with Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() < until:
            if process.poll() is not None:
                raise AresError(f"The server of engine.command ended ({process.returncode}).{_tail(log)}")
            with suppress(TransportError):
                if client.get(f"{url}/health").status_code == 200:
                    return
            time.sleep(_POLL)
    raise AresError(
        f"The server of engine.command does not answer {url}/health within engine.startup={startup:g} seconds."
        f"{_tail(log)}"
    )


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_TAIL:]
    return "\n".join([f" The end of {log}:", *lines])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process group: SIGTERM, and SIGKILL for what is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
