"""A loopback server that speaks enough of the Messages, Message Batches and token counting APIs, and of OpenAI's
chat completions, for the unmodified SDKs; with faults.

    python server.py '{"latency": 1.0, "faults": 0.05}'

prints the port that it listens on. Options: latency, seconds of a reply; faults, kinds, script,
content_script, opening, batch_faults, batch_refused (see faults.py); bias (answers.py); hang, seconds of a time-out;
retry_after, seconds, or limits, headers ("+2": the moment in 2 s), of a 429; message of errors, with
{key} for the key that came; headers of other replies; usage, the token counts of completions; batch_seconds,
until a batch ends; batch_hold, seconds before the reply to each batch's creation;
results_reset, how often a batch's results break off; key, the only one that is accepted. GET /_log returns all
attempts and their outcomes.
"""

import asyncio
import hashlib
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from answers import answer
from batches import Batches
from faults import Faults

OPTIONS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
STATUS = {"rate_limit": 429, "overloaded": 529, "server_error": 500, "unauthorized": 401, "invalid": 400}
STATUS |= {"gateway": 504}


class Server:
    """Counts every request by the hash of its body; `log` has (seconds, hash, outcome) of each attempt."""

    def __init__(self) -> None:
        self.faults = Faults(OPTIONS)
        self.batches = Batches(self.faults, self.message, OPTIONS.get("batch_seconds", 0.0))
        self.log: list[tuple[float, str, str]] = []
        self.sizes: list[int] = []  # bytes of the batches' bodies
        self.open = self.most_open = 0
        self.headers: dict[str, str] = OPTIONS.get("headers", {})
        self.holds: list[float] = OPTIONS.get("batch_hold", [])
        self.results_reset: int = OPTIONS.get("results_reset", 0)
        self.params: list[list[str]] = []  # names of the parameters of the batches' first requests

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, path, _ = lines[0].split(" ", 2)
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self.serve(method, path, headers, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        """Answers one request."""
        key = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        route = path.split("?")[0]
        if route == "/_log":
            await respond(writer, 200, self.recorded())
        elif "key" in OPTIONS and key != OPTIONS["key"]:
            await respond(writer, 401, error(f"invalid key: {key}"))
        elif route in ("/v1/messages", "/v1/chat/completions"):
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                await self.generate(json.loads(body), hashlib.sha256(body).hexdigest(), route, key, writer)
            finally:
                self.open -= 1
        elif route == "/v1/messages/count_tokens":
            await respond(writer, 200, {"input_tokens": len(texts(json.loads(body))[0]) // 3})
        elif route.startswith("/v1/messages/batches"):
            rest = route.removeprefix("/v1/messages/batches")
            if method == "POST" and not rest:
                self.sizes.append(len(body))
                asked = json.loads(body)["requests"]
                self.params.append(sorted(asked[0]["params"]))
                created = self.batches.create(asked)
                await asyncio.sleep(self.holds.pop(0) if self.holds else 0.0)
                await respond(writer, 200, created)
            elif found := self.batches.get(rest) if method == "GET" else self.batches.end(rest, method):
                if isinstance(found, bytes) and self.results_reset:
                    self.results_reset -= 1
                    await reset(writer, found)
                else:
                    await respond(writer, 200, found)
            else:
                await respond(writer, 404, error(f"not found: {rest}"))
        else:
            await respond(writer, 404, error(path))

    async def generate(
        self, body: Any, name: str, route: str, key: str, writer: asyncio.StreamWriter
    ) -> None:
        """One reply, or the fault that was drawn for it."""
        fault = self.faults.transport(name)
        if fault in STATUS:
            self.note(name, fault)
            asked = OPTIONS.get("limits", {"retry-after": str(OPTIONS.get("retry_after", 0.5))})
            extra = {k: moment(v) for k, v in asked.items()} if fault == "rate_limit" else {}
            said = OPTIONS.get("message", fault).replace("{key}", key)
            await respond(writer, STATUS[fault], error(said), extra)
            return
        if fault == "time_out":
            self.note(name, fault)
            await asyncio.sleep(OPTIONS.get("hang", 3600.0))
            return
        await asyncio.sleep(OPTIONS.get("latency", 0))
        message = self.message(body, name)
        reply = message if route == "/v1/messages" else completion(message)
        self.note(name, fault if fault != "ok" else message["_outcome"])
        reply.pop("_outcome", None)
        data = json.dumps(reply).encode()
        if fault == "reset":
            await reset(writer, data)
        elif fault == "slow_drip":
            writer.write(head(200, len(data)))
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(OPTIONS.get("drip", 0.5))
        elif fault == "malformed":
            await respond(writer, 200, data[: len(data) // 2])
        elif fault == "not_json":
            await respond(writer, 200, b"<html>502 Bad gateway</html>", {"content-type": "text/html"})
        else:
            await respond(writer, 200, data, self.headers)

    def recorded(self) -> dict[str, Any]:
        """The reply to /_log."""
        batches = {"batches": self.sizes, "batch_params": self.params}
        return {"log": self.log, "most_open": self.most_open, **batches}

    def note(self, name: str, outcome: str) -> None:
        """Logs an attempt."""
        self.log.append((time.time(), name, outcome))

    def message(self, body: Any, name: str) -> dict[str, Any]:
        """The Messages API's reply to a request."""
        said = texts(body)
        fault = self.faults.content(name, len(said) - 1)
        text = answer(said[0], OPTIONS.get("bias", 0.0), fault == "wrong_count")
        stop = {"refusal": "refusal", "max_tokens": "max_tokens"}.get(fault, "end_turn")
        if fault != "ok" and fault != "wrong_count":
            text = "I cannot help with that." if fault == "refusal" else text[: len(text) // 2]
        return {
            "id": f"msg_{name[:16]}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": sum(map(len, said)) // 3, "output_tokens": len(text) // 3},
            "_outcome": fault,
        }


def texts(body: Any) -> list[str]:
    """What the user said, turn by turn, without images."""
    contents = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return [
        content
        if isinstance(content, str)
        else "".join(part["text"] for part in content if part["type"] == "text")
        for content in contents
    ]


def completion(message: dict[str, Any]) -> dict[str, Any]:
    """The same reply in OpenAI's form."""
    stop = {"refusal": "content_filter", "max_tokens": "length"}.get(message["stop_reason"], "stop")
    said = {"role": "assistant", "content": message["content"][0]["text"]}
    usage = message["usage"]
    counted = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": sum(usage.values()),
    }
    return {
        "id": message["id"],
        "object": "chat.completion",
        "created": 0,
        "model": message["model"],
        "choices": [{"index": 0, "message": said, "finish_reason": stop}],
        "usage": OPTIONS.get("usage", counted),
    }


def moment(value: str) -> str:
    """The moment in so many seconds (RFC 3339) for "+seconds", else the value itself."""
    return (datetime.now(UTC) + timedelta(seconds=float(value))).isoformat() if value[0] == "+" else value


def error(message: str) -> dict[str, Any]:
    """The body of an API error."""
    return {"type": "error", "error": {"type": "api_error", "message": message}}


def head(status: int, length: int, headers: dict[str, str] | None = None) -> bytes:
    """The head of an HTTP response."""
    fields = {"content-type": "application/json", "content-length": str(length), **(headers or {})}
    return "\r\n".join([f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode()


async def reset(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Breaks the connection off in the middle of a body."""
    writer.write(head(200, len(data)) + data[: len(data) // 2])
    await writer.drain()
    writer.transport.abort()


async def respond(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
) -> None:
    """Sends a JSON body, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    writer.write(head(status, len(data), headers) + data)
    await writer.drain()


async def main() -> None:
    """Listens until it is killed."""
    server = Server()
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0, limit=1 << 24, backlog=512)
    port = listener.sockets[0].getsockname()[1]
    server.batches.address = f"http://127.0.0.1:{port}"
    print(port, flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
