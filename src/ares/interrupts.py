"""What ends a run early: SIGINT (Ctrl-C), SIGTERM, and SIGUSR1, by which Slurm announces that it preempts a job.

The first signal raises `Interrupted` in the main thread at once: files are complete or absent at any time. Where
something is worth saving first, `defer` lets the code stop at its next safe point. A thread ends the process if that
takes too long, because a main thread in a collective runs no signal handler, and at once after another signal.
Python drops an exception that is raised in a callback, such as that of a weak reference: then it is raised again.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_LIMIT = 9.5  # seconds until the thread ends the process
_AGAIN = 0.05  # seconds until a stop that was dropped is raised again
_TOGETHER = (
    0.3  # seconds: what arrives together counts as one signal, because `timeout` and Slurm send several
)


class Interrupted(SystemExit):
    """The end of a process that a signal asked for: exit code 130 after SIGINT, otherwise 143."""

    @property
    def exit_code(self) -> int:
        """The exit code."""
        return int(self.code or 0)


class _State:
    installed = False
    command: str | None = None
    received: signal.Signals | None = None
    deferred = False
    position = ""
    reported = False


def install(command: str | None, *, limit: float = _LIMIT) -> None:
    """Handles the signals in this process, which ends within `limit` seconds of the first one.

    `command` is what continues the run, for the line that reports the stop. A rank has None: it reports nothing, and
    its orchestrator decides when it must end at once.
    """
    _State.installed, _State.command = True, command
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_leave_to_parent)
    set_handlers()
    signal.signal(signal.SIGALRM, lambda *_: None if _State.deferred else check())
    sys.unraisablehook = _raise_again
    threading.Thread(target=_watch, args=(reader, limit), daemon=True).start()


def set_handlers() -> None:
    """Sets the handlers again, which Lightning replaces in a fit by some that exit with 0; nothing before `install`."""
    if _State.installed:
        for number in SIGNALS:
            signal.signal(number, _handle)


def note(position: str) -> None:
    """Records where the run is, for the line that reports a stop."""
    _State.position = position


def position() -> str:
    """What was noted last."""
    return _State.position


def received() -> bool:
    """Whether a signal has asked this process to end."""
    return _State.received is not None


def check() -> None:
    """Raises Interrupted if a signal was received."""
    if received():
        raise Interrupted(_exit_code())


def defer(on: bool) -> None:
    """Whether a signal raises nothing from now on, because the code calls `check` where it can stop."""
    _State.deferred = on


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Reports a stop, and raises Interrupted for any error that a received signal has led to."""
    try:
        yield
    except BaseException:
        if not received():
            raise
        _report()
        raise Interrupted(_exit_code()) from None


def _handle(number: int, _: object) -> None:
    if not received():
        _State.received = signal.Signals(number)
        if not _State.deferred:
            check()


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Shows an exception that Python has dropped, unless it is a stop."""
    if isinstance(dropped.exc_value, Interrupted):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    else:
        sys.__unraisablehook__(dropped)


def _exit_code() -> int:
    return 130 if _State.received == signal.SIGINT else 143


def _report() -> None:
    if _State.command is None or _State.reported:
        return
    _State.reported = True
    name = _State.received.name if _State.received else "a signal"
    where = f"in {_State.position}" if _State.position else "before the first step"
    line = f"\nstopped by {name} {where}; continue with: {_State.command}\n"
    os.write(2, line.encode())  # a main thread that is stuck may hold the lock of sys.stderr


def _watch(reader: int, limit: float) -> None:
    number = _next(reader, None)
    end = time.monotonic() + limit
    time.sleep(_TOGETHER)
    _next(reader, 0)
    if _State.command is not None:
        _next(reader, end - time.monotonic())
    else:
        time.sleep(end - time.monotonic())
    _State.received = _State.received or number  # a main thread that is stuck has not handled it
    _report()
    os._exit(_exit_code())


def _next(reader: int, timeout: float | None) -> signal.Signals | None:
    """The next of our signals, None if there is none within `timeout` seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    while select.select([reader], [], [], None if end is None else max(0.0, end - time.monotonic()))[0]:
        for number in os.read(reader, 512):
            if number in SIGNALS:
                return signal.Signals(number)
    return None


def _leave_to_parent() -> None:
    """In a forked process, such as a worker that loads data: its parent ends it."""
    if _State.installed:
        _State.installed = False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
