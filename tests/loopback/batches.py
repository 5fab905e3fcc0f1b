"""The Message Batches of the loopback server."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from faults import Faults


class Batches:
    """Batches end `seconds` after their creation; a request's result may be errored, expired, missing or there
    twice."""

    def __init__(self, faults: Faults, message: Callable[[Any, str], dict[str, Any]], seconds: float) -> None:
        self.faults, self.message, self.seconds = faults, message, seconds
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.created: dict[str, float] = {}
        self.address = ""  # of the server, for the links that it gives
        self.lines: dict[str, bytes] = {}

    def create(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """A new batch."""
        name = f"msgbatch_{len(self.requests):04d}"
        self.requests[name], self.created[name] = requests, time.time()
        return self.describe(name)

    def get(self, path: str) -> Any:
        """A batch (/<id>), its results (/<id>/results), or all batches, the latest first (nothing)."""
        if not path:
            data = [self.describe(name) for name in reversed(self.requests)]
            return {"data": data, "has_more": False, "first_id": None, "last_id": None}
        _, name, *rest = path.split("/")
        if not rest:
            return self.describe(name)
        if name not in self.lines:
            self.lines[name] = b"".join(self._result(request) for request in self.requests[name])
        return self.lines[name]

    def describe(self, name: str) -> dict[str, Any]:
        """A batch as the API shows it: of its requests only how many they are."""
        ended = time.time() >= self.created[name] + self.seconds
        count = len(self.requests[name])
        counts = {"processing": 0 if ended else count, "succeeded": count if ended else 0}
        created = datetime.fromtimestamp(self.created[name], UTC).isoformat()
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": created,
            "expires_at": created,
            "ended_at": created if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.address}/v1/messages/batches/{name}/results" if ended else None,
        }

    def _result(self, request: dict[str, Any]) -> bytes:
        fault = self.faults.batch(request["custom_id"])
        if fault == "missing":
            return b""
        result: dict[str, Any] = {"type": fault}
        if fault == "errored":
            detail = {"type": "api_error", "message": "it broke"}
            result["error"] = {"type": "error", "error": detail}
        elif fault in ("ok", "duplicate"):
            message = self.message(request["params"], request["custom_id"])
            message.pop("_outcome")
            result = {"type": "succeeded", "message": message}
        line = json.dumps({"custom_id": request["custom_id"], "result": result}).encode() + b"\n"
        return line * (2 if fault == "duplicate" else 1)
