"""Which questions RL holds out."""

import hashlib


def is_held_out(pid: str, share: float) -> bool:
    """Whether a question is held out: by sha256 of its id, the same in every run, round and order."""
    return int.from_bytes(hashlib.sha256(pid.encode()).digest()[:8], "big") < share * 2**64
