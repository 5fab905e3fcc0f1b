"""The command line and the configuration: what is refused, and how it is told."""

import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from ares.config.bounds import BOUNDS
from ares.config.command_line import GROUPS, known_values, mistakes_in, problems_with
from ares.config.compose import options
from ares.config.schema import Config
from ares.config.validation import validate, warnings_of
from ares.types import AresError
from tests.support.composed import composed

REPOSITORY = Path(__file__).resolve().parents[2]


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "train.py", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("stage", options("stage"))
def test_every_stage_composes(stage: str) -> None:
    config = composed(f"stage={stage}", "model=tiny", "data=sample", "strategy=single")
    validate(config)
    assert config.stage.name == stage
    assert config.stage.steps


SHIPPED = [(group, option) for group in GROUPS if group != "stage" for option in options(group)]


@pytest.mark.parametrize(("group", "option"), SHIPPED)
def test_every_shipped_file_composes_and_validates(group: str, option: str) -> None:
    config = composed(f"{group}={option}")
    validate(config)
    if hasattr(block := getattr(config, group, None), "get"):
        assert block["name"] == option or "_target_" in block


def test_what_depends_on_model_size_follows_the_model() -> None:
    assert composed("model=base", "strategy=single").rl.global_batch_size == 256
    large = composed("model=large")
    assert (large.rl.global_batch_size, large.rl.micro_batch_size, large.trainer.devices) == (128, 2, 4)
    assert large.logger.name == "wandb"
    assert composed("model=large", "rl.lr=3e-6").rl.lr == pytest.approx(3e-6)


def test_demo_needs_nothing_but_the_package() -> None:
    config = composed("experiment=demo")
    assert (config.data["name"], config.model["name"], config.teacher["name"]) == (
        "sample",
        "tiny",
        "oracle",
    )
    assert (config.trainer.devices, config.trainer.accelerator) == (1, "cpu")


def test_a_correct_command_line_has_no_problems() -> None:
    overrides = [
        "stage=rl",
        "model=large",
        "rl.kl_coef=1e-3,1e-2",
        "data.root=/x",
        "run=a",
        "hydra.job.num=1",
    ]
    assert problems_with(overrides) == []


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("stage=rll", "'rl'"),
        ("modle=base", "'model'"),
        ("rl.klcoef=1", "'rl.kl_coef'"),
        ("kl_coef=1", "'rl.kl_coef'"),
        ("experiment=dmeo", "'demo'"),
        ("+rl.foo=1", "no key"),
        ("rl.lr=abc", "abc"),
        ("rl.k=1.5", "1.5"),
        ("data.rot=x", "'data.root'"),
        ("~rl.k=4", "cannot be removed"),
        ("model.layers=abc", "must be a number"),
        ("teacher.batch=no", "must be true or false"),
        ("features.pretrained=null", "must be true or false"),
        ("data.sizes=null", "must be a mapping"),
        ("data.sizes=5", "must be a mapping"),
    ],
)
def test_each_mistake_is_named_with_a_suggestion(override: str, suggestion: str) -> None:
    problems = problems_with([override])
    assert len(problems) == 1
    assert suggestion in problems[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "rl"], "'stage' is not of the form key=value"),
        (["rl.kl_coef=0.1,0.2"], "add -m"),
        (["experiment=demo", "teacher.model=x"], "the teacher that is chosen has no key 'model'"),
        (["experiment=demo", "data.sizes={train: 4, vall: 4}"], "vall"),
    ],
)
def test_what_hydra_would_tell_is_told_in_a_sentence(arguments: list[str], message: str) -> None:
    problems = mistakes_in(arguments)
    assert message in problems[0]
    assert "\n" not in problems[0]


def test_flags_of_hydra_and_sweeps_are_no_mistakes() -> None:
    assert mistakes_in(["--cfg", "job", "experiment=demo"]) == []
    assert mistakes_in(["-m", "stage=rl", "experiment=demo", "rl.kl_coef=0.1,0.2"]) == []
    assert mistakes_in(["--help", "experiment=demo"]) == []
    assert mistakes_in(["--info", "defaults", "experiment=demo"]) == []
    assert mistakes_in(["--info", "experiment=demo"]) == []
    assert mistakes_in(["-sc", "install=bash"]) == []


def test_flags_between_settings_are_told() -> None:
    for flag in (["-m"], ["--cfg", "job"]):
        assert "before or after all settings" in mistakes_in(["stage=rl", *flag, "experiment=demo"])[0]
        for arguments in ([*flag, "stage=rl", "experiment=demo"], ["stage=rl", "experiment=demo", *flag]):
            assert mistakes_in(arguments) == []


def test_help_names_the_command_and_where_settings_are_explained() -> None:
    shown = train("--help").stdout
    assert shown.startswith("python train.py [flags] [group=option ...] [key=value ...]")
    assert "README.md" in shown
    assert "kl_coef" in shown


def test_a_mistake_beside_a_flag_of_hydra_is_told() -> None:
    for flag in (["--help"], ["--info"], ["--info", "defaults"], ["--cfg", "job"]):
        assert "'rl.kl_coef'" in mistakes_in([*flag, "rl.klcoef=1"])[0]


def test_three_mistakes_give_three_messages_and_exit_code_2() -> None:
    done = train("stage=rll", "rl.klcoef=3", "modle=base")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") and "Did you mean" in line for line in lines)


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]])
def test_help_and_configuration_are_quick(flag: list[str]) -> None:
    # Processor seconds: the wall clock also counts whoever else uses the machine.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = train("experiment=demo", *flag)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert "kl_coef" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.precision=16-mixed"], "float16"),
        (["rl.kl_in=lost"], "'loss'"),
        (["rl.objective=grpo", "rl.k=1"], "rl.k=2"),
        (["rl.holdout=1.5"], "between"),
        (["evaluate.split=tset"], "'test'"),
        (["trainer.accelerator=tpuu"], "choose from"),
        (["trainer.threads=0"], "at least 1, or null"),
        (["sft.eval_every_epochs=0"], "at least 1"),
        (["rl.lr=0"], "above 0"),
        (["rl.clip_range=-1"], "above 0"),
        (["rl.gradient_clip=0"], "above 0"),
        (["rl.kl_coef=-1"], "negative"),
        (["rl.questions=-3"], "at least 1, or null"),
        (["doctor.stage=rll"], "'rl'"),
        (["run=shared"], "another name"),
        (["rl.global_batch_size=10", "rl.micro_batch_size=4"], "no multiple"),
        (["trainer.devices=2"], "strategy=ddp"),
        (["strategy=fsdp", "rl.share_trunk=true"], "whole models"),
        (["strategy=fsdp", "rl.lora.r=8"], "whole models"),
        (["rl.objective=rloo", "rl.share_trunk=true"], "no value model"),
        (["rl.lora.r=-1"], r"rl\.lora\.r"),
        (["sweep.samples=0"], r"sweep\.samples"),
        (["rl.temperature=0"], "above 0"),
        (["rounds=0"], "at least 1"),
        (["seed=-1"], "seed=-1: it must be a whole number between 0"),
        (["sft.dropout=1"], r"sft\.dropout=1.0: it must be at least 0 and below 1"),
        (["rationale.warmup_fraction=3"], "between 0 and 1"),
        (["rationale.adam_beta2=1.5"], "below 1"),
        (["lora.gradient_clip=-1"], "above 0, or null"),
        (["sft.eval_questions=-1"], "not negative"),
        (["rl.lr=nan"], "above 0"),
        (["rl.kl_coef=inf"], "not be negative"),
        (["rl.micro_batch_size=0"], "at least 1"),
        (["rl.global_batch_size=-8"], "at least 1"),
        (["trainer.devices=0"], "at least 1"),
        (["model.layers=0"], "at least 1"),
        (["features.batch_size=1.5"], "whole number"),
        (["features.workers=-1"], "not negative"),
        (["teacher=anthropic", "teacher.concurrency=null"], "at least 1"),
        (["report.examples=-1"], "not negative"),
    ],
)
def test_impossible_combinations_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(AresError, match=message):
        validate(composed("experiment=demo", *overrides))


def test_every_number_of_the_schema_has_a_bound() -> None:
    def numbers(block: Any, prefix: str = "") -> Iterator[str]:
        hints = get_type_hints(block)
        for item in fields(block):
            if is_dataclass(hints[item.name]):
                yield from numbers(hints[item.name], f"{prefix}{item.name}.")
            elif {int, float} & {hints[item.name], *get_args(hints[item.name])}:
                yield prefix + item.name

    found = set(numbers(Config))
    assert len(found) > 70
    assert found <= BOUNDS.keys()
    assert BOUNDS.keys() <= known_values().keys()


def test_all_impossible_values_are_told_at_once() -> None:
    with pytest.raises(AresError) as error:
        validate(composed("experiment=demo", "rl.k=0", "rl.gamma=2", "rounds=0"))
    assert len(str(error.value).splitlines()) == 3


def test_filters_and_an_inert_kl_are_warned_about() -> None:
    assert warnings_of(composed("experiment=demo")) == []
    assert "rl.top_k=50" in warnings_of(composed("experiment=demo", "rl.top_k=50"))[0]
    assert "rl.temperature=0.7" in warnings_of(composed("experiment=demo", "rl.temperature=0.7"))[0]
    assert "round 1 alone" in warnings_of(composed("experiment=demo", "stage=rl", "rounds=3"))[0]
    assert warnings_of(composed("experiment=demo", "rounds=3")) == []
    assert "no effect" in warnings_of(composed("experiment=demo", "rl.kl_in=reward"))[0]


def test_fewer_devices_than_asked_for_are_refused_with_the_command_that_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runs = f"paths.runs={tmp_path}/runs"
    done = train("stage=rl", "model=large", runs)
    assert done.returncode == 2
    works = f"python train.py stage=rl model=large {runs} strategy=single trainer.devices=1 trainer.accelerator=cpu"
    assert works in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # a refused run leaves no folder


def test_a_stage_that_uses_no_device_may_ask_for_any(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    typed = ("experiment=demo", "data.sizes={train: 8, val: 4, test: 4}", f"paths.runs={tmp_path}")
    done = train("stage=score", *typed, "trainer.accelerator=auto", "strategy=ddp", "trainer.devices=2")
    assert "GPUs" not in done.stderr
    assert "round-1/score needs" in done.stderr


def test_missing_data_is_one_sentence_with_the_command(tmp_path) -> None:
    done = train(
        "stage=rationale",
        "model=tiny",
        "features=none",
        "strategy=single",
        "data.root=/nowhere",
        f"paths.runs={tmp_path}",
    )
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "python train.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_upstream_artefact_is_one_sentence_with_the_command(tmp_path) -> None:
    done = train(
        "experiment=demo",
        "stage=ppo",
        "features=none",
        "data.sizes={train: 8, val: 4, test: 4}",
        f"paths.runs={tmp_path}",
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    # What it says to type is what was typed, the stage apart, and works.
    [typed] = re.findall(r"`python (train\.py .*?)`", done.stderr)
    assert set(shlex.split(typed)[1:]) >= {"stage=rationale", "experiment=demo", f"paths.runs={tmp_path}"}
    assert "stage=ppo" not in typed
    again = train(*shlex.split(typed)[1:], "--cfg", "job")
    assert again.returncode == 0, again.stderr


def test_what_a_sweep_lacks_is_told_with_the_command_that_makes_it(tmp_path) -> None:
    typed = (
        "experiment=demo",
        "data.sizes={train: 8, val: 4, test: 4}",
        f"paths.runs={tmp_path}",
        "run=mine",
    )
    done = train("-m", "stage=rl", *typed, "features=none", "rl.kl_coef=0,1")
    assert done.returncode == 2, done.stderr
    [told] = re.findall(r"`python (train\.py .*?)`", done.stderr)
    assert shlex.split(told)[1:] == ["stage=rationale", *typed[:-1], "features=none", "run=mine"]
    assert str(tmp_path / "mine/rationale/policy") in done.stderr


def test_a_sweep_on_too_few_devices_is_told_with_the_sweep_that_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    typed = ("stage=rl", f"paths.runs={tmp_path}", "rl.kl_coef=0,1")
    done = train("-m", *typed)
    assert done.returncode == 2
    works = "strategy=single trainer.devices=1 trainer.accelerator=cpu"
    assert f"`python train.py -m {' '.join(typed)} {works}`" in done.stderr


def test_a_librarys_line_is_printed_once() -> None:
    """Hydra's own handlers would print what libraries print themselves a second time."""
    code = """
import logging, sys
import huggingface_hub.file_download
import ares.steps.prepare
from ares.__main__ import main

def prepare_alone(config):
    logging.getLogger("huggingface_hub").warning("Retrying.")
    return []

ares.steps.prepare.prepare_alone = prepare_alone
sys.argv = ["train.py", "stage=prepare"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout + done.stderr).count("Retrying.") == 1
