"""The doctor reports what would make a run fail, before it is started."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ares.doctor import doctor, examine
from ares.doctor.memory import check_memory
from ares.doctor.requirements import GIB, disk_of, memory_of, model_of
from ares.doctor.teacher import teacher_cost
from ares.steps.common.asking import make_teacher
from ares.steps.common.dry_run import Estimate
from ares.steps.prepare import prepare_alone
from ares.types import AresError, Problem
from tests.support import composed as support

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = dict.fromkeys(
    ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
)


def composed(*overrides: str):
    return support.composed("stage=doctor", *overrides)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three problems, the first two with an image."""
    root = tmp_path / "data"
    root.mkdir()
    problems = {
        pid: {**TEXT, "question": "?", "choices": ["a", "b"], "answer": 0, "image": image}
        for pid, image in (("1", "image.png"), ("2", "image.png"), ("3", None))
    }
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps({"train": ["1", "2"], "val": ["3"], "test": []}))
    for pid in "12":
        (root / "images" / pid).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(root / "images" / pid / "image.png")
    return root


def on(data: Path, *more: str):
    """A run on these problems, on the processor."""
    return composed(
        "data=scienceqa",
        f"data.root={data}",
        f"paths.runs={data.parent / 'runs'}",
        "model=tiny",
        "features=patches",
        "strategy=single",
        "trainer.accelerator=cpu",
        "logger=csv",
        *([] if any(override.startswith("teacher=") for override in more) else ["teacher=overlap"]),
        *more,
    )


def found(config, subject: str) -> list[tuple[str, str]]:
    return [(f.status, f.text) for f in examine(config) if f.subject == subject]


def test_run_that_can_work_has_no_problem(data: Path) -> None:
    config = on(data, "evaluate.split=val")
    prepare_alone(config)
    findings = examine(config)
    assert {finding.status for finding in findings} == {"ok"}
    texts = "\n".join(doctor(config))
    assert "3 problems (train 2, val 1, test 0)" in texts
    assert "2 of 2 found" in texts
    assert "16 x 784 of 2 problems" in texts
    assert texts.endswith("can run here.")


@pytest.mark.slow
def test_every_problem_has_a_remedy_and_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "train.py",
            "stage=doctor",
            "doctor.stage=rl",
            "model=large",
            "trainer.accelerator=cpu",
            f"data.root={tmp_path / 'none'}",
            f"paths.runs={tmp_path / 'runs'}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    problems = [number for number, line in enumerate(lines) if line.startswith("PROBLEM")]
    assert {"GPUs", "data", "features", "policy"} <= {lines[number].split()[1] for number in problems}
    assert all("→" in lines[number + 1] for number in problems)
    typed = f"model=large data.root={tmp_path / 'none'} paths.runs={tmp_path / 'runs'}"
    assert f"python train.py stage=rl {typed} strategy=single trainer.accelerator=cpu" in done.stdout
    assert "python train.py stage=prepare model=large" in done.stdout


def test_missing_images_and_unextracted_features(data: Path) -> None:
    (data / "images/2/image.png").unlink()
    [(status, text)] = found(on(data), "images")
    assert (status, "1 of 2 found" in text, "problem 2" in text) == ("problem", True, True)
    assert found(on(data), "features")[0][0] == "problem"
    skipping = on(data, "features.on_corrupt=skip")
    prepare_alone(skipping)
    assert found(skipping, "images")[0][0] == "note"
    [(status, text)] = found(skipping, "features")
    assert (status, "1 have none" in text) == ("note", True)
    assert found(on(data, "features=none"), "images")[0][0] == "note"


def test_images_beyond_the_first_are_checked(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {"pid": "1", "split": "train", "question": "?", "choices": ["a"], "images": ["a.png", "b.png"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    settings = ["data=custom", f"data.root={tmp_path / 'mine.jsonl'}", f"paths.runs={tmp_path / 'runs'}"]
    [(status, text)] = found(composed("stage=doctor", "features=none", *settings), "images")
    assert (status, text) == ("note", f"1 of 2 found; missing: {tmp_path / 'b.png'} (problem 1)")
    [(status, _)] = found(composed("stage=doctor", "model=tiny_vlm", *settings), "images")
    assert status == "problem"


def test_split_without_answers_is_a_problem_of_stages_that_evaluate_it(data: Path) -> None:
    assert found(on(data), "data")[1] == (
        "problem",
        "The test split of data=scienceqa has no question whose answer is known",
    )
    assert [status for status, _ in found(on(data, "doctor.stage=rl"), "data")] == ["ok"]


def test_output_of_prepare_is_not_required_by_prepare(data: Path, tmp_path: Path) -> None:
    assert found(on(data, "doctor.stage=prepare"), "features")[0][0] == "ok"
    nothing = on(tmp_path / "none", "doctor.stage=prepare")
    assert found(nothing, "data") == [("note", f"none in {tmp_path / 'none'} yet")]
    (data / "problems.json").write_text("[")
    assert found(on(data, "doctor.stage=prepare"), "data")[0][0] == "problem"


def test_unusable_features_are_reported_as_a_run_would(data: Path, tmp_path: Path) -> None:
    [(status, text)] = found(on(data, f"features.path={tmp_path / 'gone'}"), "features")
    assert (status, text) == ("problem", f"There are no image features in {tmp_path / 'gone'}")
    (data / "images/2/image.png").unlink()
    prepare_alone(on(data, "features.on_corrupt=skip"))
    [(status, text)] = found(on(data), "features")
    assert (status, "leave out 1 problems' images" in text) == ("problem", True)


@pytest.mark.parametrize(
    ("stage", "missing"),
    [
        ("score", ["rollouts"]),
        ("sft", ["corrections of round-1/correct", "policy of round-1/ppo"]),
        ("lora", ["policy of round-1/sft", "rationales-test", "rationales-train", "rationales-val"]),
        ("judge", ["rationales-test of baseline/generate", "rationales-test of final/generate"]),
        ("prepare", []),
    ],
)
def test_missing_inputs_from_earlier_stages(data: Path, stage: str, missing: list[str]) -> None:
    texts = sorted(text for _, text in found(on(data, f"doctor.stage={stage}"), "inputs"))
    assert len(texts) == len(missing)
    assert all(any(name in text for text in texts) for name in missing)
    # None of them starts from the policy of stage=rationale.
    assert not found(on(data, f"doctor.stage={stage}"), "policy")


@pytest.mark.parametrize("stage", ["pairs", "preferences", "reward"])
def test_missing_inputs_of_preferences_and_reward_models(data: Path, stage: str) -> None:
    config = on(data, f"doctor.stage={stage}")
    scores, rollouts = sorted(text for _, text in found(config, "inputs"))
    assert "feedback of round-1/score" in scores
    assert "rollouts of round-1/rollouts" in rollouts
    [(status, text)] = found(config, "policy")
    assert (status, f"stage={stage} starts from a policy" in text) == ("problem", True)


@pytest.mark.parametrize(
    ("overrides", "subject", "words"),
    [
        (["doctor.stage=rl", "policy=zzz"], "policy", "policy=zzz is neither a folder"),
        (["doctor.stage=generate", "policy=zzz"], "policy", "policy=zzz is neither a folder"),
        (["doctor.stage=export"], "inputs", "holds no policy"),
        (["doctor.stage=report"], "inputs", "holds no finished step"),
        (
            ["doctor.stage=evaluate", "evaluate.predictions=/nope"],
            "inputs",
            "/nope has none of predictions_ans",
        ),
        (
            ["doctor.stage=generate", "generate.predictions=/nope"],
            "inputs",
            "/nope has none of predictions_ans",
        ),
        (
            ["doctor.stage=prepare", "features=vit", "features.arrays=/nope"],
            "features",
            "/nope is not a file",
        ),
        (
            ["doctor.stage=prepare", "features=vit", "features.checkpoint=/no"],
            "features",
            "/no is not a file",
        ),
        (["data.captions=/nope.json"], "data", "/nope.json is missing"),
        (
            ["doctor.stage=prepare", "data.root=/none", "data.hub=/nope"],
            "data",
            "data.hub=/nope is not a folder",
        ),
    ],
)
def test_missing_paths_of_the_configuration(
    data: Path, overrides: list[str], subject: str, words: str
) -> None:
    findings = [f for f in examine(on(data, *overrides)) if f.subject == subject and f.status == "problem"]
    assert any(words in finding.text for finding in findings)
    assert all(finding.remedy for finding in findings)


def test_published_answers_are_checked(data: Path, tmp_path: Path) -> None:
    published = {"preds": ["The answer is (A)."], "labels": ["The answer is (A)."]}
    (tmp_path / "predictions_ans_eval.json").write_text(json.dumps(published))
    asked = on(data, "doctor.stage=evaluate", "evaluate.split=val", f"evaluate.predictions={tmp_path}")
    assert not found(asked, "inputs")
    published["labels"] = ["The answer is (B)."]
    (tmp_path / "predictions_ans_eval.json").write_text(json.dumps(published))
    [(status, text)] = found(asked, "inputs")
    assert (status, "as the answer of problem 3" in text) == ("problem", True)


@pytest.mark.slow
def test_remedy_for_a_missing_policy_repeats_the_command_line(tmp_path: Path, data: Path) -> None:
    typed = [
        "doctor.stage=rl",
        f"data.root={data}",
        f"paths.runs={tmp_path / 'runs'}",
        "features=none",
        "model=tiny",
    ]
    typed += ["strategy=single", "teacher=overlap", "logger=csv"]
    done = subprocess.run(
        [sys.executable, "train.py", "stage=doctor", *typed], cwd=REPOSITORY, capture_output=True, text=True
    )
    remedy = f"python train.py stage=rationale {' '.join(typed[1:])} run=rl-scienceqa-tiny, or policy="
    assert done.returncode == 1
    assert remedy in done.stdout


def test_unreadable_data_are_reported(data: Path) -> None:
    (data / "problems.json").write_text('{"1": {"question": "?"}}')
    [(status, text)] = found(on(data), "data")
    assert status == "problem"
    assert "problems.json: problem 1" in text


def test_checkpoints_are_compared_with_the_features(data: Path, shared: Path, tmp_path: Path) -> None:
    golden = shared / "golden" / "model_untied"
    config = on(data, "model=base", f"model.init={golden}")
    prepare_alone(config)
    [(status, text)] = found(config, "model")
    assert (status, "patches of 1024 numbers, the features have 784" in text) == ("problem", True)
    assert found(on(data, "model=base", f"model.init={golden}", "features=none"), "model")[0][0] == "ok"
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "config.json").write_text("{}")
    (torn / "model.safetensors").write_bytes(b"torn")
    [(status, text)] = found(on(data, f"policy={torn}", "doctor.stage=rl"), "policy")
    assert (status, "cannot be read" in text) == ("problem", True)
    # The remedy of a stage that starts from a policy.
    [(status, text)] = found(on(data, "doctor.stage=rl"), "policy")
    assert (status, "runs/rl-scienceqa-tiny/rationale/policy is not there" in text) == ("problem", True)


def test_keys_are_reported_and_never_shown(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    text = "\n".join(str(finding) for finding in examine(on(data, "logger=wandb", "teacher=anthropic")))
    assert "ANTHROPIC_API_KEY set, WANDB_API_KEY not set" in text
    assert "sk-secret" not in text
    assert "logs offline" in text


def test_missing_key_of_the_teacher(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    service = ("teacher=openai", "teacher.model=m")
    [(status, text), (cost, _)] = found(on(data, *service), "Teacher")
    assert (status, text, cost) == ("problem", "teacher=openai needs a key", "note")
    [missing] = [f for f in examine(on(data, *service)) if f.subject == "Teacher" and f.status == "problem"]
    assert "OPENAI_API_KEY" in missing.remedy
    local = on(data, *service, "teacher.base_url=http://localhost:8000/v1")
    assert [status for status, _ in found(local, "Teacher")] == ["note"]  # the price is unknown


def test_memory_and_disk_are_compared_with_the_machine(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = on(data, "model=large", "generate.batch_size=100000")
    status, text = found(huge, "memory")[0]
    assert (status, "790 M weights" in text) == ("problem", True)
    assert ", large " in found(huge, "memory")[1][1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert found(on(data), "disk")[0][0] == "problem"


def test_disk_includes_the_features(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * GIB))
    at = (f"paths.runs={tmp_path / 'runs'}", "strategy=single", "logger=csv", "doctor.stage=prepare")
    # 10,332 images of 145 x 1024 numbers of 4 bytes.
    [(status, text)] = found(composed(*at, f"data.root={tmp_path / 'none'}"), "disk")
    assert (status, "about 5.7 needed" in text) == ("problem", True)
    [(status, text)] = found(composed(*at, f"data.root={data}"), "disk")
    assert (status, "about 0.0 needed" in text) == ("ok", True)
    assert found(composed(*at, f"data.root={tmp_path / 'none'}", "features=none"), "disk")[0][0] == "ok"


def test_sizes_of_models(shared: Path) -> None:
    from ares.models.t5.loading import build_model, load_model

    class Tokenizer:
        pad_token_id, eos_token_id = 0, 1

        def __len__(self) -> int:
            return 2000

    config = composed("experiment=demo")
    keys = ("d_model", "d_ff", "d_kv", "layers", "heads", "feed_forward")
    settings = {key: config.model.arguments[key] for key in keys}
    built = build_model(Tokenizer(), **settings, patch_num=16, patch_dim=784, dropout=0.0, seed=0)
    model = model_of(config)
    assert model.parameters == pytest.approx(sum(p.numel() for p in built.parameters()), rel=0.05)
    golden = shared / "golden" / "model_untied"
    read = model_of(composed("model=base", f"model.init={golden}"))
    opened = load_model(golden, dropout=0.0, features=True)
    assert read.parameters == sum(p.numel() for p in opened.parameters())
    assert (read.decoder.width, read.encoder.layers, read.vocabulary) == (64, 2, 32128)
    assert model_of(composed("model=large")).parameters == 790_496_256


def test_disk_and_precision() -> None:
    single = composed("model=large", "strategy=single")
    model = model_of(single)
    assert disk_of(single, model, ["rationale", "ppo"]) == pytest.approx(21 * model.parameters * 4 / GIB)
    half = composed("model=large", "strategy=single", "trainer.precision=bf16-true")
    assert memory_of(half, model)["rationale"].total < 0.7 * memory_of(single, model)["rationale"].total


@pytest.mark.parametrize(
    ("overrides", "weights", "gradients"),
    [
        (["strategy=single"], 2, 2),
        (["strategy=ddp"], 2, 4),
        (["strategy=fsdp", "trainer.devices=4"], 1 / 2, 1 / 2),
        (["strategy=single", "rl.objective=grpo"], 1, 1),
        (["strategy=single", "rl.share_trunk=true"], 1, 1),
        (["strategy=single", "rl.lora.r=64"], 2.15, 0.2),
        (["strategy=single", "rl.lora.r=64", "rl.share_trunk=true"], 1.1, 0.1),
    ],
)
def test_models_that_ppo_holds_and_trains(overrides: list[str], weights: float, gradients: float) -> None:
    config = composed("model=large", *overrides)
    model = model_of(config)
    found, copy = memory_of(config, model)["ppo"], model.parameters * 4 / GIB
    assert found.weights == pytest.approx(weights * copy, rel=0.1)
    assert found.gradients == pytest.approx(gradients * copy, rel=0.1)


def test_preferences_hold_one_model_and_reward_models_a_head() -> None:
    config = composed("model=large", "strategy=single", "prefer.micro_batch_size=2")
    model = model_of(config)
    found, copy = memory_of(config, model), model.parameters * 4 / GIB
    assert found["prefer"].weights == found["prefer"].gradients == pytest.approx(copy)  # no reference
    assert found["reward"].weights == pytest.approx(copy, rel=0.01)
    assert found["reward"].weights > copy
    config.prefer.micro_batch_size = 4
    assert memory_of(config, model)["prefer"].activations > 1.9 * found["prefer"].activations


def test_fsdp_divides_fine_tuning_but_not_the_texts_of_its_validation() -> None:
    sharded = composed("model=large", "strategy=fsdp", "trainer.devices=4", "generate.batch_size=1")
    model = model_of(sharded)
    copy = model.parameters * 4 / GIB
    found = memory_of(sharded, model)
    for step in ("rationale", "sft"):
        assert found[step].weights == pytest.approx(copy / 4)
        assert found[step].moments == pytest.approx(2 * copy / 4)
    assert found["lora"].weights > copy
    sharded.generate.batch_size = 512
    validated = memory_of(sharded, model)["sft"]
    assert validated.weights == pytest.approx(copy + copy / 4)
    assert validated.cache > 0


VLM = ["model=qwen2_5_vl_7b", "trainer.precision=bf16-mixed", "strategy=single", "rounds=2"]


def test_vision_language_model_holds_one_base_and_trains_adapters() -> None:
    config = composed(*VLM)
    model = model_of(config)
    found, base, adapter = memory_of(config, model), 2 * model.parameters / GIB, 64 * model.adapted / GIB
    head = model.value_head / GIB
    assert found["ppo"].weights == pytest.approx(base + 6 * (2 * adapter + head))  # float32 and a copy
    assert found["ppo"].gradients == pytest.approx(4 * (2 * adapter + head))
    assert found["rationale"].weights == pytest.approx(base + 6 * adapter)
    assert found["rollout"].weights == pytest.approx(base + 2 * 4 * adapter)  # its own and the reference's
    assert found["lora"].weights == pytest.approx(base + 6 * adapter + 4 * adapter)  # the policy's own
    full = composed(*VLM, "model.lora.r=0", "model.dtype=float32", "rl.objective=grpo")
    all_weights = model.parameters - model.frozen
    assert memory_of(full, model_of(full))["ppo"].gradients == pytest.approx(4 * all_weights / GIB)


def test_remedies_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["rl.micro_batch_size=4", "rationale.micro_batch_size=4"]
    config = composed(*VLM, *sizes, "text.max_input_tokens=1024", "trainer.accelerator=cpu")
    config.trainer.activation_checkpointing = False

    def remedy(gib: float) -> str:
        monkeypatch.setattr("ares.doctor.memory.machine_memory", lambda: gib * GIB)
        return next(check_memory(config, ["rationale", "ppo"])).remedy

    assert remedy(500) == ""
    assert remedy(60).startswith("set trainer.activation_checkpointing=true, which needs 2")
    assert remedy(25).startswith("set trainer.activation_checkpointing=true rl.micro_batch_size=1, which")
    assert "model.quantization=nf4, which" in remedy(19)
    rows = memory_of(config, model_of(config))
    config.rl.micro_batch_tokens = 1024 + 4 * config.rl.max_new_tokens  # one question
    config.rationale.micro_batch_tokens = 4 * (1024 + config.rationale.max_output_tokens)
    for step in ("rationale", "ppo"):
        assert memory_of(config, model_of(config))[step] == rows[step]
    assert " rationale.micro_batch_tokens=1" in remedy(10)
    assert remedy(10).startswith("use larger devices or a smaller model: even with trainer.")
    _, others = check_memory(config, ["rationale", "ppo"])
    assert ", qwen2_5_vl_7b " in others.text
    assert "base " not in others.text  # another kind of model


def test_policy_that_is_an_adapter(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a.lora_A.weight": torch.ones(2, 3)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    config = on(data, "model=vlm", f"policy={tmp_path}", "doctor.stage=rl")
    assert found(config, "policy") == [("ok", f"policy={tmp_path} is readable; it reads images itself")]
    monkeypatch.setattr("ares.doctor.artefacts.find_spec", lambda name: None)
    [(status, text)] = found(on(data, "model=vlm", "model.quantization=nf4", "doctor.stage=rl"), "model")
    assert (status, text) == ("problem", "model.quantization=nf4 needs bitsandbytes")


def test_path_of_the_ledger(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    places = {"new/ledger.sqlite": "ok", "file/ledger.sqlite": "problem", "file": "ok", "data": "problem"}
    for place, status in places.items():
        config = on(data, "doctor.stage=score", f"paths.ledger={tmp_path / place}")
        assert [s for s, _ in found(config, "ledger")] == [status], place


PRICES = {"m": {"input": 1.0, "output": 5.0}}


def cost(config, step: str, pids: str = "ab") -> Estimate:
    """The estimate for a step on problems with rationales of two sentences."""
    fields = {**dict.fromkeys(Problem.__dataclass_fields__, ""), "image": None, "answer": 0}
    own = {"question": "Is it?", "choices": ("yes", "no"), "solution": "It is a solid. So the answer is yes."}
    problems = {pid: Problem(**{**fields, **own, "pid": pid}) for pid in pids}
    splits = {"train": list(problems), "val": [], "test": []}
    return teacher_cost(config, make_teacher(config), step, problems, splits)


def claude_run(*overrides: str):
    config = composed("model=tiny", "rl.k=4", "judge.split=train", "teacher=anthropic", *overrides)
    config.teacher.arguments |= {"model": "m", "prices": PRICES}
    return config


@pytest.mark.parametrize(
    ("overrides", "requests"),
    [
        ([], {"score": 2, "correct": 2, "judge": 4}),
        (["teacher.group=1"], {"score": 8, "correct": 2, "judge": 4}),
        (["rounds=3"], {"score": 6, "correct": 6, "judge": 4}),
        (["rl.questions=1", "judge.questions=1"], {"score": 1, "correct": 2, "judge": 2}),
    ],
)
def test_requests_of_the_teacher(overrides: list[str], requests: dict[str, int]) -> None:
    config = claude_run(*overrides)
    assert {step: cost(config, step).requests for step in requests} == requests


def test_the_judge_costs_nothing_without_a_baseline(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")

    def requests(*overrides: str) -> int:
        [(_, text)] = found(on(data, "teacher=anthropic", "judge.split=train", *overrides), "Teacher")
        return int(re.search(r"about ([\d,]+) requests", text)[1].replace(",", ""))

    assert requests("baseline=false") < requests()


def test_cost_of_the_teacher_follows_prompt_and_prices() -> None:
    found = cost(claude_run(), "score")
    assert found.usd == pytest.approx((found.input_tokens + 5 * found.output_tokens) / 1e6)
    assert cost(claude_run("teacher.batch=true"), "score").usd == pytest.approx(found.usd / 2)
    alone = cost(claude_run("teacher.group=1"), "score")
    assert alone.input_tokens > 2 * found.input_tokens  # the question is sent with each rationale
    paper = cost(claude_run("teacher=paper"), "score")
    assert paper.output_tokens > alone.output_tokens  # its replies repeat the sentences
    unknown = claude_run()
    unknown.teacher.arguments["prices"] = None
    assert cost(unknown, "score").usd is None


def test_cost_of_many_questions_is_scaled_from_a_sample() -> None:
    few, many = (cost(claude_run(), "correct", [f"{n:04}" for n in range(count)]) for count in (100, 1000))
    assert many.requests == 1000
    assert many.input_tokens == pytest.approx(10 * few.input_tokens, rel=0.01)


def test_cost_of_the_teacher_is_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    [(status, text)] = found(on(data, "teacher=anthropic"), "Teacher")
    assert (status, "anthropic: about 4 requests" in text, "about $0.00" in text) == ("ok", True, True)
    findings = found(on(data, "teacher=anthropic", "teacher.model=claude-unknown"), "Teacher")
    assert [status for status, _ in findings] == ["note", "note"]
    assert "the price of claude-unknown is unknown" in findings[1][1]
    assert not found(on(data, "teacher=anthropic", "doctor.stage=sft"), "Teacher")
    assert found(on(data), "Teacher") == [("ok", "overlap: offline and free")]


def test_missing_recording(data: Path, tmp_path: Path) -> None:
    for path in ("null", tmp_path / "gone.jsonl"):
        [(status, text)] = found(on(data, "teacher=replay", f"teacher.path={path}"), "Teacher")
        assert (status, "recording" in text) == ("problem", True)
    (tmp_path / "there.jsonl").write_text("")
    [(status, _)] = found(on(data, "teacher=replay", f"teacher.path={tmp_path / 'there.jsonl'}"), "Teacher")
    assert status == "ok"


def test_unknown_stage() -> None:
    with pytest.raises(AresError, match=r"There is no stage 'rll'; choose from ares"):
        examine(composed("doctor.stage=rll"))
