"""Every data set through one data module, as Lightning uses it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ares.data.aokvqa import read_aokvqa
from ares.data.custom import read_custom
from ares.data.scienceqa import read_scienceqa
from ares.datamodules.problems import ProblemData
from ares.text.tokenizers import train_tokenizer

TEXT = dict.fromkeys(("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture"), "")
SIZES = {"train": 7, "val": 3, "test": 2}


def rows():
    for split, count in SIZES.items():
        for number in range(count):
            yield split, f"{split}{number}", number % 2, f"It is number {number}."


def scienceqa(root: Path):
    problems = {
        pid: {**TEXT, "question": f"Which is {pid}?", "choices": ["one", "two"], "answer": answer, "solution": text, "image": None}
        for _, pid, answer, text in rows()
    }  # fmt: skip
    splits = {split: [pid for own, pid, *_ in rows() if own == split] for split in SIZES}
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    return partial(read_scienceqa, root)


def aokvqa(root: Path):
    for split in SIZES:
        known = [
            {"question_id": pid, "image_id": 1, "question": f"Which is {pid}?", "choices": ["one", "two"]}
            | ({"correct_choice_idx": answer, "rationales": [text]} if split != "test" else {})
            for own, pid, answer, text in rows()
            if own == split
        ]
        (root / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(known))
    return partial(read_aokvqa, root)


def custom(root: Path):
    lines = [
        {"pid": pid, "question": f"Which is {pid}?", "choices": ["one", "two"], "answer": answer, "solution": text, "split": split}
        for split, pid, answer, text in rows()
    ]  # fmt: skip
    (root / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return partial(read_custom, root)


class Images:
    """Features that say whose they are."""

    def get(self, pids):
        return np.stack([np.full((2, 4), len(pid), dtype=np.float32) for pid in pids])


@pytest.mark.parametrize("write", [scienceqa, aokvqa, custom])
def test_batches_hold_the_prompts_and_targets_of_the_problems(tmp_path: Path, write) -> None:
    tokenizer = train_tokenizer(["Which is it? one two"], vocab_size=200, path=tmp_path / "tokenizer")
    data = ProblemData(write(tmp_path), tokenizer, features=Images(), micro=2, accumulate=2, eval_batch=2)
    data.setup()
    problems, splits = data.read()
    for loader, split in (
        (data.train_dataloader(), "train"),
        (data.val_dataloader(), "val"),
        (data.test_dataloader(), "test"),
    ):
        seen = []
        for batch in loader:
            assert batch["image_features"].shape[1:] == (2, 4)
            for pid, ids, labels in zip(batch["pids"], batch["input_ids"], batch["labels"], strict=True):
                problem = problems[pid]
                prompt = tokenizer.decode(ids, skip_special_tokens=True)
                assert (
                    prompt == f"Question: {problem.question} Context: N/A Options: (A) one (B) two Solution:"
                )
                target = tokenizer.decode(labels[labels != -100], skip_special_tokens=True)
                assert target == f"Solution: {problem.solution}".strip()
                seen.append(pid)
        assert sorted(seen) == sorted(splits[split])


def test_unanswered_problems_take_no_part_in_answering(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["Which is it?"], vocab_size=200, path=tmp_path / "tokenizer")
    rationales = {pid: "Solution: so." for _, pid, *_ in rows()}
    data = ProblemData(aokvqa(tmp_path), tokenizer, prompt_format="QCMG-A", rationales=rationales)
    data.setup()
    assert (len(data.train), len(data.val), len(data.test)) == (7, 3, 0)
    assert tokenizer.decode(data.train[1].label_ids, skip_special_tokens=True) == "The answer is (B)."


def test_a_trainer_fits_and_tests_on_it(tmp_path: Path) -> None:
    class Count(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = {"train": 0, "val": 0, "test": 0}

        def training_step(self, batch, batch_idx):
            self.seen["train"] += len(batch["pids"])
            return self.weight.square().sum()

        def validation_step(self, batch, batch_idx):
            self.seen["val"] += len(batch["pids"])

        def test_step(self, batch, batch_idx):
            self.seen["test"] += len(batch["pids"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    tokenizer = train_tokenizer(["Which is it?"], vocab_size=200, path=tmp_path / "tokenizer")
    data, module = ProblemData(custom(tmp_path), tokenizer, micro=2), Count()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    assert module.seen == {"train": 14, "val": 6, "test": 2}
