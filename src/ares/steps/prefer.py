"""prefer: trains the policy to prefer the chosen responses of pairs (DPO, IPO, hinge, DDPO, KTO, APO)."""

from ares.config.preference import PreferConfig
from ares.config.schema import Config
from ares.data.holdout import is_held_out
from ares.steps.common.contract import StepContext, StepResult, StepSpec
from ares.steps.common.fitting import saved
from ares.steps.common.inputs import examples_of, load_problems, policy_of, trainer_arguments
from ares.steps.pairs import follows
from ares.storage.pairs import read_pairs

_OPTIONS_OF = {
    "label_smoothing": ("dpo", "ddpo"),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
SPEC = StepSpec(
    name="prefer",
    reads=("data", "features", "policy", "pairs"),
    writes=("policy",),
    settings=("seed", "text", "model._target_", "trainer.precision", "prefer"),
    runs_on="device",
    place="round",
    folder="prefer",
    headline=("train/loss", "train/accuracy", "heldout/accuracy", "train/kl"),
    after=follows,
    check=lambda config: inert_options(config),
    wanted=lambda config, place: _wanted(config),
)


def inert_options(config: Config) -> list[str]:
    """A warning for each option that is set for another loss than the one that is trained with."""
    settings, defaults, found = config.prefer, PreferConfig(), []
    for name, losses in _OPTIONS_OF.items():
        if settings.loss not in losses and getattr(settings, name) != getattr(defaults, name):
            found.append(
                f"prefer.{name} has no effect with prefer.loss={settings.loss}, only with {' and '.join(losses)}."
            )
    return found


def _wanted(config: Config) -> bool:
    """Whether the stage makes pairs, or finds them: self-training makes some with selftrain.method=star_dpo only."""
    steps = config.stage.steps
    return "contrast" not in steps or "pairs" in steps or config.selftrain.method == "star_dpo"


def prefer(config: Config, context: StepContext) -> StepResult:
    """Writes `policy/`."""
    from ares.datamodules.pairs import PairBuffer
    from ares.modules.preference import run_preference

    settings = config.prefer
    problems, splits = load_problems(config, context)
    pairs = read_pairs(context.inputs["pairs"])
    policy = policy_of(config, context, context.inputs["policy"])
    pids = dict.fromkeys(pair.pid for pair in pairs if pair.pid in problems)
    val = frozenset(splits["val"])
    buffer = PairBuffer(
        policy,
        examples_of(problems, pids, "QCM-E", config),
        pairs,
        heldout=[pid for pid in pids if pid in val or is_held_out(pid, settings.holdout)],
        weighting=settings.ddpo if settings.loss == "ddpo" else None,
    )
    metrics = run_preference(
        policy,
        buffer,
        settings,
        seed=config.seed,
        checkpoints=context.checkpoints,
        checkpoint_minutes=config.trainer.checkpoint_minutes,
        trainer_arguments=trainer_arguments(config, context),
    )
    return saved(context, policy, metrics)
