"""A chat policy of numbers, and an OpenAI-compatible server that returns token ids, in threads of this process."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from ares.engines.base import EngineJob
from ares.engines.server import ServerEngine
from ares.models.chat import Chat, ChatPolicy
from ares.models.inputs import Sampling
from ares.models.t5.policy import T5Policy
from ares.types import Example
from tests.support.policies import number_policy

IMAGE = 15  # stands for one image in a prompt


class NumberChat(T5Policy, ChatPolicy):
    """A policy whose prompts are numbers after one token per image; it does not see the images."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.pictures: dict[str, list[Image.Image]] = {}  # by pid

    def chat(self, example: Example) -> Chat:
        images = self.pictures.get(example.pid, [])
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": example.prompt}]
        ids = [IMAGE] * len(images) + list(self.encode([example]).ids[0])
        special = list(self.tokenizer.all_special_ids)
        return Chat([{"role": "user", "content": content}], images, ids, False, special)


def number_chat(seed: int = 0) -> NumberChat:
    """An untrained chat policy in eval mode."""
    policy = number_policy(seed)
    return NumberChat(policy.model, policy.tokenizer)


class TokenServer:
    """Serves a policy. `faults` are those of its first chat requests, after which it is well: a status, "slow" (2 s),
    "reset", "not json", or "die" (from then on it answers nothing). `alter` changes each reply in place.

    `models` are the names it offers, `load_status` what it says to a request for loading an adapter.
    """

    def __init__(
        self,
        policy: T5Policy,
        *,
        faults: Sequence[int | str] = (),
        alter: Callable[[dict[str, Any]], object] = lambda reply: None,
        load_status: int = 200,
        port: int = 0,
    ) -> None:
        self.policy, self.faults, self.alter, self.load_status = policy, list(faults), alter, load_status
        self.port, self.models = port, ["base"]
        self.adapters: list[dict[str, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.dead = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = _Quiet(("127.0.0.1", self.port), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def load(self, body: dict[str, str]) -> int:
        """Loads an adapter; returns the status, 400 for one that is loaded."""
        with self._lock:
            if self.load_status != 200 or body["lora_name"] in self.models:
                return 400 if self.load_status == 200 else self.load_status
            self.adapters.append(body)
            self.models.append(body["lora_name"])
            return 200

    def chat(self, body: dict[str, Any]) -> tuple[int | str, Any]:
        """The status or fault of a chat completion request, and the reply."""
        with self._lock:
            self.requests.append(body)
            fault: int | str = self.faults.pop(0) if self.faults else 200
            if fault == 200:
                if body["model"] not in self.models:
                    return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
                reply = self._completion(body)
                self.alter(reply)
                return 200, reply
        return fault, {"error": {"message": "it broke"}}

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        [message] = body["messages"]
        *images, text = message["content"]
        inputs = self.policy.encode([Example(text["text"], "")])
        limit = body["max_tokens"]
        if body["temperature"] == 0:
            written = self.policy.greedy(inputs, max_new_tokens=limit)
        else:
            filters = Sampling(body["top_k"], body["top_p"], body["temperature"])
            samples = self.policy.sample(
                inputs, k=body["n"], max_new_tokens=limit, seed=body["seed"], sampling=filters
            )
            written = [sample.ids for sample in samples]
        return {
            "prompt_token_ids": [IMAGE] * len(images) + list(inputs.ids[0]),
            "choices": [self._choice(index, ids, inputs) for index, ids in enumerate(written)],
        }

    def _choice(self, index: int, ids: list[int], inputs: Any) -> dict[str, Any]:
        with torch.no_grad():
            [logprobs] = self.policy.token_logprobs(inputs, torch.tensor([ids]), [len(ids)])
        return {
            "index": index,
            "finish_reason": "length" if self.policy.is_truncated(ids) else "stop",
            "token_ids": ids,
            "logprobs": {"content": [{"logprob": value} for value in logprobs.tolist()]},
        }

    def pictures(self, request: int) -> list[Image.Image]:
        """The images of a chat request, in order."""
        [message] = self.requests[request]["messages"]
        entries = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
        return [Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))) for uri in entries]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that gave up are no error."""


class _Handler(BaseHTTPRequestHandler):
    server_of: TokenServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        models = {"data": [{"id": name} for name in self.server_of.models]}
        self._answer(200, models if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/load_lora_adapter":
            self._answer(self.server_of.load(body), {})
        else:
            self._answer(*self.server_of.chat(body))

    def _answer(self, status: int | str, reply: Any) -> None:
        if status == "slow":
            time.sleep(2)
        self.server_of.dead |= status == "die"
        if self.server_of.dead or status in ("reset", "slow"):
            self.close_connection = True
            return
        data = b"<html>" if status == "not json" else json.dumps(reply).encode()
        self.send_response(status if isinstance(status, int) else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def adapter_folder(path: Path) -> Path:
    """A policy's folder with an adapter, as far as an engine looks into it."""
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base", "r": 8}))
    return path


def serve(port: int) -> None:
    """Serves an untrained policy until the process ends."""
    with TokenServer(number_chat(), port=port):
        threading.Event().wait()


def numbered(count: int) -> dict[str, Example]:
    """Examples of different prompts, by pid."""
    return {f"p{n}": Example(" ".join(["5"] * (1 + n)), "", f"p{n}") for n in range(count)}


def ask_as_rank(rank: int, world: int, folder: Path, urls: list[str], command: str | None) -> None:
    """Writes greedy responses as one of two ranks, the second of which asks once more when the first is done."""
    job = EngineJob("generate", folder / "policy", 4, folder / "server.log")
    limits = {"concurrency": 2, "timeout": 20.0, "deadline": 20.0, "startup": 60.0}
    with ServerEngine(number_chat(), job, urls=urls, command=command, **limits) as engine:
        found = engine.greedy(numbered(5), max_new_tokens=4, label="test")
        if rank == 1:
            time.sleep(1.0)
            engine.sample([numbered(1)["p0"]], k=2, seed=0, sampling=Sampling(), max_new_tokens=4)
    (folder / f"{rank}.json").write_text(json.dumps([row.token_ids for row in found]))
