"""Folders of one kind of model that are opened as another: one sentence each."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers.utils.logging import is_progress_bar_enabled

from ares.models.t5.loading import build_model, save_model
from ares.models.t5.policy import T5Policy
from ares.models.vlm.policy import VlmPolicy
from ares.pipeline.stale import named_policy
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError
from tests.support.composed import composed
from tests.support.vlm import save_tiny_vlm, tiny_settings
from tests.support.vlm_policies import started


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vlm("llava", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 policy's folder."""
    folder = tmp_path_factory.mktemp("t5")
    tokenizer = train_tokenizer(["a few words of text"] * 4, vocab_size=120)
    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 8, "layers": 1, "heads": 2, "patch_dim": 8, "patch_num": 1}
    save_model(build_model(tokenizer, **sizes, dropout=0.0, seed=0), tokenizer, folder)
    return folder


@pytest.mark.parametrize("r", [4, 0])
def test_vision_language_policy_is_refused_by_a_t5(r: int, base: Path, tmp_path: Path) -> None:
    started(base, lora={"r": r, "alpha": 8, "targets": None, "vision": False}).save(tmp_path)
    with pytest.raises(
        AresError, match=r"holds a vision-language model, not a T5; use the model option"
    ) as error:
        T5Policy.load(tmp_path, dropout=0.0)
    assert str(tmp_path) in str(error.value)


def test_vision_language_model_is_refused_as_the_start_of_a_t5(base: Path) -> None:
    tokenizer = {"path": None, "vocab_size": 60}
    with pytest.raises(AresError, match="holds a vision-language model, not a T5"):
        T5Policy.start({"name": "base", "init": str(base)}, [], tokenizer=tokenizer, seed=0)


def test_t5_policy_is_refused_by_a_vision_language_model(t5: Path) -> None:
    with pytest.raises(
        AresError, match=r"no vision-language model \(its model_type is t5\); use the model option"
    ):
        VlmPolicy.load(t5, dropout=0.0)


def test_t5_is_refused_as_the_start_of_a_vision_language_model(t5: Path) -> None:
    with pytest.raises(AresError, match=r"cannot be opened .*of a vision-language model"):
        started(t5)
    reading = {"tokenizer": {"path": None, "vocab_size": 60}, "max_input_tokens": 99}
    with pytest.raises(AresError, match=r"cannot be opened \(it reads no images\)"):
        VlmPolicy.check_prompts(tiny_settings(t5), [], [], **reading)


def test_folder_of_an_adapter_is_a_policy_to_start_from(base: Path, tmp_path: Path) -> None:
    started(base).save(tmp_path / "adapter")
    config = composed("experiment=demo_vlm", f"policy={tmp_path / 'adapter'}", f"paths.runs={tmp_path}")
    assert named_policy(config) == tmp_path / "adapter"


def test_adapter_of_a_base_that_was_trained_since_is_refused(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "base"))
    started(copy).save(tmp_path / "adapter")
    VlmPolicy.load(tmp_path / "adapter", dropout=0.0)
    changed = {name: tensor * 1.01 for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(changed, copy / "model.safetensors", metadata={"format": "pt"})
    assert (copy / "model.safetensors").stat().st_size == (base / "model.safetensors").stat().st_size
    with pytest.raises(AresError, match="is not the model that the adapter"):
        VlmPolicy.load(tmp_path / "adapter", dropout=0.0)


def test_loading_and_saving_print_nothing(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = is_progress_bar_enabled()
    policy = started(base, lora={"r": 0, "alpha": 8, "targets": None, "vision": False})
    policy.save(tmp_path / "policy")
    VlmPolicy.load(tmp_path / "policy", dropout=0.0)
    VlmPolicy.export(tmp_path / "policy", tmp_path / "export")
    assert capfd.readouterr() == ("", "")
    assert is_progress_bar_enabled() == shown
