"""LoRA adapters: every use of PEFT.

The answer adapter of a T5 wraps its network and is saved on its own; the adapters of RL are merged into its weights when
training ends. Vision-language policies, value models and answerers are adapters on one network (`AdapterSet`).
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ares.models.adapter_files import read_adapter, write_adapter
from ares.models.logprobs import at_least_float32
from ares.models.policy import Policy, Trainable
from ares.models.weights import opening
from ares.types import AresError

# The original wrote an adapter of nn.MultiheadAttention's output, which reads its weights past any adapter: it was
# never trained and never had an effect.
_DEAD = "mha_layer.out_proj"
_PREFIX = "base_model.model."  # of the weights' names in a PEFT folder


def add_adapter(policy: Policy, *, r: int, alpha: int, dropout: float, targets: str) -> None:
    """Puts a fresh adapter of rank `r` on the policy, in place; only the adapter is trainable."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=policy.lora_targets(targets),
        bias="none",
        task_type=policy.task_type,
    )
    policy.model = get_peft_model(policy.model, settings)


def save_adapter(policy: Policy, folder: Path) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors`."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(policy.model, save_embedding_layers=False)
    write_adapter(policy.model.peft_config["default"], weights, folder, base=None)


def load_adapter(policy: Policy, folder: str | Path) -> None:
    """Puts the adapter of a folder on the policy, in place: in eval mode, frozen.

    Reads `adapter_config.json` and `adapter_model.safetensors` or `.bin`. An adapter of the fusion's
    `mha_layer.out_proj`, which the original wrote although nothing reads it, is left out with a warning. Raises
    AresError where a file is missing or torn, or the adapter does not fit the policy.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    weights = read_adapter(Path(folder))
    dead = [name for name in weights if _DEAD in name]
    if dead:
        warnings.warn(
            f"{folder} adapts encoder.{_DEAD}, where an adapter has no effect; it is left out.", stacklevel=2
        )
        weights = {name: tensor for name, tensor in weights.items() if name not in dead}
    with opening(
        f"The adapter in {folder} cannot be loaded", "its adapter_config.json must be that of a LoRA"
    ):
        settings: Any = LoraConfig.from_pretrained(str(folder))
    # The original called its encoder-decoder a causal model.
    settings.task_type = policy.task_type
    settings.exclude_modules = rf".*{_DEAD}.*"
    settings.base_model_name_or_path = None  # a folder on another machine
    settings.inference_mode = True
    settings.lora_dropout = 0.0
    remedy = "give the policy it was trained on"
    with opening(f"The adapter in {folder} does not fit the policy", remedy):
        policy.model = get_peft_model(policy.model, settings)
        result: Any = set_peft_model_state_dict(policy.model, weights)
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        name = [*missing, *result.unexpected_keys][0]
        raise AresError(f"The adapter in {folder} does not fit the policy at {name}; {remedy}.")
    policy.eval()


# --------------------------------------------------------------------------------------------------
# Adapters that are merged
# --------------------------------------------------------------------------------------------------


@contextmanager
def merged_adapters(
    models: Sequence[Trainable], *, r: int, alpha: int, targets: str, seed: int
) -> Iterator[None]:
    """Trains models through adapters inside the block and merges them when it ends; with rank 0, trains the models themselves.

    Value heads are trained directly. A value head on the policy's backbone gets no adapter of its own.
    """
    found = []
    for model in models:
        if r and (names := model.lora_targets(targets)):
            trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            found.append((model, _adapt(model, names, r, alpha, seed), trainable))
    yield
    for model, adapter, trainable in found:
        adapter.merge_and_unload()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(trainable.get(name, True))


def _adapt(model: Trainable, names: list[str], r: int, alpha: int, seed: int) -> Any:
    """Adds a fresh adapter, which has no effect yet, to the model's network; only it and a value head stay trainable."""
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    settings = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules=names, bias="none")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = LoraModel(model.model, settings, "default")
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module):
        head.requires_grad_(True)
    return adapter


# --------------------------------------------------------------------------------------------------
# Several adapters on one network
# --------------------------------------------------------------------------------------------------


class AdapterSet:
    """LoRA adapters on one network, by name; at most one is in force at a time, `active`, and none at first.

    The network's own weights are never changed. Which weights are trained stays as `add` and `load` set it, whichever
    adapter is in force, so that one backward pass may reach several.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.active: str | None = None
        self._layers: list[Any] = []

    def add(self, name: str, targets: str, *, r: int, alpha: int, dropout: float, seed: int) -> None:
        """Adds a fresh adapter, drawn from `seed`, of the layers whose names match `targets`; it has no effect yet."""
        from peft import LoraConfig

        settings = LoraConfig(
            r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM"
        )
        self._inject(name, settings, seed=seed)

    def _inject(self, name: str, settings: Any, *, seed: int, trained: bool = True) -> None:
        """Adds an adapter with weights in float32, whatever those of the network."""
        from peft import inject_adapter_in_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        flags = {id(p): p.requires_grad for p in self.network.parameters()}
        with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):  # PEFT's, of a second adapter
            torch.manual_seed(seed)
            inject_adapter_in_model(settings, self.network, adapter_name=name)
        for parameter in self.network.parameters():
            parameter.requires_grad_(flags.get(id(parameter), trained))
        for _, parameter in self.weights(name):
            parameter.data = at_least_float32(parameter.data)
        self._layers = [module for module in self.network.modules() if isinstance(module, BaseTunerLayer)]
        self._switch(self.active)

    def load(self, name: str, folder: Path, *, dropout: float = 0.0, trained: bool = True) -> None:
        """Adds the adapter of a folder. Raises AresError where its files are missing, torn or of another network."""
        from peft import LoraConfig, set_peft_model_state_dict

        weights = {key.removeprefix(_PREFIX): tensor for key, tensor in read_adapter(folder).items()}
        remedy = "give the folder of the adapter and the base model that it was trained on"
        with opening(f"The adapter in {folder} cannot be loaded", remedy):
            settings: Any = LoraConfig.from_pretrained(str(folder))
            settings.lora_dropout, settings.inference_mode = dropout, False
            self._inject(name, settings, seed=0, trained=trained)
            result: Any = set_peft_model_state_dict(self.network, weights, adapter_name=name)
        missing = [key for key in result.missing_keys if "lora_" in key and f".{name}." in key]
        if wrong := [*missing, *result.unexpected_keys]:
            raise AresError(f"The adapter in {folder} does not fit the model at {wrong[0]}; {remedy}.")

    def copy(self, source: str, name: str, *, seed: int) -> None:
        """Adds an adapter with the settings and the weights of another."""
        settings = copy.deepcopy(self.network.peft_config[source])  # type: ignore[index, union-attr]
        self._inject(name, settings, seed=seed)
        for (_, new), (_, old) in zip(self.weights(name), self.weights(source), strict=True):
            new.data.copy_(old.data)

    def save(self, name: str, folder: Path, *, base: str | None) -> None:
        """Writes an adapter as PEFT does: `adapter_config.json`, which names the base, and `adapter_model.safetensors`."""
        from peft import get_peft_model_state_dict

        settings: Any = self.network.peft_config[name]  # type: ignore[index, union-attr]
        weights = get_peft_model_state_dict(self.network, adapter_name=name, save_embedding_layers=False)
        write_adapter(settings, {_PREFIX + key: tensor for key, tensor in weights.items()}, folder, base=base)

    def merge(self, name: str) -> None:
        """Adds an adapter to the weights of the network, which is a plain one afterwards, without any adapter."""
        for path, layer in list(self.network.named_modules()):
            if layer in self._layers:
                layer.merge(adapter_names=[name])
                parent, _, child = path.rpartition(".")
                setattr(self.network.get_submodule(parent), child, layer.get_base_layer())
        del self.network.peft_config
        self._layers, self.active = [], None

    def weights(self, name: str) -> list[tuple[str, nn.Parameter]]:
        """The weights of an adapter, by their names in the network."""
        return [
            (key, p) for key, p in self.network.named_parameters() if f".{name}." in key and "lora_" in key
        ]

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Puts an adapter in force inside the block; with None the network is as it was without any."""
        before = self.active
        if name == before:
            yield
            return
        self._switch(name)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, name: str | None) -> None:
        flags = [(p, p.requires_grad) for layer in self._layers for p in layer.parameters()]
        for layer in self._layers:
            layer.set_adapter([name] if name else [])
        for parameter, flag in flags:  # PEFT freezes the adapters that are not in force
            parameter.requires_grad_(flag)
        self.active = name
