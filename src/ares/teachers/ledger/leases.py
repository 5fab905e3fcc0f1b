"""Who holds a lease: a process, identified by host, pid namespace and pid."""

import os
import socket
import uuid
from pathlib import Path


def new_owner() -> str:
    """A unique owner of one lease in this process."""
    return f"{_host()}|{os.getpid()}|{uuid.uuid4().hex}"


def has_ended(owner: str) -> bool:
    """Whether the owner's process has ended, as far as this machine knows."""
    host, pid, _ = owner.rsplit("|", 2)
    if host != _host():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _host() -> str:
    # Process ids mean something only within one pid namespace of one host.
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}/{os.readlink(namespace) if namespace.exists() else ''}"
