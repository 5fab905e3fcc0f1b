"""A vision-language policy's prompt as a server takes it."""

from pathlib import Path

import pytest
from PIL import Image

from ares.data.instructions import instruction
from ares.engines.server import openai_messages
from ares.models.vlm.policy import VlmPolicy
from ares.steps.common.inputs import model_settings
from ares.text.prompts import build_example
from ares.types import Example
from tests.support.composed import composed


@pytest.fixture(scope="module")
def policy() -> VlmPolicy:
    settings = model_settings(composed("experiment=demo", "model=tiny_vlm", "model.layers=1"))
    texts = ["Which flag is red? (A) the left one (B) the right one"] * 3
    return VlmPolicy.start(settings, texts, tokenizer={"path": None, "vocab_size": 300}, seed=0)


def test_chat_is_the_prompt_that_the_policy_encodes(policy: VlmPolicy, tmp_path: Path) -> None:
    paths = (tmp_path / "0.png", tmp_path / "1.png")
    for number, path in enumerate(paths):
        Image.new("RGBA", (64, 64), (255, 9, number, 0)).save(path)
    example = Example("", "", "p", images=paths, question="Which <image> flag is red?")
    chat = policy.chat(example)
    assert list(chat.ids) == policy.encode([example]).ids[0]
    assert set(policy.tokenizer.convert_tokens_to_ids(["<image>", "<|user|>"])) < set(chat.special_ids)
    [message] = chat.messages
    *images, text = message["content"]
    assert [entry["type"] for entry in images] == ["image", "image"]
    assert text["text"] == "Which < image> flag is red?"
    assert [image.getpixel((0, 0)) for image in chat.images] == [
        (255, 255, 255)
    ] * 2  # as the policy sees them
    [sent] = openai_messages(chat)
    assert [part["type"] for part in sent["content"]] == ["image_url", "image_url", "text"]


def test_tokenizer_adds_its_bos_unless_the_template_does(policy: VlmPolicy) -> None:
    example = Example("", "", "p", question="Which flag is red?")
    assert policy.chat(example).add_special_tokens
    tokenizer, template = policy.tokenizer, policy.reader.processor.chat_template
    try:
        tokenizer.bos_token = tokenizer.eos_token
        policy.reader.processor.chat_template = tokenizer.eos_token + template
        assert not policy.chat(example).add_special_tokens
    finally:
        tokenizer.bos_token, policy.reader.processor.chat_template = None, template


def test_instruction_follows_the_earlier_turns_of_its_conversation(policy: VlmPolicy, tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    Image.new("RGB", (64, 64)).save(path)
    problem = instruction(
        "p", "train", "Its color?", "Black.", images=(path,), turns=(("What is <image>?", "A cat."),)
    )
    example = build_example(problem, "QCM-E")
    messages = policy.chat(example).messages
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]
    texts = [message["content"][-1]["text"] for message in messages]
    assert texts == ["What is < image>?", "A cat.", "Its color?"]
    # What is trained on is the last reply alone.
    [target] = policy.encode_targets([example], max_tokens=20)
    assert policy.decode(target) == "Black."
    assert example.prompt == "User: What is <image>?\nAssistant: A cat.\nUser: Its color?\nAssistant:"
