"""What the doctor finds, and that it finds it before a run would fail."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from ares.config.compose import folder, register_schema, to_config
from ares.config.options import TeacherConfig
from ares.doctor import doctor, examine
from ares.doctor.requirements import GIB, disk_of, memory_of, model_of, teacher_tokens, teacher_usd
from ares.steps.prepare import prepare_alone
from ares.types import AresError, Problem
from benchmarks.ppo_memory import options

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = dict.fromkeys(
    ("hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution"), ""
)


def composed(*overrides: str):
    register_schema()
    with initialize_config_dir(str(folder()), version_base="1.3"):
        return to_config(compose("config", overrides=["stage=doctor", *overrides]))


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


def test_a_run_that_can_work_has_no_problem(data: Path) -> None:
    config = on(data, "evaluate.split=val")
    prepare_alone(config)
    findings = examine(config)
    assert {finding.status for finding in findings} == {"ok"}
    texts = "\n".join(doctor(config))
    assert "3 problems (train 2, val 1, test 0)" in texts
    assert "2 of 2 found" in texts
    assert "16 x 784 of 2 problems" in texts
    assert texts.endswith("can run here.")


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


def test_a_split_without_answers_is_a_problem_of_stages_that_score_it(data: Path) -> None:
    assert found(on(data), "data")[1] == (
        "problem",
        "The test split of data=scienceqa has no question whose answer is known",
    )
    assert [status for status, _ in found(on(data, "doctor.stage=rl"), "data")] == ["ok"]


def test_what_prepare_makes_is_no_problem_of_prepare(data: Path, tmp_path: Path) -> None:
    assert found(on(data, "doctor.stage=prepare"), "features")[0][0] == "ok"
    nothing = on(tmp_path / "none", "doctor.stage=prepare")
    assert found(nothing, "data") == [("note", f"none in {tmp_path / 'none'} yet")]
    (data / "problems.json").write_text("[")
    assert found(on(data, "doctor.stage=prepare"), "data")[0][0] == "problem"


def test_features_are_refused_with_the_words_of_a_run(data: Path, tmp_path: Path) -> None:
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
        ("judge", ["judge.against", "rationales-test"]),
        ("prepare", []),
    ],
)
def test_what_earlier_stages_have_to_make(data: Path, stage: str, missing: list[str]) -> None:
    texts = sorted(text for _, text in found(on(data, f"doctor.stage={stage}"), "inputs"))
    assert len(texts) == len(missing)
    assert all(any(name in text for text in texts) for name in missing)
    # None of them starts from the policy of stage=rationale.
    assert not found(on(data, f"doctor.stage={stage}"), "policy")


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
            "data.hub=/nope is no folder",
        ),
    ],
)
def test_what_is_named_and_not_there(data: Path, overrides: list[str], subject: str, words: str) -> None:
    findings = [f for f in examine(on(data, *overrides)) if f.subject == subject and f.status == "problem"]
    assert any(words in finding.text for finding in findings)
    assert all(finding.remedy for finding in findings)


def test_published_answers_are_read_before_the_run(data: Path, tmp_path: Path) -> None:
    published = {"preds": ["The answer is (A)."], "labels": ["The answer is (A)."]}
    (tmp_path / "predictions_ans_eval.json").write_text(json.dumps(published))
    asked = on(data, "doctor.stage=evaluate", "evaluate.split=val", f"evaluate.predictions={tmp_path}")
    assert not found(asked, "inputs")
    published["labels"] = ["The answer is (B)."]
    (tmp_path / "predictions_ans_eval.json").write_text(json.dumps(published))
    [(status, text)] = found(asked, "inputs")
    assert (status, "as the answer of problem 3" in text) == ("problem", True)


def test_the_remedy_for_a_policy_has_all_that_was_typed(tmp_path: Path, data: Path) -> None:
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


def test_unreadable_data_are_quoted(data: Path) -> None:
    (data / "problems.json").write_text('{"1": {"question": "?"}}')
    [(status, text)] = found(on(data), "data")
    assert status == "problem"
    assert "problems.json: problem 1" in text


def test_checkpoints_are_opened_and_compared_with_the_features(
    data: Path, shared: Path, tmp_path: Path
) -> None:
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
    # A stage that starts from a policy says how to make one.
    [(status, text)] = found(on(data, "doctor.stage=rl"), "policy")
    assert (status, "runs/rl-scienceqa-tiny/rationale/policy is not there" in text) == ("problem", True)


def test_keys_are_present_or_not_and_never_shown(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    text = "\n".join(str(finding) for finding in examine(on(data, "logger=wandb")))
    assert "ANTHROPIC_API_KEY set, OPENAI_API_KEY not set" in text
    assert "sk-secret" not in text
    assert "logs offline" in text
    config = on(data)
    config.teacher = TeacherConfig("openai", "x", {"model": "m"})
    assert ("problem", "teacher=openai needs OPENAI_API_KEY") in found(config, "keys")
    config.teacher.arguments["base_url"] = "http://localhost:8000/v1"
    assert not [text for status, text in found(config, "keys") if status == "problem"]


def test_memory_and_disk_are_compared_with_what_there_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = on(data, "model=large", "generate.batch_size=100000")
    status, text = found(huge, "memory")[0]
    assert (status, "790 M weights" in text) == ("problem", True)
    assert "large ddp" in found(huge, "memory")[1][1]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert found(on(data), "disk")[0][0] == "problem"


def test_the_disk_has_to_hold_the_features(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * GIB))
    at = (f"paths.runs={tmp_path / 'runs'}", "strategy=single", "logger=csv", "doctor.stage=prepare")
    # 10,332 images of 145 x 1024 numbers of 4 bytes.
    [(status, text)] = found(composed(*at, f"data.root={tmp_path / 'none'}"), "disk")
    assert (status, "about 5.7 needed" in text) == ("problem", True)
    [(status, text)] = found(composed(*at, f"data.root={data}"), "disk")
    assert (status, "about 0.0 needed" in text) == ("ok", True)
    assert found(composed(*at, f"data.root={tmp_path / 'none'}", "features=none"), "disk")[0][0] == "ok"


def test_sizes_of_models(shared: Path) -> None:
    from ares.models.t5.loading import build_policy, load_policy

    class Tokenizer:
        pad_token_id, eos_token_id = 0, 1

        def __len__(self) -> int:
            return 2000

    config = composed("experiment=demo")
    keys = ("d_model", "d_ff", "d_kv", "layers", "heads", "feed_forward")
    settings = {key: config.model.arguments[key] for key in keys}
    built = build_policy(Tokenizer(), **settings, patch_num=16, patch_dim=784, dropout=0.0, seed=0)
    model = model_of(config)
    assert model.parameters == pytest.approx(sum(p.numel() for p in built.parameters()), rel=0.05)
    golden = shared / "golden" / "model_untied"
    read = model_of(composed("model=base", f"model.init={golden}"))
    opened = load_policy(golden, dropout=0.0, features=True)
    assert read.parameters == sum(p.numel() for p in opened.parameters())
    assert (read.width, read.layers, read.vocabulary) == (64, 4, 32128)
    assert model_of(composed("model=large")).parameters == 790_496_256


def test_training_holds_four_copies_of_the_weights_and_ddp_five() -> None:
    single, ddp = composed("model=large", "strategy=single"), composed("model=large")
    model = model_of(single)
    weights = model.parameters * 4 / GIB
    assert memory_of(ddp, model)["ppo"] - memory_of(single, model)["ppo"] == pytest.approx(2 * weights)
    assert memory_of(single, model)["ppo"] > 8 * weights
    half = composed("model=large", "strategy=single", "trainer.precision=bf16-true")
    assert memory_of(half, model)["rationale"] < 0.7 * memory_of(single, model)["rationale"]
    assert disk_of(single, model, ["rationale", "ppo"]) == pytest.approx(9 * weights)


@pytest.mark.parametrize(
    ("option", "overrides"),
    [
        ("defaults", []),
        ("rl.objective=rloo or grpo", ["rl.objective=grpo"]),
        ("rl.share_trunk=true", ["rl.share_trunk=true"]),
        ("rl.lora.r=64", ["rl.lora.r=64"]),
        ("rl.share_trunk=true rl.lora.r=64", ["rl.share_trunk=true", "rl.lora.r=64"]),
        ("strategy=fsdp trainer.devices=4", ["strategy=fsdp", "trainer.devices=4"]),
    ],
)
@pytest.mark.parametrize("size", ["base", "large"])
def test_memory_of_ppo_is_that_of_the_models_themselves(size: str, option: str, overrides: list[str]) -> None:
    single = [] if option.startswith("strategy") else ["strategy=single"]
    config = composed(f"model={size}", *single, *overrides, "rl.micro_batch_size=0")
    counted = options(size)[option]
    assert memory_of(config, model_of(config))["ppo"] == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(
    ("teacher", "score", "correct"),
    [
        # A request: 500 + (30 + 6 + 4) / 4 = 510 tokens; a rationale: 80 / 4 = 20 tokens, 2 sentences of 10.
        ({}, (2, 2 * (510 + 4 * 20), 2 * 4 * 20), (2, 2 * (510 + 20), 2 * 20)),
        ({"group": 1}, (8, 2 * 4 * (510 + 20), 2 * 4 * 20), (2, 2 * (510 + 20), 2 * 20)),
        # The paper's replies repeat what they are about.
        ({"group": 1, "prompt": "paper"}, (8, 2 * 4 * 530, 2 * 4 * 40), (2, 2 * 530, 2 * 40)),
    ],
)
def test_tokens_of_the_teacher_by_hand(
    teacher: dict[str, object], score: tuple[int, int, int], correct: tuple[int, int, int]
) -> None:
    config = composed("model=tiny", "rl.k=4")
    config.teacher = TeacherConfig("anthropic", arguments={"model": "m", **teacher})
    fields = dict.fromkeys(Problem.__dataclass_fields__, "")
    problem = Problem(
        **{
            **fields,
            "question": "q" * 30,
            "hint": "h" * 6,
            "choices": ("c" * 2,) * 2,
            "lecture": "l" * 4000,
            "solution": ("s" * 39 + ".") * 2,
            "image": None,
        }
    )
    tokens = teacher_tokens(config, {"a": problem, "b": problem}, {"train": ["a", "b"]}, ["score", "correct"])
    assert tokens == {"score": score, "correct": correct}
    config.teacher.arguments["prices"] = {"m": {"input": 1.0, "output": 5.0}}
    price = (score[1] + correct[1] + 5 * (score[2] + correct[2])) / 1e6
    assert teacher_usd(config, tokens) == pytest.approx(price)
    config.teacher.arguments["batch"] = True
    assert teacher_usd(config, tokens) == pytest.approx(price / 2)


def test_the_place_of_the_ledger(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    places = {"new/ledger.sqlite": "ok", "file/ledger.sqlite": "problem", "file": "ok", "data": "problem"}
    for place, status in places.items():
        config = on(data, "doctor.stage=score", f"paths.ledger={tmp_path / place}")
        assert [s for s, _ in found(config, "ledger")] == [status], place


def test_cost_of_the_teacher_follows_questions_rationales_and_prices(data: Path) -> None:
    from ares.steps.prepare import read_problems

    config = on(data)
    problems, splits = read_problems(config.data, data)
    steps = ["rollout", "score", "correct"]
    tokens = teacher_tokens(config, problems, splits, steps)
    assert {step: counts[0] for step, counts in tokens.items()} == {"score": 2, "correct": 2}
    assert teacher_usd(config, tokens) == 0.0
    config.teacher = TeacherConfig("anthropic", arguments={"model": "m"})
    assert teacher_usd(config, tokens) is None
    config.teacher.arguments["prices"] = {"m": {"input": 1.0, "output": 5.0}}
    sent, received = (sum(counts[i] for counts in tokens.values()) for i in (1, 2))
    assert teacher_usd(config, tokens) == pytest.approx((sent + 5 * received) / 1e6)
    # Images are read by Claude, not by the offline teacher.
    assert teacher_tokens(config, problems, splits, steps)["score"][1] > tokens["score"][1]


def test_cost_of_judging_two_runs(data: Path) -> None:
    config = on(data, "doctor.stage=judge", "judge.split=train")
    assert ("ok", "overlap: offline and free") in found(config, "Teacher")
    prices = {"m": {"input": 1.0, "output": 5.0}}
    config.teacher = TeacherConfig("anthropic", arguments={"model": "m", "prices": prices})
    problem = Problem(
        **{**dict.fromkeys(Problem.__dataclass_fields__, ""), "choices": (), "image": None}
        | {"question": "q" * 40, "solution": "s" * 80}
    )
    # Twice 500 + 40 / 4 tokens of the question and two rationales of 80 / 4; a verdict is 12 tokens.
    tokens = teacher_tokens(config, {"a": problem, "b": problem}, {"train": ["a", "b"]}, ["judge"])
    assert tokens == {"judge": (4, 4 * (510 + 2 * 20), 4 * 12)}
    config.judge.questions = 1
    tokens = teacher_tokens(config, {"a": problem, "b": problem}, {"train": ["a", "b"]}, ["judge"])
    assert tokens["judge"][0] == 2


def test_a_teacher_without_its_recording(data: Path, tmp_path: Path) -> None:
    for path in ("null", tmp_path / "gone.jsonl"):
        [(status, text)] = found(on(data, "teacher=replay", f"teacher.path={path}"), "Teacher")
        assert (status, "recording" in text) == ("problem", True)
    (tmp_path / "there.jsonl").write_text("")
    [(status, _)] = found(on(data, "teacher=replay", f"teacher.path={tmp_path / 'there.jsonl'}"), "Teacher")
    assert status == "ok"


def test_no_such_stage() -> None:
    with pytest.raises(AresError, match=r"There is no stage 'rll'; choose from ares"):
        examine(composed("doctor.stage=rll"))
