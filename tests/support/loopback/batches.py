"""The Message Batches of the loopback server."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from faults import Faults


class Batches:
    """Batches end `seconds` after their creation (a list: per batch, then 0); a request's result may be errored,
    expired, missing or duplicated. A canceled batch has half of its results, an archived one none."""

    def __init__(
        self, faults: Faults, message: Callable[[Any, str], dict[str, Any]], seconds: float | list[float]
    ) -> None:
        self.faults, self.message, self.seconds = faults, message, seconds
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.created: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.canceled: set[str] = set()
        self.archived: set[str] = set()
        self.address = ""  # of the server, for the links in its replies
        self.lines: dict[str, bytes] = {}

    def create(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """A new batch."""
        name = f"msgbatch_{len(self.created):04d}"
        seconds = self.seconds
        if isinstance(seconds, list):
            seconds = seconds.pop(0) if seconds else 0.0
        self.requests[name], self.created[name] = requests, time.time()
        self.ends[name] = time.time() + seconds
        return self.describe(name)

    def end(self, path: str, method: str) -> dict[str, Any] | None:
        """Deletes a batch (DELETE /<id>), cancels it (/<id>/cancel) or archives it (/<id>/archive, which the API
        does by itself after 29 days)."""
        name = path.split("/")[1]
        shown = self.describe(name)
        if method == "DELETE":
            del self.requests[name]
        elif path.endswith("cancel"):
            self.canceled.add(name)
            self.ends[name] = time.time() + 0.2
        else:
            self.archived.add(name)
        return shown

    def get(self, path: str) -> Any:
        """A batch (/<id>), its results (/<id>/results), or all batches, the latest first (empty path); None if
        there is none."""
        if not path:
            data = [self.describe(name) for name in reversed(self.requests)]
            return {"data": data, "has_more": False, "first_id": None, "last_id": None}
        _, name, *rest = path.split("/")
        if name not in self.requests:
            return None
        if not rest:
            return self.describe(name)
        if name not in self.lines:
            half = len(self.requests[name]) // 2 if name in self.canceled else None
            lines = [self._result(request) for request in self.requests[name][:half]]
            lines += [_canceled(request) for request in self.requests[name][len(lines) :]]
            self.lines[name] = b"".join(lines)
        return self.lines[name]

    def describe(self, name: str) -> dict[str, Any]:
        """A batch as the API shows it, with the number of its requests."""
        canceled = name in self.canceled
        ended = time.time() >= self.ends[name] or name in self.archived
        count = len(self.requests[name])
        counts = {"processing": 0 if ended else count, "succeeded": count if ended else 0}
        created = datetime.fromtimestamp(self.created[name], UTC).isoformat()
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "canceling" if canceled else "in_progress",
            "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": created,
            "expires_at": created,
            "ended_at": created if ended else None,
            "archived_at": created if name in self.archived else None,
            "cancel_initiated_at": created if canceled else None,
            "results_url": None
            if name in self.archived or not ended
            else f"{self.address}/v1/messages/batches/{name}/results",
        }

    def _result(self, request: dict[str, Any]) -> bytes:
        fault = self.faults.batch(request["custom_id"])
        if fault == "missing":
            return b""
        result: dict[str, Any] = {"type": fault}
        if fault == "errored":
            detail = {"type": "api_error", "message": "it broke"}
            result["error"] = {"type": "error", "error": detail}
        elif fault == "refused":
            detail = {"type": "invalid_request_error", "message": self.faults.batch_refused}
            result = {"type": "errored", "error": {"type": "error", "error": detail}}
        elif fault in ("ok", "duplicate"):
            message = self.message(request["params"], request["custom_id"])
            message.pop("_outcome")
            result = {"type": "succeeded", "message": message}
        line = json.dumps({"custom_id": request["custom_id"], "result": result}).encode() + b"\n"
        return line * (2 if fault == "duplicate" else 1)


def _canceled(request: dict[str, Any]) -> bytes:
    return json.dumps({"custom_id": request["custom_id"], "result": {"type": "canceled"}}).encode() + b"\n"
