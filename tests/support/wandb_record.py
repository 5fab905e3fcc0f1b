"""Reads what wandb wrote offline."""

import json
from pathlib import Path
from typing import Any


def records(data: bytes) -> list[bytes]:
    """The records of a LevelDB-framed log after its 7-byte header: blocks of 32 KiB, chunks of (crc, length, type)."""
    found, part, position = [], b"", 7
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            found.append(part)
            part = b""
    return found


def messages(log: Path) -> list[Any]:
    """The records of an offline run's .wandb file, parsed."""
    from wandb.proto import wandb_internal_pb2

    return [wandb_internal_pb2.Record.FromString(payload) for payload in records(log.read_bytes())]


def run_and_summary(log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`({"group", "config"}, summary)` of an offline run's .wandb file."""
    run: dict[str, Any] = {"group": None, "config": {}}
    summary: dict[str, Any] = {}
    for record in messages(log):
        if record.HasField("run"):
            run["group"] = record.run.run_group
            run["config"] |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        for update in record.summary.update:
            summary[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
    return run, summary


def artifacts(log: Path) -> list[dict[str, Any]]:
    """Name, type, metadata and references of the artifacts in an offline run's .wandb file."""
    found = [record.artifact for record in messages(log) if record.HasField("artifact")]
    return [
        {
            "name": artifact.name,
            "type": artifact.type,
            "metadata": json.loads(artifact.metadata or "{}"),
            "references": [entry.ref for entry in artifact.manifest.contents if entry.ref],
        }
        for artifact in found
    ]
