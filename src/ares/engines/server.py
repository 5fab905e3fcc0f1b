"""Text from OpenAI-compatible servers that return token ids (vLLM), with the policy as an adapter or as full weights."""

import asyncio
import base64
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from ares.console import tqdm
from ares.engines.base import Engine, EngineJob, Sample
from ares.engines.command import running_server
from ares.engines.endpoints import Endpoints
from ares.engines.replies import Expected, read_reply
from ares.models.chat import Chat, ChatPolicy
from ares.models.inputs import Sampling
from ares.models.policy import Policy
from ares.ranks import barrier, gather, is_first, shard
from ares.rl.masked import pad_right
from ares.storage.files import read_json, sha256_path
from ares.types import AresError, Example, Response

if TYPE_CHECKING:
    from PIL.Image import Image

_LARGEST_GAP = 0.05  # nats per token, the mean between the server's log-probabilities and the policy's
# Explicit, because a server takes what a request leaves out from the model's generation_config.json.
_PLAIN = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


class ServerEngine(Engine):
    """Sends chat completions to the servers at `urls`, or to one per node that `command` starts (conf/engine/server.yaml).

    The policy stays in this process: the server's prompt ids must equal its own, and on the first replies the server's
    log-probabilities must agree with its own.
    """

    def __init__(
        self,
        policy: Policy,
        job: EngineJob,
        *,
        urls: Sequence[str],
        command: str | None,
        concurrency: int,
        timeout: float,
        deadline: float,
        startup: float,
        seeded: bool = True,
    ) -> None:
        if not isinstance(policy, ChatPolicy):
            raise AresError("engine=server serves vision-language models only; use engine=hf.")
        self.policy, self.job, self.urls, self.command = policy, job, urls, command
        self.concurrency, self.timeout, self.deadline, self.startup = concurrency, timeout, deadline, startup
        adapter = job.policy / "adapter_config.json"
        self.adapter = read_json(adapter) if adapter.exists() else None
        # Names the weights, so that a server never answers with others.
        self.name = f"ares-{sha256_path(job.policy)[:8]}"
        self._checked, self.seeded = False, seeded
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            urls = self._own_server() if self.command else self.urls
            self.endpoints = Endpoints(
                urls,
                self.name,
                timeout=self.timeout,
                deadline=self.deadline,
                concurrency=self.concurrency,
                step=self.job.step,
            )
            asyncio.run(self._offer())
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if self.command and kind is None:
                barrier()  # other ranks of the node may still ask

    def _own_server(self) -> list[str]:
        """Starts the server of this node, as its first rank; returns its url on every rank."""
        assert self.command is not None
        node, url = os.environ.get("GROUP_RANK", "0"), None
        if os.environ.get("LOCAL_RANK", "0") == "0":
            adapter = self.adapter or {}
            values = {
                "base": adapter.get("base_model_name_or_path", self.job.policy),
                "policy": self.job.policy.resolve(),
                "name": self.name,
                "rank": adapter.get("r", 1),
            }
            log = self.job.log.with_stem(f"{self.job.log.stem}-{node}")
            url = self._open.enter_context(
                running_server(self.command, values, startup=self.startup, log=log)
            )
        return [found for other, found in gather((node, url)) if other == node and found]

    async def _offer(self) -> None:
        async with self.endpoints.client() as client:
            await self.endpoints.offer(client, self.job.policy if self.adapter else None)

    def sample(
        self, examples: Sequence[Example], *, k: int, seed: int, sampling: Sampling, max_new_tokens: int
    ) -> list[Sample]:
        """k samples per example, each question in one request with a seed of its own."""
        filters = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        body = {**filters, "n": k, "max_tokens": max_new_tokens}
        bodies = [{**body, **({"seed": _seed(seed, e.pid)} if self.seeded else {})} for e in examples]
        return self._answers(examples, bodies)

    def greedy(self, examples: Mapping[str, Example], *, max_new_tokens: int, label: str) -> list[Response]:
        """A greedy response to each example, in their order; each rank asks for its share."""
        pids = shard(list(examples))
        body = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "n": 1, "max_tokens": max_new_tokens}
        samples = self._answers([examples[pid] for pid in pids], [body] * len(pids), label)
        written = {}
        for pid, sample in zip(pids, samples, strict=True):
            text, truncated = self.policy.decode(sample.ids), self.policy.is_truncated(sample.ids)
            written[pid] = Response(pid, text, tuple(sample.ids), truncated)
        found = {pid: response for part in gather(written) for pid, response in part.items()}
        return [found[pid] for pid in examples]

    def _answers(
        self, examples: Sequence[Example], bodies: Sequence[Mapping[str, Any]], label: str | None = None
    ) -> list[Sample]:
        """The samples of all examples, in order."""
        answers = asyncio.run(self._ask(examples, bodies, label))
        if answers and not self._checked:
            count = self.job.batch_size
            check_logprobs(self.policy, examples[:count], answers[:count], self.job.step)
            self._checked = True
        return [sample for samples in answers for sample in samples]

    async def _ask(
        self, examples: Sequence[Example], bodies: Sequence[Mapping[str, Any]], label: str | None
    ) -> list[list[Sample]]:
        slots, reading = asyncio.Semaphore(self.concurrency), asyncio.Lock()
        hidden = label is None or not is_first()
        with tqdm(total=len(examples), desc=label, dynamic_ncols=True, disable=hidden) as bar:
            async with self.endpoints.client() as client:

                async def one(example: Example, body: Mapping[str, Any]) -> list[Sample]:
                    async with slots:
                        async with reading:  # tokenizers refuse two threads at a time
                            prompt, expected = await asyncio.to_thread(self._prompt, example, body)
                        reply = await self.endpoints.chat(client, {**prompt, **body})
                    bar.update()
                    return read_reply(reply, expected)

                return await asyncio.gather(*map(one, examples, bodies))

    def _prompt(self, example: Example, body: Mapping[str, Any]) -> tuple[dict[str, Any], Expected]:
        """The parts of a request that the policy knows, and what the reply must hold."""
        chat, eos = self.policy.chat(example), int(self.policy.tokenizer.eos_token_id)
        prompt = {
            **_PLAIN,
            "messages": openai_messages(chat),
            "add_special_tokens": chat.add_special_tokens,
            "logprobs": True,
            "top_logprobs": 0,
            "return_token_ids": True,
            # The policy's EOS ends a response, and not the others of generation_config.json.
            "stop_token_ids": [eos],
            "ignore_eos": True,
            # A sampled image token would stand for an image that is not there.
            "logit_bias": {str(token): -100 for token in sorted({*chat.special_ids} - {eos})},
        }
        return prompt, Expected(example.pid, chat.ids, body["n"], eos, body["max_tokens"])


def openai_messages(chat: Chat) -> list[dict[str, Any]]:
    """The messages of a chat in OpenAI's form, in which image entries hold the images, as data URIs."""
    left = [data_uri(image) for image in chat.images]

    def part(entry: Mapping[str, Any]) -> dict[str, Any]:
        if entry["type"] != "image":
            return dict(entry)
        return {"type": "image_url", "image_url": {"url": left.pop(0)}}

    found = []
    for message in chat.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [part(entry) for entry in content]
        found.append({**message, "content": content})
    return found


def data_uri(image: "Image") -> str:
    """The pixels of an image, as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def check_logprobs(
    policy: Policy, examples: Sequence[Example], answers: Sequence[Sequence[Sample]], step: str
) -> None:
    """Raises AresError if a server's log-probabilities differ from the policy's by more than 0.05 nats on average."""
    samples = [sample for found in answers for sample in found]
    ids = pad_right([sample.ids for sample in samples], policy.pad_id).to(policy.device)
    lengths = [len(sample.ids) for sample in samples]
    theirs = [sample.logprobs or [] for sample in samples]
    known = pad_right([[1.0] * len(row) for row in theirs], 0.0).bool()
    with policy.frozen():
        inputs = policy.encode(examples).repeat(len(answers[0])).to(policy.device)
        own = policy.token_logprobs(inputs, ids, lengths).cpu().float()[:, : known.shape[1]]
    gap = (own - pad_right(theirs, 0.0))[known].abs().mean().item() if known.any() else 0.0
    if not gap <= _LARGEST_GAP:
        raise AresError(
            f"{step}: the server's log-probabilities differ from the policy's by {gap:.3f} nats per token, more than "
            f"{_LARGEST_GAP}: it may ignore the adapter (for example on its vision tower), see images of another size "
            "(model.max_pixels), use another chat template, serve a quantized base or return processed log-probabilities "
            "(docs/engines.md)."
        )


def _seed(seed: int, pid: str) -> int:
    """The seed of a question's request: the first 63 bits of sha256(f'{seed}/{pid}')."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{pid}".encode()).digest()[:8], "big") >> 1
