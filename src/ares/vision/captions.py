"""Captions of images, written by any image-to-text model of transformers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ares.storage.files import read_json, sha256_path, write_json
from ares.types import AresError
from ares.vision.encoders import chosen_device
from ares.vision.images import open_image
from ares.vision.reading import (
    NO_FILE,
    Unreadable,
    image_bar,
    present_images,
    read_batches,
    stamp,
    unreadable_images,
)

DEFAULT_PROMPT = "Write a detailed description."  # for models that cannot do without one


class Captioner:
    """InstructBLIP, BLIP-2 or another image-to-text model, from a folder or hub id; greedy, so that it repeats itself.

    `prompt` None is no prompt, or `DEFAULT_PROMPT` for models that need one (InstructBLIP, chat models).
    The model is loaded at first use, in bf16 on a GPU.
    """

    def __init__(
        self, model: str, prompt: str | None = None, max_new_tokens: int = 64, device: str | None = None
    ) -> None:
        self.model, self.prompt, self.max_new_tokens, self.device = model, prompt, max_new_tokens, device
        self._network: Any = None
        self._processor: Any = None

    def caption(self, images: Sequence[Any]) -> list[str]:
        """A caption on one line for each image (PIL, RGB)."""
        import torch

        network, processor = self._load()
        text = self._text(processor)
        arguments = {} if text is None else {"text": [text] * len(images), "padding": True}
        inputs = processor(images=list(images), return_tensors="pt", **arguments).to(
            network.device, network.dtype
        )
        with torch.inference_mode():
            ids = network.generate(**inputs, max_new_tokens=self.max_new_tokens, do_sample=False)
        given = inputs.get("input_ids")
        # Decoder-only models repeat the prompt; those with an encoder do not.
        if (
            given is not None
            and ids.shape[1] >= given.shape[1]
            and torch.equal(ids[:, : given.shape[1]], given)
        ):
            ids = ids[:, given.shape[1] :]
        return [" ".join(found.split()) for found in processor.batch_decode(ids, skip_special_tokens=True)]

    def fingerprint(self) -> dict[str, Any]:
        """The model (a local one by its content), the prompt and the length."""
        local = {"checkpoint": sha256_path(self.model)} if Path(self.model).is_dir() else {}
        return {"model": self.model, "prompt": self.prompt, "max_new_tokens": self.max_new_tokens, **local}

    def _text(self, processor: Any) -> str | None:
        chat = getattr(processor, "chat_template", None)
        prompt = self.prompt
        if prompt is None and (chat or hasattr(processor, "qformer_tokenizer")):
            prompt = DEFAULT_PROMPT
        if prompt is None and hasattr(processor, "num_query_tokens"):
            return ""  # BLIP-2's queries enter through the text, be it empty
        if not chat:
            return prompt
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def _load(self) -> tuple[Any, Any]:
        if self._network is not None:
            return self._network, self._processor
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        device = chosen_device(self.device)
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        try:
            self._processor = AutoProcessor.from_pretrained(self.model)
            network = AutoModelForImageTextToText.from_pretrained(self.model, dtype=dtype)
        except Exception as error:  # a torn or foreign file fails in as many ways as there are formats
            raise AresError(
                f"data.captioner.model={self.model} cannot be loaded ({str(error).splitlines()[0]}); give the folder "
                "of an image-to-text model, or the id of one that can be downloaded."
            ) from error
        if not network.config.is_encoder_decoder and hasattr(self._processor, "tokenizer"):
            self._processor.tokenizer.padding_side = "left"
        self._network = network.eval().requires_grad_(False).to(device)
        return self._network, self._processor


def write_captions(
    images: Mapping[str, Path],
    captioner: Captioner,
    path: Path | str,
    *,
    batch_size: int = 8,
    workers: int = 0,
    on_corrupt: str = "refuse",
    progress: bool = True,
) -> None:
    """Writes `{"model", "prompt", ..., "skipped", "captions"}` of the images of problems (pid to path).

    Problems that share an image share its caption. Killed, it goes on where it was, from the lines of
    `<path>.partial`; whole, it adds the captions of images that came or were replaced since, of which
    `.<path>.stamps` tells. Images that are missing or cannot be read are treated as in `extract_features`.
    Raises AresError where `path` holds captions of another origin, which are never overwritten.
    """
    path, fingerprint = Path(path), captioner.fingerprint()
    stamps = {pid: stamp(file) for pid, file in images.items()}
    known = _known(path, fingerprint, stamps) if path.exists() else {}
    if path.exists() and images.keys() <= known.keys():
        return
    without = {pid: file for pid, file in images.items() if pid not in known}
    present, missing = present_images(without, on_corrupt)
    files = list(dict.fromkeys(present.values()))
    found, reasons = _caption_all(
        files, captioner, _journal(path), fingerprint, batch_size, workers, progress
    )
    unreadable = unreadable_images(present, reasons, on_corrupt)
    new = {pid: found[str(file)] for pid, file in present.items() if str(file) in found}
    write_json(path, {**fingerprint, "skipped": missing | unreadable, "captions": known | new})
    write_json(_stamps(path), stamps)
    _journal(path).unlink()


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _stamps(path: Path) -> Path:
    # Beside the captions: a copied image has another time, but captions that are the same are the same data.
    return path.with_name(f".{path.name}.stamps")


def _known(path: Path, fingerprint: Mapping[str, Any], stamps: Mapping[str, list[int]]) -> dict[str, str]:
    """The captions in a file of the same origin, but those of images that were replaced since."""
    content = read_json(path)
    origin = {name: content.get(name) for name in fingerprint} if isinstance(content, dict) else {}
    if origin != fingerprint:
        raise AresError(
            f"{path} holds captions of another model or prompt ({origin.get('model')}); name another file with "
            "data.captions=<file>, or remove it."
        )
    before = read_json(_stamps(path)) if _stamps(path).exists() else {}
    replaced = {pid for pid, now in stamps.items() if now != NO_FILE and before.get(pid, now) != now}
    return {pid: caption for pid, caption in content["captions"].items() if pid not in replaced}


def _caption_all(
    files: Sequence[Path],
    captioner: Captioner,
    journal: Path,
    fingerprint: Mapping[str, Any],
    batch_size: int,
    workers: int,
    progress: bool,
) -> tuple[dict[str, str], dict[Path, str]]:
    """Captions by file, and why files have none; each batch is in the journal before the next begins."""
    found = _resumed(journal, fingerprint)
    todo = [file for file in files if str(file) not in found]
    unreadable: dict[Path, str] = {}
    batches = read_batches(todo, open_image, batch_size=batch_size, workers=workers)
    bar = image_bar("captions", done=len(files) - len(todo), total=len(files), shown=progress)
    with journal.open("a", encoding="utf-8") as lines:
        for start, batch in zip(range(0, len(todo), batch_size), batches, strict=True):
            read = dict(zip(todo[start : start + batch_size], batch, strict=True))
            unreadable |= {file: i.reason for file, i in read.items() if isinstance(i, Unreadable)}
            good = {file: image for file, image in read.items() if file not in unreadable}
            captions = captioner.caption(list(good.values())) if good else []
            for file, caption in zip(good, captions, strict=True):
                found[str(file)] = caption
                lines.write(json.dumps([str(file), stamp(file), caption], ensure_ascii=False) + "\n")
            lines.flush()
            bar.update(len(read))
    bar.close()
    return found, unreadable


def _resumed(journal: Path, fingerprint: Mapping[str, Any]) -> dict[str, str]:
    """The captions that an earlier process wrote; of another model's, or of images replaced since, none are kept."""
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1] if journal.exists() else []
    if not lines or json.loads(lines[0]) != fingerprint:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text(json.dumps(fingerprint, ensure_ascii=False) + "\n", encoding="utf-8")
        return {}
    # A process killed while it wrote leaves half a line, without its end: cut off, or later lines would join it.
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = [json.loads(line) for line in lines[1:]]
    return {file: caption for file, seen, caption in made if seen == stamp(Path(file))}
