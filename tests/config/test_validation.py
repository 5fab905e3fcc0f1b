"""The command line and the configuration: what is refused, and with which message."""

import re
import resource
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from omegaconf import OmegaConf

from ares.config.command_line import mistakes_in
from ares.config.compose import OPTIONS, known_arguments, options, to_config, to_plain
from ares.config.fields import leaves
from ares.config.options import TeacherConfig
from ares.config.schema import Config
from ares.config.validation import validate, warnings_of
from ares.types import AresError
from tests.support.composed import composed, groups

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


@pytest.mark.parametrize("group", ["data", "experiment", "stage"])
def test_null_is_no_option_of_a_group(group: str) -> None:
    [mistake] = mistakes_in([f"{group}=null"])
    assert mistake.startswith(f"{group}=null: there is no such {group}; choose from ")


SHIPPED = [(group, option) for group in groups() if group != "stage" for option in options(group)]


@pytest.mark.parametrize(("group", "option"), SHIPPED)
def test_every_shipped_file_composes_and_validates(group: str, option: str, monkeypatch) -> None:
    monkeypatch.setattr("ares.config.validation.find_spec", lambda name: name)  # optional packages
    config = composed(f"{group}={option}")
    if config.model.name == "vlm":  # any model, which has to be given
        config.model.init = "some/model"
    validate(config)
    if group in OPTIONS:
        assert getattr(config, group).name or getattr(config, group)._target_


def test_size_dependent_settings_follow_the_model() -> None:
    assert composed("model=base", "strategy=single").rl.global_batch_size == 256
    large = composed("model=large")
    assert (large.rl.global_batch_size, large.rl.micro_batch_size, large.trainer.devices) == (128, 2, 4)
    assert large.logger.name == "wandb"
    assert composed("model=large", "rl.lr=3e-6").rl.lr == pytest.approx(3e-6)


def test_demo_needs_nothing_but_the_package() -> None:
    config = composed("experiment=demo")
    assert (config.data.name, config.model.name, config.teacher.name) == (
        "sample",
        "tiny",
        "oracle",
    )
    assert (config.trainer.devices, config.trainer.accelerator) == (1, "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("stage=rll", "'rl'"),
        ("modle=base", "'model'"),
        ("rl.klcoef=1", "'rl.kl_coef'"),
        ("kl_coef=1", "'rl.kl_coef'"),
        ("experiment=dmeo", "'demo'"),
        ("+rl.foo=1", "no key"),
        ("+rl.k=4", "leave out the +"),
        ("rl.lr=abc", "rl.lr=abc: it must be a number above 0"),
        ("rl.k=1.5", "rl.k=1.5: it must be a whole number of at least 1"),
        ("rl.clip_range=null", "rl.clip_range=null: it must be a number"),
        ("rl={k: 0}", "rl.k=0"),
        ("data.rot=x", "'data.root'"),
        ("data.root='${paths.rns}/x'", "'paths.rns'"),
        ("~rl.k=4", "cannot be removed"),
        ("model=tiny model.layers=abc", "must be a whole number"),
        ("teacher.batch=maybe", "must be true or false"),
        ("teacher.max_usd=-1", "must be a number of at least 0, or null"),
        ("teacher.concurrency=null", "must be a whole number of at least 1."),
        ("features.pretrained=null", "must be true or false"),
        ("engine=server engine.urls=http://a", "must be a list"),
        ("select.n=[2,0]", "select.n=[2, 0]: it must be a list, [a, b, ...], each of at least 1"),
        ("select.by=[first,mayority]", "Did you mean 'majority'?"),
        ("selftrain.prompts.refine=Wrong:", "selftrain.prompts.refine: it must contain {solution}"),
        ("engine.urls=[http://a]", "engine=hf has no key 'urls'"),
        ("model=smolvlm model.prompts.rationale=null", "model.prompts.rationale=null: it must be text"),
        ("model=smolvlm model.prompts.rationale=Why?", "model.prompts.rationale: it must contain {question}"),
        ("model=smolvlm model.prompts.answer=x", "contain {question} and {rationale}"),
        ("model=smolvlm model.lora.r=few", "model.lora.r=few: it must be a whole number of at least 0"),
        ("model=smolvlm model.lora.r=-1", "model.lora.r=-1: it must be a whole number of at least 0"),
        ("model=smolvlm model.quantization=int8", "choose from none, nf4"),
        ("model=vlm", "set model.init=<folder or hub id"),
        ("model=tiny_vlm model.lora.r=8", "set model.init, or model.lora.r=0"),
        ("model=smolvlm rl.lora.r=8", "use rl.lora.r=0"),
        ("model=smolvlm strategy=fsdp", "use strategy=ddp"),
        ("model=smolvlm model.lora.r=0", "use model.dtype=float32"),
        (
            "model=smolvlm model.lora.r=0 model.quantization=nf4",
            "set model.lora.r, or model.quantization=none",
        ),
        ("features.precision=33", "choose from auto, 32, bf16"),
        ("teacher.options=4", "must be a mapping"),
        ("data=sample data.sizes=null", "must be a mapping"),
        ("data=sample data.sizes=5", "must be a mapping"),
        ("stage", "'stage' is not of the form key=value"),
        ("rl.kl_coef=0.1,0.2", "add -m"),
        ("--hepl", "'--help'"),
        ("experiment=demo teacher.model=x", "has no key 'model'"),
        ("experiment=demo data.sizes='{train: 4, vall: 4}'", "'data.sizes.val'"),
        ("stage=none evaluate.predictions=x", "there is no such stage"),
        ("-m rl.k=1,0", "rl.k=0: it must be"),
        ("-m +sweep.params={rl.klcoef: '0,1'}", "'rl.kl_coef'"),
    ],
)
def test_mistake_is_one_sentence_with_a_suggestion(settings: str, message: str) -> None:
    problems = mistakes_in(re.split(r" (?![^{]*\})", settings.replace("'{", "{").replace("}'", "}")))
    assert len(problems) == 1, problems
    assert message in problems[0]
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    "settings",
    [
        "--cfg job experiment=demo",
        "-m stage=rl experiment=demo rl.kl_coef=0.1,0.2",
        "-m sweep=random_ppo",
        "-m teacher=anthropic,replay",
        "--help experiment=demo",
        "--info defaults experiment=demo",
        "-sc install=bash",
        "stage=rl model=large data.root=/x run=a hydra.job.num=1",
        "features.precision=32",
        "engine=server engine.urls=[http://a:8000,http://b:8000]",
        "+teacher.options.temperature=0.5",
        "data.root=${paths.runs}/x",
        "~experiment",
        "model=vlm model.init=x",
        "model=smolvlm model.quantization=nf4",
        "model=smolvlm model.lora.r=0 model.dtype=float32 rl.lora.r=8",
        "model=smolvlm model.lora.r=0 model.dtype=float32 strategy=fsdp",
    ],
)
def test_correct_command_line_has_no_mistakes(settings: str) -> None:
    assert mistakes_in(settings.split(" ")) == []


def test_flags_between_settings_are_refused() -> None:
    for flag in (["-m"], ["--cfg", "job"]):
        assert "before or after all settings" in mistakes_in(["stage=rl", *flag, "experiment=demo"])[0]
        for arguments in ([*flag, "stage=rl", "experiment=demo"], ["stage=rl", "experiment=demo", *flag]):
            assert mistakes_in(arguments) == []


def test_unknown_option_hides_only_combinations_that_it_may_change() -> None:
    two = ["strategy=single", "trainer.devices=2"]
    assert [text.split(" ")[0] for text in mistakes_in(["teacher=qqqq", *two])] == [
        "teacher=qqqq:",
        "strategy=single",
    ]
    assert len(mistakes_in(["model=qqqq", *two])) == 1


def test_typos_types_ranges_and_combinations_are_reported_at_once() -> None:
    problems = mistakes_in(
        [
            "stage=rll",
            "modle=base",
            "rl.klcoef=3",
            "rl.lr=abc",
            "rl.gamma=2",
            "teacher.timeout=-1",
            "trainer.devices=2",
            "strategy=single",
        ]
    )
    starts = [
        "stage=rll:",
        "modle=base:",
        "rl.klcoef=3:",
        "rl.lr=abc:",
        "rl.gamma=2.0:",
        "teacher.timeout=-1.0:",
        "strategy=single runs on one device",
    ]
    assert len(problems) == len(starts), problems
    for start, problem in zip(starts, problems, strict=True):
        assert problem.startswith(start)


def test_wrong_setting_causes_no_further_mistakes() -> None:
    assert len(mistakes_in(["rl.objective=grpo", "rl.k=none"])) == 1
    # Keys of an option that was misspelled are checked against the suggested one.
    assert len(mistakes_in(["data=smaple", "data.sizes.train=4"])) == 1


def test_options_of_another_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text(
        "name: mine\n_target_: my.reader\nroot: x\ndepth: 3\nfast: true\n"
    )
    for typed in (["--config-dir", str(tmp_path)], [f"hydra.searchpath=[file://{tmp_path}]"]):
        assert mistakes_in([*typed, "data=mine", "data.depth=4"]) == []
        assert "must be a number" in mistakes_in([*typed, "data=mine", "data.depth=x"])[0]
        assert "no key 'deep'" in mistakes_in([*typed, "data=mine", "data.deep=4"])[0]


def test_mistake_next_to_a_flag_is_reported() -> None:
    for flag in (["--help"], ["--info"], ["--info", "defaults"], ["--cfg", "job"]):
        assert "'rl.kl_coef'" in mistakes_in(["rl.klcoef=1", *flag])[0]


def test_every_mistake_is_printed_and_the_exit_code_is_2() -> None:
    done = train("stage=rll", "rl.klcoef=3", "modle=base")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") and "Did you mean" in line for line in lines)


def test_configuration_is_printed_quickly() -> None:
    # CPU seconds: other processes on the machine affect the wall clock.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = train("experiment=demo", "--cfg", "job")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    assert "kl_coef" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.precision=16-mixed"], "float16"),
        (["rl.kl_in=lost"], "'loss'"),
        (["rl.holdout=1.5"], "between"),
        (["evaluate.split=tset"], "'test'"),
        (["trainer.accelerator=tpuu"], "choose from"),
        (["trainer.threads=0"], "at least 1, or null"),
        (["sft.eval_every_epochs=0"], "at least 1"),
        (["rl.lr=0"], "above 0"),
        (["rl.clip_range=-1"], "above 0"),
        (["rl.gradient_clip=0"], "above 0"),
        (["rl.kl_coef=-1"], "at least 0"),
        (["rl.questions=-3"], "at least 1, or null"),
        (["doctor.stage=rll"], "'rl'"),
        (["run=shared"], "another name"),
        (["run="], "needs a name"),
        (["run=../elsewhere"], "inside paths.runs"),
        (["run=/elsewhere"], "inside paths.runs"),
        (["rl.global_batch_size=10", "rl.micro_batch_size=4"], "not a multiple"),
        (["trainer.devices=2"], "strategy=ddp"),
        (["strategy=fsdp", "rl.share_trunk=true"], "full models"),
        (["strategy=fsdp", "rl.lora.r=8"], "full models"),
        (["strategy=fsdp", "model=vlm", "model.init=base"], "full models"),
        (["rl.lora.r=-1"], r"rl\.lora\.r"),
        (["sweep.samples=0"], r"sweep\.samples"),
        (["rl.temperature=0"], "above 0"),
        (["rounds=0"], "at least 1"),
        (["seed=-1"], "seed=-1: it must be a whole number between 0"),
        (["sft.dropout=1"], r"sft\.dropout=1.0: it must be a number of at least 0 and below 1"),
        (["rationale.warmup_fraction=3"], "between 0 and 1"),
        (["rationale.adam_beta2=1.5"], "below 1"),
        (["lora.gradient_clip=-1"], "above 0, or null"),
        (["sft.eval_questions=-1"], "at least 0"),
        (["rl.lr=nan"], "above 0"),
        (["rl.kl_coef=inf"], "at least 0"),
        (["rl.micro_batch_size=0"], "at least 1"),
        (["rl.global_batch_size=-8"], "at least 1"),
        (["trainer.devices=0"], "at least 1"),
        (["model.layers=0"], "at least 1"),
        (["features.workers=-1"], "at least 0"),
        (["teacher=anthropic", "teacher.concurrency=0"], "at least 1"),
        (["report.questions=-1"], "at least 0"),
    ],
)
def test_impossible_values_and_combinations_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(AresError, match=message):
        validate(composed("experiment=demo", *overrides))


def test_every_number_of_the_schema_has_a_range() -> None:
    known = [(known_arguments(block) or block)() for block in OPTIONS.values()]
    numbers = [
        (key, item)
        for block in (Config(), *known)
        for key, item, _ in leaves(block)
        if {int, float} & {item.type, *get_args(item.type)}
    ]
    assert len(numbers) > 80
    assert [key for key, item in numbers if "bounds" not in item.metadata] == []


def test_defaults_of_the_schema_are_possible() -> None:
    validate(replace(Config(), run="a"))


def test_all_impossible_values_are_reported_at_once() -> None:
    with pytest.raises(AresError) as error:
        validate(composed("experiment=demo", "rl.k=0", "rl.gamma=2", "rounds=0"))
    assert len(str(error.value).splitlines()) == 3


def test_arguments_are_the_keys_without_a_field() -> None:
    teacher = composed("teacher=anthropic", "teacher.concurrency=3", "teacher.max_usd=5").teacher
    assert (teacher.name, teacher.max_usd, teacher.arguments["concurrency"]) == ("anthropic", 5.0, 3)
    assert not teacher.arguments.keys() & {"name", "_target_", "max_usd", "max_quarantine", "dry_run"}
    assert composed("features.precision=32").features.arguments["precision"] == "32"


def test_plain_configuration_has_the_keys_of_the_command_line_and_is_read_back() -> None:
    config = composed("experiment=demo", "teacher=anthropic")
    plain = to_plain(config)
    assert plain["teacher"]["model"] == config.teacher.arguments["model"]
    assert to_config(OmegaConf.create(plain)) == config


def test_arguments_of_foreign_classes_are_not_checked() -> None:
    config = replace(Config(), run="a", teacher=TeacherConfig("mine", "my.Teacher", {"concurrency": "many"}))
    validate(config)
    with pytest.raises(AresError, match=r"mine: _target_=my\.Teacher cannot be imported"):
        config.teacher.build()


def test_warnings_about_filters_and_inert_kl() -> None:
    assert warnings_of(composed("experiment=demo")) == []
    assert "rl.top_k=50" in warnings_of(composed("experiment=demo", "rl.top_k=50"))[0]
    assert "rl.temperature=0.7" in warnings_of(composed("experiment=demo", "rl.temperature=0.7"))[0]
    assert "round 1 only" in warnings_of(composed("experiment=demo", "stage=rl", "rounds=3"))[0]
    assert warnings_of(composed("experiment=demo", "rounds=3")) == []
    assert "no effect" in warnings_of(composed("experiment=demo", "rl.kl_in=reward"))[0]


def test_missing_devices_are_refused_with_the_command_that_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runs = f"paths.runs={tmp_path}/runs"
    done = train("stage=rl", "model=large", runs)
    assert done.returncode == 2
    works = f"python train.py stage=rl model=large {runs} strategy=single trainer.devices=1 trainer.accelerator=cpu"
    assert works in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())  # a refused run leaves no folder


def test_stage_without_device_steps_needs_no_devices(monkeypatch, tmp_path) -> None:
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


def test_missing_upstream_artifact_is_one_sentence_with_the_command(tmp_path) -> None:
    done = train(
        "experiment=demo",
        "stage=ppo",
        "features=none",
        "data.sizes={train: 8, val: 4, test: 4}",
        f"paths.runs={tmp_path}",
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    # The suggested command has all typed settings but the stage, and works.
    typed, *_ = re.findall(r"`python (train\.py .*?)`", done.stderr)
    assert set(shlex.split(typed)[1:]) >= {"stage=rationale", "experiment=demo", f"paths.runs={tmp_path}"}
    assert "stage=ppo" not in typed
    again = train(*shlex.split(typed)[1:], "--cfg", "job")
    assert again.returncode == 0, again.stderr


def test_missing_input_of_a_sweep_is_refused_with_the_command_that_makes_it(tmp_path) -> None:
    typed = (
        "experiment=demo",
        "data.sizes={train: 8, val: 4, test: 4}",
        f"paths.runs={tmp_path}",
        "run=mine",
    )
    done = train("-m", "stage=rl", *typed, "features=none", "rl.kl_coef=0,1")
    assert done.returncode == 2, done.stderr
    [suggested] = re.findall(r"`python (train\.py .*?)`", done.stderr)
    assert shlex.split(suggested)[1:] == ["stage=rationale", *typed[:-1], "features=none", "run=mine"]
    assert f"needs policy of rationale, which is not in {tmp_path / 'mine'}" in done.stderr


def test_sweep_on_too_few_devices_is_refused_with_the_sweep_that_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    typed = ("stage=rl", f"paths.runs={tmp_path}", "rl.kl_coef=0,1")
    done = train("-m", *typed)
    assert done.returncode == 2
    works = "strategy=single trainer.devices=1 trainer.accelerator=cpu"
    assert f"`python train.py -m {' '.join(typed)} {works}`" in done.stderr


def test_warning_of_a_library_is_printed_once() -> None:
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


@pytest.mark.parametrize(
    "run", [".", "./", "..", "../x", "x/..", "x/../shared", "./shared", "shared/x", "/x", "", "/"]
)
def test_run_outside_of_its_folder_is_refused(run: str) -> None:
    [mistake] = mistakes_in([f"run={run}"])
    assert mistake.startswith(f"run={run}: ")
    assert "paths.runs" in mistake


@pytest.mark.parametrize("run", ["a" * 300, "x/" + "é" * 150, "a/" * 600, "a\\0b"])
def test_run_that_no_folder_can_be_called_is_refused(run: str) -> None:
    [mistake] = mistakes_in([f'run="{run}"'.replace("\\0", "\0")])
    assert mistake.startswith("run=")
    assert len(mistake) < 400


@pytest.mark.parametrize(
    "setting",
    [
        "run=é",
        "run=实验",
        "run=a(b)",
        "run=a=b",
        "run=a#b",
        "data.root=/a (1)/ü",
        "run=a'b",
        'run=a"b',
        "run=~/x",
        "run=a&b",
    ],
)
def test_special_characters_need_quotes(setting: str) -> None:
    [mistake] = mistakes_in([setting])
    assert "needs quotes, twice in a shell: " in mistake
    [quoted] = shlex.split(mistake.split("in a shell: ")[1].removesuffix("."))
    assert not mistakes_in([quoted])
    key, _, value = setting.partition("=")
    assert OmegaConf.select(OmegaConf.structured(composed(quoted)), key) == value


@pytest.mark.parametrize(
    "setting",
    [
        "seed=" + "9" * 5000,
        "rl.lr=" + "9" * 5000,
        "teacher.options=" + "[" * 100_000,
        "run=" + "[" * 900 + "]" * 900,
    ],
)
def test_values_beyond_all_bounds_are_one_short_sentence(setting: str) -> None:
    [mistake] = mistakes_in([setting])
    assert len(mistake) < 400
    assert "\n" not in mistake
