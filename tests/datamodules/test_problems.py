"""Every data set in the data modules of the supervised stages, as Lightning uses them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ares.data.aokvqa import read_aokvqa
from ares.data.custom import read_custom
from ares.data.scienceqa import read_scienceqa
from ares.datamodules.problems import AnswerData, CorrectionData, RationaleData
from ares.models.t5.policy import T5Policy
from ares.text.tokenizers import train_tokenizer
from ares.types import AresError
from tests.support.policies import number_policy

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
    return read_scienceqa(root)


def aokvqa(root: Path):
    for split in SIZES:
        known = [
            {"question_id": pid, "image_id": 1, "question": f"Which is {pid}?", "choices": ["one", "two"]}
            | ({"correct_choice_idx": answer, "rationales": [text]} if split != "test" else {})
            for own, pid, answer, text in rows()
            if own == split
        ]
        (root / f"aokvqa_v1p0_{split}.json").write_text(json.dumps(known))
    return read_aokvqa(root)


def custom(root: Path):
    lines = [
        {"pid": pid, "question": f"Which is {pid}?", "choices": ["one", "two"], "answer": answer, "solution": text, "split": split}
        for split, pid, answer, text in rows()
    ]  # fmt: skip
    (root / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_custom(root)


class Images:
    """Features that identify their problem."""

    shape = (2, 4)

    def get(self, pids):
        return np.stack([np.full((2, 4), len(pid), dtype=np.float32) for pid in pids])


SETTINGS = {
    "text": {"use_caption": True, "newline": "space"}, "max_output_tokens": 512,
    "eval_questions": 2, "micro": 2, "accumulate": 2, "eval_batch": 2, "seed": 0,
}  # fmt: skip
PROMPT = "Question: {} Context: N/A Options: (A) one (B) two"


@pytest.fixture
def policy(tmp_path: Path) -> T5Policy:
    tokenizer = train_tokenizer(["Which is it? one two"], vocab_size=200)
    model = number_policy(vocabulary=len(tokenizer), patch_dim=4).model
    return T5Policy(model, tokenizer, features=Images())


def read_back(loader, policy: T5Policy) -> dict[str, tuple[str, str]]:
    """Prompts and targets by pid, as they reach the model."""
    seen = {}
    for batch in loader:
        ids, mask, images = batch["inputs"].tensors
        assert images.shape[1:] == (2, 4)
        lengths = batch["lengths"]
        for row, pid in enumerate(batch["inputs"].pids):
            assert pid not in seen
            prompt = policy.decode(ids[row, : int(mask[row].sum())].tolist())
            seen[pid] = (prompt, policy.decode(batch["response_ids"][row, : lengths[row]].tolist()))
    return seen


@pytest.mark.parametrize("write", [scienceqa, aokvqa, custom])
def test_rationale_trains_on_the_gold_rationales_of_every_data_set(tmp_path: Path, policy, write) -> None:
    problems, splits = write(tmp_path)
    data = RationaleData(problems, splits, policy, **SETTINGS)
    data.setup("fit")
    for loader, pids in (
        (data.train_dataloader(), splits["train"]),
        (data.val_dataloader(), splits["val"][:2]),
    ):
        assert read_back(loader, policy) == {
            pid: (f"{PROMPT.format(problems[pid].question)} Solution:", f"Solution: {problems[pid].solution}")
            for pid in pids
        }


def test_sft_trains_on_the_repaired_rationales_and_validates_on_gold_ones(tmp_path: Path, policy) -> None:
    problems, splits = custom(tmp_path)
    corrected = {"train1": "Better.", "train4": "Solution: best."}
    data = CorrectionData(problems, splits, policy, corrected=corrected, **SETTINGS)
    data.setup("fit")
    found = read_back(data.train_dataloader(), policy)
    assert {pid: target for pid, (_, target) in found.items()} == {
        "train1": "Solution: Better.",
        "train4": "Solution: best.",
    }
    assert read_back(data.val_dataloader(), policy)["val0"][1] == "Solution: It is number 0."


def test_lora_trains_on_answered_problems_with_the_models_own_rationales(tmp_path: Path, policy) -> None:
    problems, splits = aokvqa(tmp_path)
    problems["train2"] = replace(problems["train2"], answer=None)
    own = {split: {pid: f"Solution: so, {pid}." for pid in splits[split]} for split in splits}
    data = AnswerData(problems, splits, policy, rationales=own, **SETTINGS)
    data.setup("fit")
    found = read_back(data.train_dataloader(), policy)
    assert sorted(found) == sorted(set(splits["train"]) - {"train2"})
    for pid, (prompt, target) in found.items():
        assert prompt == f"{PROMPT.format(problems[pid].question)} Solution: so, {pid}. Answer:"
        assert target == f"The answer is ({'AB'[problems[pid].answer]})."


def test_trainer_fits_on_problem_data(tmp_path: Path, policy) -> None:
    class Count(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = {"train": 0, "val": 0}

        def training_step(self, batch, batch_idx):
            self.seen["train"] += len(batch["inputs"])
            return self.weight.square().sum()

        def validation_step(self, batch, batch_idx):
            self.seen["val"] += len(batch["inputs"])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data, module = RationaleData(*custom(tmp_path), policy, **{**SETTINGS, "accumulate": 1}), Count()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert module.seen == {"train": 14, "val": 4}


def test_blank_solutions_are_reported_and_left_out(tmp_path: Path, policy, capsys) -> None:
    problems, splits = custom(tmp_path)
    problems["train1"] = replace(problems["train1"], solution=" \n")
    data = RationaleData(problems, splits, policy, **SETTINGS)
    assert list(data.examples("train")) == [pid for pid in splits["train"] if pid != "train1"]
    assert "warning: 1 of 7 train problems have no solution and are left out." in capsys.readouterr().err
    # What the Teacher wrote for it is a target.
    data = CorrectionData(problems, splits, policy, corrected={"train1": "It is odd."}, **SETTINGS)
    assert [example.target for example in data.examples("train").values()] == ["Solution: It is odd."]
    blank = {pid: replace(problem, solution="") for pid, problem in problems.items()}
    with pytest.raises(AresError, match="no question of the train split has a solution"):
        RationaleData(blank, splits, policy, **SETTINGS).setup()


def test_targets_that_the_tokenizer_cannot_represent(tmp_path: Path, policy, capsys) -> None:
    problems, splits = custom(tmp_path)
    problems["train1"] = replace(problems["train1"], solution="So 冰.")
    RationaleData(problems, splits, policy, **SETTINGS).setup()
    assert "warning: 1 of 7 target texts have characters that the tokenizer" in capsys.readouterr().err
    lost = {
        pid: replace(problem, solution="冰是固体。水是液体。所以选。") for pid, problem in problems.items()
    }
    with pytest.raises(AresError, match="7 of 7 target texts have characters"):
        RationaleData(lost, splits, policy, **SETTINGS).setup()
