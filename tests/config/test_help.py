"""What --help and --version print, and the form of suggested commands."""

import re
import shlex
import sys
from dataclasses import fields, is_dataclass
from importlib.metadata import version

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ares.__main__ import main
from ares.config.command_line import mistakes_in
from ares.config.commands import command
from ares.config.compose import options
from ares.config.fields import leaves
from ares.config.schema import Config


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ares", *arguments])
    main()
    return capsys.readouterr().out


def test_version(monkeypatch, capsys) -> None:
    assert printed(monkeypatch, capsys, "--version") == f"ares {version('ares')}\n"


def test_help_fits_on_a_screen_and_lists_every_group(monkeypatch, capsys) -> None:
    shown = printed(monkeypatch, capsys, "--help")
    assert len(shown.splitlines()) < 40
    assert shown.startswith("ares [flags] [group=option ...] [key=value ...]")
    for option in (*options("stage"), *options("teacher"), "rl", "rounds=1", "ares experiment=demo"):
        assert option in shown
    assert "kl_coef" not in shown


def test_help_on_a_block_shows_each_setting_with_default_comment_and_range(monkeypatch, capsys) -> None:
    shown = printed(monkeypatch, capsys, "--help", "rl")
    for key, _, _ in leaves(Config().rl, "rl."):
        assert f"  {key}=" in shown
    [line] = [line for line in shown.splitlines() if "rl.value_lr=" in line]
    assert "learning rate" in line
    assert line.endswith("(a number above 0, or null)")
    assert "sft.lr" not in shown
    assert "lora.global_batch_size=16" in printed(monkeypatch, capsys, "--help", "lora")
    assert "teacher.concurrency=16" in printed(monkeypatch, capsys, "-h", "teacher")


def test_help_on_a_setting(monkeypatch, capsys) -> None:
    shown = printed(monkeypatch, capsys, "--help", "rl.kl_coef")
    assert re.findall(r"^  ([\w.]+)=", shown, re.MULTILINE) == ["rl.kl_coef"]
    shown = printed(monkeypatch, capsys, "--help", "rl.lora.")
    assert re.findall(r"^  ([\w.]+)=", shown, re.MULTILINE) == [
        "rl.lora.r",
        "rl.lora.alpha",
        "rl.lora.targets",
    ]
    with pytest.raises(SystemExit, match="2"):
        printed(monkeypatch, capsys, "--help", "rl.klcoef")
    assert (
        "there is no such setting. Did you mean 'rl.kl_coef'? See ares --help rl." in capsys.readouterr().err
    )


def test_every_setting_has_a_comment(monkeypatch, capsys) -> None:
    blocks = [item.name for item in fields(Config) if is_dataclass(item.type)]
    assert "rl" in blocks
    shown = printed(monkeypatch, capsys, "--help") + printed(monkeypatch, capsys, "--help", *blocks)
    assert re.findall(r"^  [\w.]+=.*?  \(.*$", shown, re.MULTILINE) == []


def test_help_on_an_unknown_block_suggests_one(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        printed(monkeypatch, capsys, "--help", "lroa")
    assert "Did you mean 'lora'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "program"),
    [
        ("/venv/bin/ares", "ares"),
        ("train.py", "python train.py"),
        ("../train.py", "python ../train.py"),
        ("/x/src/ares/__main__.py", "python -m ares"),
        ("/venv/bin/pytest", "python train.py"),
    ],
)
def test_suggested_commands_have_the_form_of_the_call(monkeypatch, called: str, program: str) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert command("rl", run="a") == f"{program} stage=rl run=a"


@pytest.mark.parametrize("run", ["a", "a/sweep/kl_coef=0.1,clip=0.2", "a,b", "1e3", 'a "b"', "it's"])
def test_suggested_commands_are_read_as_they_are_meant(run: str) -> None:
    *_, setting = shlex.split(command("rl", run=run))
    assert mistakes_in([setting]) == []
    assert OverridesParser.create().parse_override(setting).value() == run
