"""Captions from a small seeded BLIP-2, resumed, refused and skipped as features are."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BatchFeature

from ares.data.captions import read_captions
from ares.types import AresError
from ares.vision.captions import Captioner, write_captions


@pytest.fixture(scope="session")
def blip2(t5_tokenizer, tmp_path_factory):
    """A folder with a BLIP-2 of a few thousand weights, as the hub's have it."""
    from transformers import (
        AutoTokenizer,
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
    )

    folder = tmp_path_factory.mktemp("blip2")
    tokenizer = AutoTokenizer.from_pretrained(t5_tokenizer.name_or_path)
    processor = Blip2Processor(
        BlipImageProcessor(size={"height": 28, "width": 28}), tokenizer, num_query_tokens=4
    )
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = Blip2Config(
        vision_config={**small, "image_size": 28, "patch_size": 14},
        qformer_config={**small, "encoder_hidden_size": 16, "vocab_size": 50},
        text_config={
            "model_type": "t5",
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 16,
            "num_layers": 1,
            "num_heads": 2,
            "vocab_size": len(processor.tokenizer),
            "decoder_start_token_id": 0,
        },
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    paths = {pid: tmp_path / f"{pid}.png" for pid in "1234"}
    for path in paths.values():
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return {**paths, "5": paths["4"]}


class Counting(Captioner):
    """Says how many images it saw; stands in for a model where the model does not matter."""

    def __init__(self, fail_after=None):
        super().__init__("counting")
        self.seen, self.fail_after = 0, fail_after

    def caption(self, images):
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return [f"mean {np.asarray(image).mean():.3f}" for image in images]


@pytest.mark.parametrize("prompt", [None, "a photo of"])
def test_captions_of_a_model_are_read_back(blip2, images, tmp_path, prompt):
    from transformers import AutoProcessor, Blip2ForConditionalGeneration

    path = tmp_path / "captions.json"
    captioner = Captioner(str(blip2), prompt=prompt, max_new_tokens=5)
    write_captions(images, captioner, path, batch_size=2)
    found = read_captions(path)
    assert list(found) == list(images)
    assert found["4"] == found["5"]
    network = Blip2ForConditionalGeneration.from_pretrained(blip2).eval()
    processor = AutoProcessor.from_pretrained(blip2)
    for pid, file in images.items():
        inputs = processor(images=Image.open(file), text=prompt or "", return_tensors="pt")
        ids = network.generate(**inputs, max_new_tokens=5, do_sample=False)
        assert found[pid] == " ".join(processor.decode(ids[0], skip_special_tokens=True).split())
    assert any(found.values())


def test_captioning_resumes_with_the_same_result(images, tmp_path):
    write_captions(images, Counting(), tmp_path / "complete.json")
    path = tmp_path / "captions.json"
    with pytest.raises(KeyboardInterrupt):
        write_captions(images, Counting(fail_after=2), path, batch_size=1)
    assert not path.exists()
    with (tmp_path / "captions.json.partial").open("a") as file:
        file.write('["torn')
    rest = Counting()
    write_captions(images, rest, path, batch_size=1)
    assert rest.seen == 2
    assert path.read_bytes() == (tmp_path / "complete.json").read_bytes()
    assert not (tmp_path / "captions.json.partial").exists()
    # Again: nothing to do.
    again = Counting()
    write_captions(images, again, path)
    assert again.seen == 0


def test_captions_of_another_model_are_not_overwritten(images, tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"captions": {"1": "Published."}}))
    with pytest.raises(AresError, match=r"another model or prompt.*data\.captions="):
        write_captions(images, Counting(), path)
    assert read_captions(path) == {"1": "Published."}


def test_unreadable_images_are_refused_or_skipped(images, tmp_path):
    images["2"].write_bytes(b"no image")
    path = tmp_path / "captions.json"
    with pytest.raises(
        AresError, match=r"1 of 4 images.*: data\.captioner\.on_corrupt=skip\.\n.*2\.png is not a readable"
    ):
        write_captions(images, Counting(), path)
    rest = Counting()
    write_captions({**images, "9": tmp_path / "gone.png"}, rest, path, on_corrupt="skip", workers=2)
    assert rest.seen == 0
    assert list(read_captions(path)) == ["1", "3", "4", "5"]
    assert sorted(json.loads(path.read_text())["skipped"]) == ["2", "9"]


def test_complete_file_is_extended_by_new_images(images, tmp_path):
    content, path = images["2"].read_bytes(), tmp_path / "captions.json"
    images["2"].write_bytes(b"no image")
    write_captions(images, Counting(), path, on_corrupt="skip")
    before = read_captions(path)
    images["2"].write_bytes(content)
    rest = Counting()
    write_captions(images, rest, path)
    assert rest.seen == 1
    after = read_captions(path)
    assert after.pop("2").startswith("mean ")
    assert after == before
    assert json.loads(path.read_text())["skipped"] == {}


def test_replaced_image_is_captioned_again(images, tmp_path):
    path = tmp_path / "captions.json"
    write_captions(images, Counting(), path)
    before = read_captions(path)
    images["2"].write_bytes(images["3"].read_bytes())
    images["1"].unlink()  # its caption stays: there is nothing to make another from
    rest = Counting()
    write_captions(images, rest, path)
    assert rest.seen == 1
    assert read_captions(path) == {**before, "2": before["3"]}
    write_captions(images, rest, path)
    assert rest.seen == 1


def test_image_replaced_before_resuming_is_captioned_again(images, tmp_path):
    path = tmp_path / "captions.json"
    with pytest.raises(KeyboardInterrupt):
        write_captions(images, Counting(fail_after=2), path, batch_size=1)
    images["1"].write_bytes(images["3"].read_bytes())
    rest = Counting()
    write_captions(images, rest, path, batch_size=1)
    assert rest.seen == 3
    found = read_captions(path)
    assert found["1"] == found["3"]


def test_missing_captioner_is_refused(tmp_path):
    with pytest.raises(AresError, match=r"data\.captioner\.model=.*cannot be loaded"):
        Captioner(str(tmp_path / "nothing")).caption([Image.new("RGB", (8, 8))])


@pytest.mark.parametrize("chat", [False, True])
def test_decoder_only_captioner_pads_left_and_drops_the_prompt(monkeypatch, chat):
    """Such models repeat the prompt before the caption, and continue after the last token of each row."""

    class Processor:
        chat_template = "x" if chat else None
        tokenizer = SimpleNamespace(padding_side="right")

        def apply_chat_template(self, messages, add_generation_prompt, tokenize):
            assert (add_generation_prompt, tokenize) == (True, False)
            return f"User: {messages[0]['content'][1]['text']}"

        def __call__(self, images, return_tensors, text, padding):
            assert (text, padding) == ([f"{'User: ' if chat else ''}Describe."] * 2, True)
            assert self.tokenizer.padding_side == "left"
            return BatchFeature({"input_ids": torch.tensor([[7, 8], [7, 8]])})

        def batch_decode(self, ids, skip_special_tokens):
            return [" ".join(map(str, row)) for row in ids.tolist()]

    class Network(torch.nn.Module):
        config = SimpleNamespace(is_encoder_decoder=False)
        device, dtype = torch.device("cpu"), torch.float32

        def generate(self, input_ids, max_new_tokens, do_sample):
            assert (max_new_tokens, do_sample) == (64, False)
            return torch.cat([input_ids, torch.tensor([[1, 2], [3, 4]])], dim=1)

    monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", lambda model: Processor())
    monkeypatch.setattr(
        "transformers.AutoModelForImageTextToText.from_pretrained", lambda model, dtype: Network()
    )
    found = Captioner("somewhere", prompt="Describe.").caption([Image.new("RGB", (8, 8))] * 2)
    assert found == ["1 2", "3 4"]
