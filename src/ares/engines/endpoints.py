"""The servers of an engine: round-robin, retries, failover, and the model that they must offer."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from httpx2 import AsyncClient, Limits, Response, Timeout, TransportError

from ares.types import AresError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts, doubled each time
_CONNECT, _HEALTH = 10.0, 5.0  # seconds within which a server accepts a connection, and says that it is well
_BUSY = (408, 429)


class _Failed(Exception):
    """An attempt that another one may repeat; `unreachable`: the server may be gone."""

    def __init__(self, reason: str, *, unreachable: bool) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class Endpoints:
    """Servers at `urls` (with or without /v1) that are all asked for the model `name`.

    A server that can no longer be reached is left out, and the others take over its requests. `timeout`: seconds of
    one attempt, `deadline`: of all attempts of a request; `step` is the key of the step, for the messages.
    """

    def __init__(
        self, urls: Sequence[str], name: str, *, timeout: float, deadline: float, concurrency: int, step: str
    ) -> None:
        self.alive = [str(url).rstrip("/").removesuffix("/v1") for url in urls]
        self.name, self.timeout, self.deadline, self.step = name, timeout, deadline, step
        self.concurrency = concurrency
        self._turn = itertools.count()

    def client(self) -> AsyncClient:
        """A new HTTP client for one event loop. The environment's proxies are for the outside world, not for servers."""
        key = os.environ.get("VLLM_API_KEY")
        return AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=Timeout(None, connect=_CONNECT),
            limits=Limits(max_connections=self.concurrency + len(self.alive)),
            trust_env=False,
        )

    async def offer(self, client: AsyncClient, adapter: Path | None) -> None:
        """Makes every server offer the model: its adapter is loaded, full weights must be served already.

        Idempotent, also when several ranks do it. Raises AresError where a server refuses.
        """
        for url in list(self.alive):
            try:
                await self._offer(client, url, adapter)
            except _Failed as error:
                self._leave_out(url, error)
        if not self.alive:
            raise self._none_left("see the warnings above")

    async def _offer(self, client: AsyncClient, url: str, adapter: Path | None) -> None:
        if self.name in await self._models(client, url):
            return
        if adapter is None:
            raise AresError(
                f"{url} does not serve {self.name}, the policy of {self.step}; start it with its folder and "
                f"--served-model-name {self.name}, or let engine.command do so (docs/engines.md)."
            )
        body = {"lora_name": self.name, "lora_path": str(adapter.resolve())}
        response = await self._request(client, "POST", f"{url}/v1/load_lora_adapter", body)
        # Another rank may have loaded it in the meantime.
        if response.status_code != 200 and self.name not in await self._models(client, url):
            raise AresError(
                f"{url} cannot load the adapter {adapter} ({_message(response)}); it needs --enable-lora, "
                "--max-lora-rank of at least model.lora.r, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment, and "
                "the same file system (docs/engines.md)."
            )

    async def _models(self, client: AsyncClient, url: str) -> list[str]:
        response = await self._request(client, "GET", f"{url}/v1/models")
        try:
            return [model["id"] for model in _json(response)["data"]]
        except (KeyError, TypeError):
            raise AresError(
                f"{url} does not list its models ({_message(response)}); correct engine.urls."
            ) from None

    async def chat(self, client: AsyncClient, body: Mapping[str, Any]) -> Any:
        """The reply to a chat completion request, from whichever server gives one.

        Raises AresError if a server refuses it, if none can be reached any more, or at the deadline.
        """
        give_up, pause, failed, reason = time.monotonic() + self.deadline, _FIRST_PAUSE, "", ""
        while self.alive:
            url = self._next(failed)
            try:
                return await self._completion(client, url, body)
            except _Failed as error:
                reason, failed = f"{url}: {error}", url
                if error.unreachable and url in self.alive and not await self._is_healthy(client, url):
                    self._leave_out(url, error)
            if time.monotonic() + pause > give_up:
                raise AresError(
                    f"A request of {self.step} got no reply within engine.deadline={self.deadline:g} seconds ({reason}); "
                    "run the same command again to continue after the parts that are written."
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise self._none_left(reason)

    def _next(self, failed: str) -> str:
        """The server whose turn it is, another than the one that just failed where there is another."""
        others = [url for url in self.alive if url != failed] or self.alive
        return others[next(self._turn) % len(others)]

    async def _completion(self, client: AsyncClient, url: str, body: Mapping[str, Any]) -> Any:
        response = await self._request(
            client, "POST", f"{url}/v1/chat/completions", {"model": self.name, **body}
        )
        status = response.status_code
        if status == 200:
            return _json(response)
        if status >= 500 or status in _BUSY:
            raise _Failed(_message(response), unreachable=False)
        if status == 404:
            raise AresError(
                f"{url} does not know the model {self.name} ({_message(response)}), so it was restarted since "
                f"{self.step} began; run the same command again, which loads the adapter anew."
            )
        raise AresError(f"{url} refuses a request of {self.step} ({_message(response)}).")

    async def _request(
        self, client: AsyncClient, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> Response:
        try:
            async with asyncio.timeout(self.timeout):
                return await client.request(method, url, json=body)
        except TimeoutError:
            raise _Failed(f"no reply within {self.timeout:g} seconds", unreachable=True) from None
        except TransportError as error:
            raise _Failed(f"{type(error).__name__}: {error}", unreachable=True) from None

    async def _is_healthy(self, client: AsyncClient, url: str) -> bool:
        try:
            async with asyncio.timeout(_HEALTH):
                return (await client.get(f"{url}/health")).status_code == 200
        except (TimeoutError, TransportError):
            return False

    def _leave_out(self, url: str, error: Exception) -> None:
        if url in self.alive:
            self.alive.remove(url)
            print(f"warning: {self.step}: {url} is left out from here on ({error})", file=sys.stderr)

    def _none_left(self, reason: str) -> AresError:
        return AresError(
            f"No server of engine.urls can be reached any more ({reason}); start one and run the same command again: "
            f"{self.step} continues after the parts that are written."
        )


def _json(response: Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise _Failed("a reply that is not JSON", unreachable=False) from None


def _message(response: Response) -> str:
    """The status of a refused request and the beginning of its reason."""
    return f"{response.status_code}: {' '.join(response.text.split())[:300]}"
