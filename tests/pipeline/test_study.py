"""Studies: which trials there are, what they share, and what happens when one fails."""

from pathlib import Path

import pytest

from ares.config.schema import Config
from ares.pipeline.plan import steps_of
from ares.pipeline.sweeps import study
from ares.pipeline.sweeps.study import run_study, trials_of
from ares.types import AresError
from tests.support.small_run import configured

ARMS = {"ares": {}, "rl_only": {"stage.without": ["round/generate", "correct", "sft"]}}


def studied(runs: Path, arms: dict[str, dict], seeds: int = 2) -> Config:
    config = configured(runs, "stage=study", "run=study", "seed=4")
    config.study.arms, config.study.seeds = arms, seeds
    return config


def test_every_arm_has_every_seed(tmp_path: Path) -> None:
    trials = trials_of(studied(tmp_path, {**ARMS, "rloo": {"rl.objective": "rloo", "rounds": 2}}))
    assert [trial.name for trial in trials] == [
        f"{arm}-{seed}" for arm in ("ares", "rl_only", "rloo") for seed in (4, 5)
    ]
    assert [trial.config.seed for trial in trials] == [4, 5] * 3
    assert {trial.config.run for trial in trials} == {f"study/sweep/{trial.name}" for trial in trials}
    assert all(trial.config.sweep.share == "all" and trial.config.stage.name == "ares" for trial in trials)
    assert (trials[-1].config.rl.objective, trials[-1].config.rounds) == ("rloo", 2)
    assert "round-1/sft" in [step.key for step in steps_of(trials[0].config)]
    assert "round-1/sft" not in [step.key for step in steps_of(trials[2].config)]


def test_policy_of_the_last_remaining_step_answers(tmp_path: Path) -> None:
    rl_only = trials_of(studied(tmp_path, ARMS))[2].config
    [final] = [step for step in steps_of(rl_only) if step.key == "final/lora"]
    assert final.inputs["policy"].key == "round-1/ppo"
    gold = {"sft.source": "gold", "stage.without": ["rollout", "score", "ppo", "round/generate", "correct"]}
    without = [*gold["stage.without"], "round/assess"]
    [control] = trials_of(studied(tmp_path, {"gold": {**gold, "stage.without": without}}, 1))
    [sft] = [step for step in steps_of(control.config) if step.key == "round-1/sft"]
    assert {name: source.key for name, source in sft.inputs.items()} == {"policy": "rationale"}


def test_all_mistakes_of_all_arms_are_reported(tmp_path: Path) -> None:
    arms = {"a": {"rl.kl_coeff": 1}, "b": {"rounds": 0}, "c": {"stage.without": ["dpo"]}, "d": {}}
    with pytest.raises(AresError) as error:
        trials_of(studied(tmp_path, arms))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["study.arms.a", "study.arms.b", "study.arms.c"]
    assert "kl_coeff" in lines[0]
    assert "no step dpo" in lines[2]


def test_study_without_arms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AresError, match=r"needs study\.arms"):
        trials_of(studied(tmp_path, {}))


def test_other_trials_run_when_one_fails(tmp_path: Path, monkeypatch, capsys) -> None:
    ran = []

    def run_stage(config: Config) -> None:
        print("a step's line")
        ran.append(config.run)
        if config.run.endswith("ares-5"):
            raise AresError("the disk is full")

    monkeypatch.setattr(study, "run_stage", run_stage)
    with pytest.raises(
        AresError, match=r"1 of 4 trials failed; the same command.*\n  ares-5: the disk is full"
    ):
        run_study(studied(tmp_path, ARMS))
    assert len(ran) == 4
    assert (tmp_path / "study/sweep/rl_only-4/console.log").read_text() == "a step's line\n"
    printed = capsys.readouterr().out
    assert "a step's line" not in printed
    assert "ares-5: failed · 2 of 4" in printed


def test_finished_trials_are_not_run_again(tmp_path: Path, monkeypatch, capsys) -> None:
    ran: list[str] = []
    monkeypatch.setattr(study, "run_stage", lambda config: ran.append(config.run))
    monkeypatch.setattr(study, "is_finished", lambda config: config.run.endswith("ares-5"))
    trials = run_study(studied(tmp_path, ARMS))
    assert ran == [trial.config.run for trial in trials if trial.name != "ares-5"]
    assert capsys.readouterr().out.startswith("1 of 4 trials are done, 3 start now.")
