"""Device memory of training and generation, by arithmetic on a model's shapes; benchmarks/memory_peaks.py measures it.

What a layer keeps for its backward pass was counted in transformers' code with fused attention and without dropout. All
results are bytes per device.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

# Logits that are computed at a time: 512 MiB in float32.
MOST_LOGITS = 2**27
# They, then their probabilities and gradients in their place, and copies of a part. When a token is drawn, filters sort them.
_LOGITS_COPIES, _CHOOSING_COPIES = 2, 4
# NF4 with nested quantization: 4 bits, one byte per 64 weights, and 4 bytes per 64 · 256.
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Responses of one prompt lie in one row of at most as many tokens, unless one response is longer.
LONGEST_ROW = 512


@dataclass(frozen=True)
class Stack:
    """Equal transformer layers.

    `inner`: attention heads times their width; `kv`: the same of keys and values; `hidden`: the width of the
    feed-forward, into which lead two matrices if it is `gated`. `kept`: how many tensors of that width it keeps. `cross`:
    the layers also attend to another stack. `bias`: attention adds a learned matrix per head.
    """

    layers: int
    width: int
    heads: int
    inner: int
    kv: int
    hidden: int
    gated: bool = True
    kept: int = 4
    cross: bool = False
    bias: bool = False

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the linear layers of one layer."""
        width, hidden = self.width, self.hidden
        attention = [(width, self.inner), (width, self.kv), (width, self.kv), (self.inner, width)]
        return attention * (1 + self.cross) + [(width, hidden)] * (1 + self.gated) + [(hidden, width)]

    @property
    def weights(self) -> int:
        """Weights of one layer, without norms and biases."""
        return sum(inputs * outputs for inputs, outputs in self.linears)


@dataclass(frozen=True)
class ModelSize:
    """The shapes that memory depends on, and how the model is loaded.

    `parameters`: all weights, of `weight` bytes each as loaded, of which `frozen` are never trained. `adapted`: inputs
    and outputs of the linear layers that an adapter trains, summed: its weights per rank. `rank`: of the adapter that the
    policy itself is, 0 if it is all weights. `quantized`: how many weights are loaded in NF4. `decoder` writes the
    response, and reads the prompt unless an `encoder` does; `tower`: the vision tower, if it is trained, with `patches`
    per token of an image.
    """

    parameters: int
    vocabulary: int
    adapted: int
    decoder: Stack
    encoder: Stack | None = None
    tower: Stack | None = None
    patches: int = 1
    frozen: int = 0
    weight: int = 4
    rank: int = 0
    quantized: int = 0

    @property
    def value_head(self) -> int:
        """Weights of `ares.models.heads.value_head`."""
        return 2 * self.decoder.width**2 + 4 * self.decoder.width + 1


@dataclass(frozen=True)
class Setup:
    """How a model is trained.

    `rank`: of the trained adapter, 0 for all weights; `trained`: bytes per trained weight. `mixed`: layers compute in
    half precision whatever their weights are. `shards`: devices that divide the weights among themselves (fsdp);
    `replicas`: there are several devices with all of them (ddp, which holds the gradients a second time).
    """

    rank: int = 0
    trained: int = 4
    mixed: bool = False
    checkpointing: bool = False
    shards: int = 1
    replicas: bool = False


@dataclass(frozen=True)
class Batch:
    """A micro-batch: prompts of `prompt` tokens, images included, each with `samples` responses of `response` tokens."""

    rows: int
    prompt: int
    response: int
    samples: int = 1


@dataclass(frozen=True)
class Memory:
    """Bytes by purpose; `working` is what exists for a moment at the peak: logits, gradients in one layer, gathered shards."""

    weights: float = 0.0
    gradients: float = 0.0
    moments: float = 0.0
    activations: float = 0.0
    cache: float = 0.0
    working: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))

    def divided(self, unit: float) -> Self:
        """The same in another unit."""
        return type(self)(**{field.name: getattr(self, field.name) / unit for field in fields(self)})


def weight_bytes(size: ModelSize) -> float:
    """The weights of one network as loaded, without adapters."""
    return size.quantized * _NF4 + (size.parameters - size.quantized) * size.weight


def training_memory(
    size: ModelSize,
    setup: Setup,
    batch: Batch,
    *,
    networks: int = 1,
    trained: int = 1,
    heads: int = 0,
    idle: int = 0,
) -> Memory:
    """Fine-tuning or RL on micro-batches.

    `networks` are held, and `trained` models: networks or adapters, whose forward passes exist at the same time.
    `heads` value heads and `idle` weights of other adapters come on top.
    """
    own = setup.rank * size.adapted if setup.rank else size.parameters - size.frozen
    learned = trained * own + heads * size.value_head
    extra = learned if setup.rank else heads * size.value_head
    held = networks * weight_bytes(size) + extra * setup.trained + idle * 4
    # Autocast holds float32 weights in half precision, too, from their first use to the end of the pass.
    casts = 2 * (networks * size.parameters * (size.weight == 4) + extra) if setup.mixed else 0
    sharded = setup.shards > 1
    return Memory(
        weights=held / setup.shards + (0 if sharded else casts),
        gradients=learned * setup.trained * (1 + setup.replicas) / setup.shards,
        moments=2 * learned * setup.trained / setup.shards,
        activations=_activations(size, setup, batch, passes=trained),
        working=sharded * networks * _gathered(size, setup)
        + max(_logits(size, batch), _layer(size, setup, batch)),
    )


def generation_memory(size: ModelSize, batch: Batch, *, networks: int = 1, adapters: int = 0) -> Memory:
    """Writing the responses of a batch, then computing their log-probabilities, with `adapters` in float32."""
    setup = Setup(rank=size.rank)
    token = batch.rows * size.decoder.layers * 2 * size.decoder.kv * size.weight
    cache = token * (batch.prompt / batch.samples + batch.response)  # the samples of a prompt share its keys
    layer = _layer(size, setup, batch)
    if size.encoder is None:  # reads the prompts into a cache, then the responses
        read, written = replace(batch, rows=batch.rows // batch.samples, response=0), replace(batch, prompt=0)
        layer = cache + max(_layer(size, setup, read), _layer(size, setup, written))
    choosing = cache + _CHOOSING_COPIES * 4 * batch.rows * size.vocabulary
    return Memory(
        weights=networks * weight_bytes(size) + adapters * size.rank * size.adapted * 4,
        cache=cache,
        working=max(choosing, _logits(size, batch), layer) - cache,
    )


def _stacks(size: ModelSize, batch: Batch) -> list[tuple[Stack, int]]:
    """The stacks, and the tokens per row that each reads."""
    if size.encoder is not None:
        return [(size.encoder, batch.prompt), (size.decoder, batch.response)]
    text = (size.decoder, batch.prompt + batch.response)
    return [text] if size.tower is None else [text, (size.tower, batch.prompt * size.patches)]


def _activations(size: ModelSize, setup: Setup, batch: Batch, *, passes: int) -> float:
    """What the layers of all passes keep; with checkpointing their inputs, and all of one layer while it runs again."""
    kept, again = 0.0, 0.0
    for stack, tokens in _stacks(size, batch):
        each = _kept(size, setup, stack, keys=_keys(size, stack, batch), prompt=batch.prompt)
        least = stack.width * size.weight
        kept += batch.rows * tokens * stack.layers * (least if setup.checkpointing else each)
        again = max(again, batch.rows * tokens * each)
    return passes * kept + (again if setup.checkpointing else 0.0)


def _kept(size: ModelSize, setup: Setup, stack: Stack, *, keys: int, prompt: int) -> float:
    """Bytes per token that one layer keeps, whose tokens attend to `keys` tokens."""
    number = 2 if setup.mixed else size.weight  # bytes per number of an activation
    norms = (2 + stack.cross) * stack.width
    # A norm keeps its input in float32 and, if it is trained, the normalized input.
    found: float = 4 * norms + (0 if setup.rank else norms * size.weight)
    # Attention keeps queries, keys and values of every head, its result, and the mask or the bias of each head.
    attention: float = 4 * stack.inner + keys * (stack.heads if stack.bias else 1)
    if stack.cross:
        attention += 2 * stack.inner * (1 + prompt / keys) + prompt
    found += (attention + (stack.kept - 1) * stack.hidden) * number
    # A linear layer keeps its input, which layers on the same norm share unless each converts it.
    converted = setup.mixed and size.weight == 4
    if setup.rank:
        converted = setup.mixed or setup.trained != size.weight
        found += len(stack.linears) * setup.rank * (number if setup.mixed else setup.trained)
    if not converted:
        return found + (norms + stack.hidden) * number
    return found + sum(inputs for inputs, _ in stack.linears) * (2 if setup.mixed else setup.trained)


def _layer(size: ModelSize, setup: Setup, batch: Batch) -> float:
    """What exists for a moment in one layer: states and feed-forward or their gradients, an adapter's output, NF4's matrix."""
    number, most = 2 if setup.mixed else size.weight, 0.0
    own = number if setup.mixed else setup.trained
    for stack, tokens in _stacks(size, batch):
        hidden = 2 * number + 3 * own if setup.rank else (2 + stack.gated) * number
        wide = 4 * stack.width + stack.bias * stack.heads * _keys(size, stack, batch)
        most = max(most, 1.0 * batch.rows * tokens * (wide * number + stack.hidden * hidden))
    return most + (size.decoder.width * size.decoder.hidden * number if size.quantized else 0)


def _keys(size: ModelSize, stack: Stack, batch: Batch) -> int:
    """The tokens that a token attends to in its row; none in a tower, which has no mask."""
    row = max(batch.response, min(LONGEST_ROW, batch.samples * batch.response))
    return {size.encoder: batch.prompt, size.tower: 0}.get(stack, row + batch.prompt * (size.encoder is None))


def _logits(size: ModelSize, batch: Batch) -> float:
    return _LOGITS_COPIES * 4 * min(batch.rows * batch.response * size.vocabulary, MOST_LOGITS)


def _gathered(size: ModelSize, setup: Setup) -> float:
    """Two layers, one fetched in advance; and what is in no layer (embeddings, head, tower), which autocast copies."""
    stacks = [stack for stack in (size.encoder, size.decoder) if stack is not None]
    outside = size.parameters - sum(stack.layers * stack.weights for stack in stacks)
    own, half = size.weight, 2 if setup.mixed and size.weight == 4 else 0
    return outside * (own + half) + 2 * max(stack.weights for stack in stacks) * (half or own)
