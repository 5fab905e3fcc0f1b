"""How a process ends after a signal: its exit code, its last line, and how long it takes."""

import signal
import subprocess
import sys
import time

import pytest

START = "from ares import interrupts; import time; interrupts.install('python train.py a=1', limit=1.5); "
STUCK = (
    "import ctypes; lock = ctypes.create_string_buffer(64); libc = ctypes.CDLL(None); "
    "libc.pthread_mutex_lock(lock); print(flush=True); libc.pthread_mutex_lock(lock)"  # runs no signal handler
)


def ended(code: str, *signals: signal.Signals, pause: float = 0.0) -> tuple[int, str, float]:
    """Exit code, stderr, and seconds from the first signal to the end of a process that prints a line when ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.2)  # it may still be on its way to where it waits
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(pause)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors, time.monotonic() - began


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_signal_ends_process_with_its_code_and_the_command_that_continues(number, code) -> None:
    found, errors, _ = ended(
        "\nwith interrupts.reported():\n  interrupts.note('ppo, epoch 2')\n  print(flush=True); time.sleep(20)",
        number,
    )
    assert found == code
    line = f"stopped by {number.name} in ppo, epoch 2; continue with: python train.py a=1"
    assert errors.strip() == line


def test_deferred_stop_lets_code_save_first_and_signals_sent_together_count_as_one() -> None:
    code, errors, _ = ended(
        "\nwith interrupts.reported():\n  interrupts.defer(True)\n  print(flush=True)\n  time.sleep(0.7)\n"
        "  print('saved', file=__import__('sys').stderr)\n  interrupts.check()\n  print('never')",
        *[signal.SIGTERM] * 3,
    )
    assert code == 143
    assert errors.startswith("saved\n")
    assert errors.count("stopped by SIGTERM before the first step") == 1


def test_error_that_a_stop_leads_to_is_not_shown() -> None:
    code, errors, _ = ended(
        "\nwith interrupts.reported():\n  interrupts.defer(True)\n  print(flush=True)\n  time.sleep(0.7); 1 / 0",
        signal.SIGTERM,
    )
    assert code == 143
    assert "Traceback" not in errors
    assert "stopped by SIGTERM" in errors


def test_stop_within_the_callback_of_a_weak_reference_is_raised_again() -> None:
    code, errors, seconds = ended(
        "\nimport weakref\nclass Thing: pass\nthing = Thing()\n"
        "found = weakref.ref(thing, lambda _: (print(flush=True), time.sleep(20)))\n"
        "with interrupts.reported():\n  del thing\n  time.sleep(20)",
        signal.SIGTERM,
    )
    assert code == 143
    assert errors.strip() == "stopped by SIGTERM before the first step; continue with: python train.py a=1"
    assert seconds < 1  # the limit is 1.5


def test_process_that_is_stuck_is_ended_in_time() -> None:
    found, errors, seconds = ended(STUCK, signal.SIGTERM)
    assert (found, errors.count("continue with")) == (143, 1)
    assert 1 < seconds < 5


def test_another_signal_ends_process_at_once() -> None:
    code = "interrupts.defer(True); print(flush=True); time.sleep(20)"
    found, errors, seconds = ended(code, signal.SIGINT, signal.SIGINT, pause=0.4)
    assert (found, errors.count("stopped by SIGINT")) == (130, 1)
    assert seconds < 1.4


def test_forked_worker_ends_without_its_parent() -> None:
    code = (
        "import os, signal\npid = os.fork()\nif not pid: time.sleep(20)\n"
        "time.sleep(0.3); os.kill(pid, signal.SIGINT); os.kill(pid, signal.SIGTERM)\n"
        "assert os.waitpid(pid, 0)[1] == signal.SIGTERM\nprint(flush=True); time.sleep(2)"
    )
    found, errors, _ = ended(code)
    assert (found, errors) == (0, "")
