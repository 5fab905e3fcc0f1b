"""Servers that a step starts: placeholders, waiting, and that nothing outlives the step."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from ares.engines import command
from ares.engines.command import running_server
from ares.types import AresError

# Writes its pid and that of a child, and what it finds in its environment.
SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen(["sleep", "60"])
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print("port", sys.argv[1], sys.argv[2:], os.environ.get("RANK"), flush=True)
print(os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], flush=True)
open(sys.argv[2], "w").write(f"{os.getpid()} {child.pid}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def server(tmp_path: Path) -> str:
    (tmp_path / "server.py").write_text(SERVER)
    return f"{sys.executable} {tmp_path}/server.py {{port}} {tmp_path}/pids '{{name}} of {{base}}'"


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pids: list[int]) -> bool:
    for _ in range(100):
        if not any(map(is_alive, pids)):
            return True
        time.sleep(0.05)
    return False


def pids_in(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def test_server_runs_in_the_block_and_ends_with_its_children(
    server: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    log = tmp_path / "logs" / "server.log"
    with running_server(server, {"name": "ares-1", "base": "some model"}, startup=10, log=log) as url:
        assert urllib.request.urlopen(f"{url}/v1/models").status == 200
        pids = pids_in(tmp_path)
        assert all(map(is_alive, pids))
    assert wait_until_gone(pids)
    assert "'ares-1 of some model'] None\nTrue" in log.read_text()


def test_server_ends_if_the_block_fails(server: str, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="the step failed"),
        running_server(server, {"name": "", "base": ""}, startup=10, log=tmp_path / "log"),
    ):
        raise RuntimeError("the step failed")
    assert wait_until_gone(pids_in(tmp_path))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_server_ends_with_a_process_that_is_killed(server: str, tmp_path: Path, how: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ares.engines.command import running_server\n"
        "with running_server(sys.argv[1], {'name': '', 'base': ''}, startup=10, log=Path(sys.argv[2])):\n"
        "    print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, server, str(tmp_path / "log")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    os.kill(process.pid, how)
    process.wait()
    assert wait_until_gone(pids_in(tmp_path))


@pytest.mark.parametrize("line", ["no-such-program {port}", "sh -c 'echo {name} broke; exit 3'"])
def test_server_that_ends_is_an_error_with_its_last_output(tmp_path: Path, line: str) -> None:
    last = "not found" if line.startswith("no") else "a name broke"
    with (
        pytest.raises(AresError, match=rf"(?s)engine.command ended \(\d+\)\. The end of .*log:\n.*{last}"),
        running_server(line, {"name": "a name"}, startup=10, log=tmp_path / "log"),
    ):
        pass


def test_server_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(command, "_POLL", 0.05)
    with (
        pytest.raises(AresError, match=r"(?s)within engine.startup=0.3 seconds\..*loading"),
        running_server("sh -c 'echo loading; sleep 60'", {}, startup=0.3, log=tmp_path / "log"),
    ):
        pass


def test_unknown_placeholder_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(AresError, match=r"'prot' is not a placeholder; use {base}, {port}"),
        running_server("serve {base} --port {prot}", {"base": "b"}, startup=1, log=tmp_path / "log"),
    ):
        pass
