"""Tiny untrained vision-language models of eleven families with their processors, made without any download."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from tests.support.vlm_parts import (
    GRID,
    PATCH,
    SIDE,
    SIZE,
    SPREAD,
    chat_template,
    language_model,
    tiny_tokenizer,
    vision_tower,
)

Built = tuple[hf.PreTrainedModel, hf.ProcessorMixin]


def llava() -> Built:
    """LLaVA-1.5: CLIP and Llama, 16 tokens per image."""
    tokenizer = tiny_tokenizer(image_token="<image>")
    config = hf.LlavaConfig(
        vision_config=vision_tower("clip_vision_model", projection_dim=32),
        text_config=language_model("llama", len(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    images = hf.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIZE)
    return hf.LlavaForConditionalGeneration(config), hf.LlavaProcessor(images, tokenizer, **_clip_patches())


def llava_next() -> Built:
    """LLaVA-NeXT: an image as an overview and tiles of a grid that suits its shape."""
    tokenizer = tiny_tokenizer(image_token="<image>")
    config = hf.LlavaNextConfig(
        vision_config=vision_tower("clip_vision_model", projection_dim=32),
        text_config=language_model("llama", len(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
    )
    images = hf.LlavaNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_size=SIZE, image_grid_pinpoints=GRID
    )
    processor = hf.LlavaNextProcessor(images, tokenizer, **_clip_patches())
    return hf.LlavaNextForConditionalGeneration(config), processor


def _clip_patches() -> dict[str, Any]:
    # CLIP's output has one state more than patches, which the processor must know and the model leaves out.
    return {
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "chat_template": chat_template("<image>\n"),
    }


def llava_onevision() -> Built:
    """LLaVA-OneVision: SigLIP and Qwen2, with tiles."""
    tokenizer = tiny_tokenizer(image_token="<image>", video_token="<video>")
    config = hf.LlavaOnevisionConfig(
        vision_config=vision_tower("siglip_vision_model", vision_use_head=False),
        text_config=language_model("qwen2", len(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
    )
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=SIZE, image_grid_pinpoints=GRID),
        tokenizer,
        hf.LlavaOnevisionVideoProcessor(size=SIZE),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat_template("<image>\n"),
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def qwen2_vl() -> Built:
    """Qwen2-VL: a number of tokens that follows the image's size, positions in three dimensions."""
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    return _qwen_vl("Qwen2VL", hf.Qwen2VLVideoProcessor, patch=14, vision=vision)


def qwen2_5_vl() -> Built:
    """Qwen2.5-VL: attention within windows of the image."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64}
    windows = {"window_size": 56, "fullatt_block_indexes": [1]}
    return _qwen_vl("Qwen2_5_VL", hf.Qwen2VLVideoProcessor, patch=14, vision=vision | windows)


def qwen3_vl() -> Built:
    """Qwen3-VL: states of several layers of the image encoder enter the language model."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64}
    deep = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    return _qwen_vl("Qwen3VL", hf.Qwen3VLVideoProcessor, patch=16, vision=vision | deep)


def _qwen_vl(name: str, video: Callable[..., Any], *, patch: int, vision: dict[str, Any]) -> Built:
    tokenizer = tiny_tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )
    text = language_model("", len(tokenizer))
    del text["model_type"]
    # The sections of the rotary positions (time, height, width) add up to half of a head.
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    tower = {"depth": 2, "num_heads": 2, "patch_size": patch, "initializer_range": SPREAD}
    config = getattr(hf, f"{name}Config")(
        text_config=text,
        vision_config=tower | vision,
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_start_token_id,
        vision_end_token_id=tokenizer.vision_end_token_id,
    )
    pixels = {
        "shortest_edge": (2 * patch) ** 2,
        "longest_edge": 16 * (2 * patch) ** 2,
    }  # areas, despite the names
    reading = {"size": pixels, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    processor = getattr(hf, f"{name}Processor")(
        hf.Qwen2VLImageProcessor(**reading),
        tokenizer,
        video(**reading),
        chat_template=chat_template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return getattr(hf, f"{name}ForConditionalGeneration")(config), processor


def internvl() -> Built:
    """InternVL: the tiles of all images of a batch in one row."""
    tokenizer = tiny_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = hf.InternVLConfig(
        vision_config=vision_tower(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH]),
        text_config=language_model("qwen2", len(tokenizer)),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size=SIZE),
        tokenizer,
        hf.InternVLVideoProcessor(size=SIZE),
        image_seq_length=4,
        chat_template=chat_template("<IMG_CONTEXT>\n"),
    )
    return hf.InternVLForConditionalGeneration(config), processor


def idefics3() -> Built:
    """Idefics3: SigLIP and Llama, four patches in one token."""
    tokenizer, reading = _idefics_tokenizer(), _idefics_reading()
    config = hf.Idefics3Config(**_idefics_config(tokenizer))
    images = hf.Idefics3ImageProcessor(**reading)
    processor = hf.Idefics3Processor(
        images, tokenizer, image_seq_len=4, chat_template=chat_template("<image>")
    )
    return hf.Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> Built:
    """SmolVLM: Idefics3 with videos; its processor needs num2words."""
    tokenizer, reading = _idefics_tokenizer(), _idefics_reading()
    config = hf.SmolVLMConfig(**_idefics_config(tokenizer))
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessor(**reading),
        tokenizer,
        hf.SmolVLMVideoProcessor(**reading, num_frames=2, fps=1),
        image_seq_len=4,
        chat_template=chat_template("<image>"),
    )
    return hf.SmolVLMForConditionalGeneration(config), processor


def _idefics_tokenizer() -> hf.PreTrainedTokenizerFast:
    return tiny_tokenizer(
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )


def _idefics_reading() -> dict[str, Any]:
    # An overview, and tiles of the image at twice that size.
    return {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}}


def _idefics_config(tokenizer: hf.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vision_config": vision_tower(),
        "text_config": language_model("llama", len(tokenizer)),
        "image_token_id": tokenizer.image_token_id,
        "scale_factor": 2,
        "pad_token_id": 0,
    }


def paligemma() -> Built:
    """PaliGemma: SigLIP and Gemma2; attends to the prompt in both directions, and knows no prompt without an image."""
    images = hf.SiglipImageProcessor(size=SIZE)
    images.image_seq_length = 16
    tokenizer = tiny_tokenizer(bos="<bos>", image_token="<image>")
    processor = hf.PaliGemmaProcessor(images, tokenizer, chat_template=chat_template("<image>"))
    vocabulary = len(processor.tokenizer)  # the processor has added some 1,150 tokens
    config = hf.PaliGemmaConfig(
        vision_config=vision_tower("siglip_vision_model", projection_dim=64, vision_use_head=False),
        text_config=language_model("gemma2", vocabulary, sliding_window=512),
        image_token_index=tokenizer.image_token_id,
        projection_dim=64,
        hidden_size=64,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> Built:
    """Gemma3: SigLIP and Gemma3, whose projector starts at zero and is drawn here, so that images have an effect."""
    tokenizer = tiny_tokenizer(
        bos="<bos>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    config = hf.Gemma3Config(
        vision_config=vision_tower(vision_use_head=False),
        text_config=language_model("gemma3_text", len(tokenizer), sliding_window=512),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    model = hf.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=SPREAD)
    images = hf.Gemma3ImageProcessor(size=SIZE)
    processor = hf.Gemma3Processor(
        images, tokenizer, image_seq_length=4, chat_template=chat_template("<start_of_image>")
    )
    return model, processor


FAMILIES: dict[str, Callable[[], Built]] = {
    build.__name__: build
    for build in (
        llava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        smolvlm,
        paligemma,
        gemma3,
    )
}


def save_tiny_vlm(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Writes a model of `family` and its processor as a transformers folder, and returns the folder.

    Skips the test where a package that the family's processor needs is missing.
    """
    if family == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("SmolVLM's processor needs the package num2words")
    torch.manual_seed(seed)
    model, processor = FAMILIES[family]()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tiny_settings(base: Path, **changes: Any) -> dict[str, Any]:
    """`conf/model` for an adapter on a tiny model."""
    return {
        "init": str(base),
        "dtype": "float32",
        "quantization": "none",
        "max_pixels": None,
        "lora": {"r": 4, "alpha": 8, "targets": None, "vision": False},
        "prompts": {
            "system": "Look at the picture.",
            "rationale": "{question} Explain.",
            "answer": "{question} {rationale} Answer.",
        },
        **changes,
    }
