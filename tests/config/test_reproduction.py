"""The command that composes a configuration again."""

import shlex

import pytest

from ares.config.compose import to_plain
from ares.config.reproduction import reproducing_command
from tests.support.composed import composed


@pytest.mark.parametrize(
    "settings",
    [
        ["experiment=demo"],
        ["experiment=demo_vlm", "seed=3", "rounds=2"],
        ["experiment=paper_aokvqa_base", "rl.value_clip_range=0.2"],
        [
            "model=vlm",
            "model.init=me/model",
            'model.prompts.system="Think, then say \\"done\\"."',
            "data=custom",
        ],
        [
            "features=timm",
            "+features.model_args.img_size=256",
            "teacher.max_usd=null",
            "+data.extra={a: [1, x y]}",
        ],
    ],
)
def test_command_composes_the_same_configuration(settings: list[str]) -> None:
    config = composed(*settings)
    words = shlex.split(reproducing_command(config))
    assert words[:3] == ["python", "train.py", "stage=ares"]
    again = to_plain(composed(*words[2:]))
    expected = to_plain(config)
    for left_out in ("run", "paths", "logger", "stage"):
        again.pop(left_out), expected.pop(left_out)
    assert again == expected


def test_commands_name_no_folder_of_this_machine() -> None:
    command = reproducing_command(
        composed("experiment=demo", "data=custom", "data.root=/home/me/problems.jsonl")
    )
    assert "data.root=<problems.jsonl>" in command
    assert "/home" not in command
