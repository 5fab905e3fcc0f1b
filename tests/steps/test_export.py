"""stage=export of a vision-language run; of a T5's: tests/e2e/test_data_sets.py."""

from pathlib import Path

from transformers import AutoModelForImageTextToText

from ares.models.vlm.policy import VlmPolicy
from ares.steps.common.inputs import model_settings
from ares.steps.export import export
from ares.steps.prepare import prepared
from ares.storage.files import sha256_path, write_json
from tests.support.composed import composed


def test_models_of_a_vision_language_run_are_exported_as_they_are(tmp_path: Path) -> None:
    config = composed(
        "experiment=demo", "model=tiny_vlm", "data.sizes={train: 4, val: 2, test: 2}", "run=a",
        f"paths.runs={tmp_path / 'runs'}", "tokenizer.vocab_size=300",
    )  # fmt: skip
    prepared(config, make=True)
    tokenizer = {"path": None, "vocab_size": 300}
    policy = VlmPolicy.start(model_settings(config), ["Is it red?"], tokenizer=tokenizer, seed=0)
    root = tmp_path / "runs/a"
    policy.save(root / "round1/ppo/policy")
    policy.new_value(seed=0, shared=False).save(root / "round1/ppo/value")
    outputs = {"policy": {"path": "round1/ppo/policy"}, "value": {"path": "round1/ppo/value"}}
    baseline = {"rationales-test": {"path": "baseline/rationales-test.parquet"}}  # which is not written here
    steps = {"round1/ppo": outputs, "baseline/generate": baseline}
    entries = {key: {"inputs": {}, "outputs": own} for key, own in steps.items()}
    write_json(root / "manifest.json", {"steps": entries})

    lines = export(config)
    folder = root / "export"
    assert lines == [f"policy: {folder / 'policy'}", f"value: {folder / 'value'}"]
    network = AutoModelForImageTextToText.from_pretrained(folder / "policy")
    assert network.num_parameters() == policy.model.num_parameters()
    assert sha256_path(folder / "value") == sha256_path(root / "round1/ppo/value")
