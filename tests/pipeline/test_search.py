"""The settings that a sweep tries."""

import math
from statistics import fmean

import pytest

from ares.config.command_line import mistakes_in
from ares.config.schema import Config, SweepConfig
from ares.pipeline.sweeps import jobs as sweep
from ares.pipeline.sweeps.jobs import name_of, names_of
from ares.pipeline.sweeps.search import settings_of
from ares.types import AresError


def test_combinations_follow_the_command_line() -> None:
    fixed, settings = settings_of(
        ["stage=rl", "rl.kl_coef=0,0.1", "data.sizes={train: 8, val: 4}", "rl.clip_range=0.1,0.2"],
        samples=None,
        seed=0,
    )
    assert fixed == ["stage=rl", "data.sizes={train: 8, val: 4}"]
    assert [dict(s) for s in settings] == [
        {"rl.kl_coef": kl, "rl.clip_range": clip} for kl in ("0", "0.1") for clip in ("0.1", "0.2")
    ]


def test_later_argument_replaces_earlier_one() -> None:
    fixed, settings = settings_of(["rl.kl_coef=0,1", "rl.lr=1,2", "rl.lr=3"], samples=None, seed=0)
    assert (fixed, len(settings)) == (["rl.lr=3"], 2)


def test_draws_are_in_range_and_repeat_with_the_seed() -> None:
    swept = ["rl.lr=tag(log, interval(1e-5, 1e-1))", "rl.clip_range=interval(0.1, 0.3)", "rl.ppo_epochs=2,4"]
    _, settings = settings_of(swept, samples=400, seed=1)
    rates = [float(dict(s)["rl.lr"]) for s in settings]
    clips = [float(dict(s)["rl.clip_range"]) for s in settings]
    assert min(rates) >= 1e-5 * 0.999
    assert max(rates) <= 1e-1 * 1.001
    # Uniform in the logarithm: half of the draws lie below the geometric mean.
    assert 0.4 < fmean(rate < 1e-3 for rate in rates) < 0.6
    assert fmean(map(math.log10, rates)) == pytest.approx(-3, abs=0.2)
    assert 0.1 <= min(clips) < 0.11 < 0.29 < max(clips) <= 0.3
    assert {dict(s)["rl.ppo_epochs"] for s in settings} == {"2", "4"}
    assert settings == settings_of(swept, samples=400, seed=1)[1]
    assert settings[:7] == settings_of(swept, samples=7, seed=1)[1]
    assert settings[0] != settings_of(swept, samples=7, seed=2)[1][0]


@pytest.mark.parametrize(
    ("arguments", "samples", "message"),
    [
        (["stage=rl"], None, "no setting has them"),
        (["rl.lr=interval(0, 1)"], None, r"sweep\.samples"),
        (["rl.lr=tag(log, interval(0, 1))"], 3, "above 0"),
        (["rl.lr=tag(logg, interval(1, 2))"], 3, r"rl\.lr: there is no tag 'logg'; write tag\(log"),
    ],
)
def test_impossible_sweeps_are_refused(arguments: list[str], samples: int | None, message: str) -> None:
    with pytest.raises(AresError, match=message):
        settings_of(arguments, samples=samples, seed=0)


def test_intervals_are_checked_like_values() -> None:
    assert mistakes_in(["-m", "rl.lr=tag(log, interval(1e-5, 1e-3))"]) == []
    assert len(mistakes_in(["-m", "rl.klcoef=interval(0, 1)"])) == 1


def test_folder_of_a_job_lists_its_settings() -> None:
    assert name_of((("rl.kl_coef", "0.1"), ("rl.clip_range", "0.2"))) == "kl_coef=0.1,clip_range=0.2"
    assert name_of((("sft.lr", "1"), ("rl.lr", "2"))) == "sft.lr=1,rl.lr=2"
    assert name_of((("data.root", "/a b/c"),)) == "root=_a_b_c"


def test_equal_values_are_one_job() -> None:
    _, settings = settings_of(["rl.kl_coef=0.1,1e-1,0.2", "rl.objective=ppo,grpo,ppo"], samples=None, seed=0)
    assert [tuple(dict(s).values()) for s in settings] == [
        (kl, objective) for kl in ("0.1", "0.2") for objective in ("ppo", "grpo")
    ]


def test_equal_folder_names_are_distinguished() -> None:
    settings = [(("data.root", value),) for value in ("a/b", "a_b", "c")]
    names = names_of(settings)
    assert len(set(names)) == 3
    assert names[2] == "root=c"
    assert names == [*names_of(settings[:2]), "root=c"]


def test_missing_input_is_named_in_the_run_that_jobs_start_from(monkeypatch) -> None:
    def run_stage(config: Config, *, shared_only: bool) -> None:
        raise AresError(f"runs/{config.run}/x is not there; make it with `python train.py run={config.run}`.")

    monkeypatch.setattr(sweep, "run_stage", run_stage)
    job = Config(run="demo/sweep/kl_coef=0.1,clip_range=0.1", sweep=SweepConfig(of="demo"))
    with pytest.raises(AresError) as error:
        sweep._make_shared(job)
    assert str(error.value) == "runs/demo/x is not there; make it with `python train.py run=demo`."
