"""Wrong versions of the numerics, each with the quick test that must notice it.

    python tests/mutants/mutants.py [name ...]      # or: make mutants

Each mutant is one replacement in a copy of the source, against which its test runs. A mutant is killed when the test
fails on it; the same tests pass on the source as it is, which is checked first. Exit code 1 if one survives.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """`old` occurs once in `file` (under src/ares) and becomes `new`; `test` is a pytest id under tests/."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "sampler weights are not truncated",
        "rl/losses.py",
        "difference.exp().clamp(max=SAMPLER_WEIGHT_CAP)",
        "difference.exp()",
        "rl/test_losses.py::test_sampler_weights_are_truncated_ratios",
    ),
    Mutant(
        "sign of KL (k1)",
        "rl/kl.py",
        "return -ratio",
        "return ratio",
        "rl/test_kl.py::test_estimators_equal_their_closed_forms",
    ),
    Mutant(
        "sign of KL in the reward",
        "datamodules/buffer.py",
        "self.rewards - kl_coef * penalty",
        "self.rewards + kl_coef * penalty",
        "datamodules/test_rollouts.py::test_rewards_and_logprobs_are_aligned_with_tokens",
    ),
    Mutant(
        "sign of KL in the loss",
        "modules/ppo_module.py",
        "loss + rl.kl_coef * divergence",
        "loss - rl.kl_coef * divergence",
        "modules/test_ppo_steps.py::test_first_loss_follows_the_formulas",
    ),
    Mutant(
        "sign of the advantage",
        "rl/losses.py",
        "plain = -advantages * ratio",
        "plain = advantages * ratio",
        "rl/test_losses.py::test_loss_of_unchanged_policy_is_negative_mean_advantage",
    ),
    Mutant(
        "the larger surrogate instead of the smaller",
        "rl/losses.py",
        "torch.maximum(plain, clipped), clipped",
        "torch.minimum(plain, clipped), clipped",
        "rl/test_losses.py::test_clipped_region_has_zero_gradient",
    ),
    Mutant(
        "sign of the clip range",
        "rl/losses.py",
        "ratio.clamp(1 - clip_range, 1 + clip_range)",
        "ratio.clamp(1 + clip_range, 1 - clip_range)",
        "rl/test_losses.py::test_clipped_region_has_zero_gradient",
    ),
    Mutant(
        "padding counted by the loss",
        "rl/masked.py",
        "denominator = (mask != 0).sum().clamp(min=1)",
        "denominator = mask.numel()",
        "rl/test_losses.py::test_padding_changes_neither_loss_nor_gradient",
    ),
    Mutant(
        "mask dropped in the loss",
        "rl/losses.py",
        "padding = mask == 0",
        "padding = mask < 0",
        "rl/test_losses.py::test_padding_changes_neither_loss_nor_gradient",
    ),
    Mutant(
        "mask dropped in sums",
        "rl/masked.py",
        "return x.masked_fill(mask == 0, 0).sum()",
        "return x.sum()",
        "rl/test_masked.py::test_sum_and_mean_ignore_padding",
    ),
    Mutant(
        "mask dropped in whitening",
        "rl/masked.py",
        "real = mask != 0\n    wide",
        "real = mask >= 0\n    wide",
        "rl/test_masked.py::test_whitened_tokens_have_mean_0_and_std_1_and_padding_0",
    ),
    Mutant(
        "mask dropped in KL",
        "rl/kl.py",
        "(ref_logprobs - logprobs).masked_fill(mask == 0, 0)",
        "(ref_logprobs - logprobs)",
        "rl/test_kl.py::test_padding_has_no_value_and_no_gradient",
    ),
    Mutant(
        "held-out rows whitened over",
        "modules/targets.py",
        "for row in buffer.train:",
        "for row in range(len(buffer)):",
        "modules/test_ppo.py::test_advantages_are_whitened_over_all_training_rows",
    ),
    Mutant(
        "sentence ends off by one",
        "rl/rewards.py",
        "index_add_(0, index, values)",
        "index_add_(0, (index - 1).clamp(min=0), values)",
        "rl/test_rewards.py::test_rewards_are_placed_on_sentence_ends",
    ),
    Mutant(
        "tokens of the sentence before",
        "rl/rewards.py",
        "torch.searchsorted(torch.as_tensor(ends), torch.arange(length))",
        "torch.searchsorted(torch.as_tensor(ends), torch.arange(length), right=True)",
        "rl/test_rewards.py::test_tokens_belong_to_their_sentence_and_eos_to_the_last",
    ),
    Mutant(
        "values off by one",
        "rl/advantages.py",
        "delta = rewards[:, t] + gamma * following_value - values[:, t]",
        "delta = rewards[:, t] + gamma * values[:, t] - following_value",
        "rl/test_advantages.py::test_gae_equals_its_definition_without_padding",
    ),
    Mutant(
        "λ left out",
        "rl/advantages.py",
        "following_advantage = delta + gamma * lam * following_advantage",
        "following_advantage = delta + gamma * following_advantage",
        "rl/test_advantages.py::test_gae_equals_its_definition_without_padding",
    ),
    Mutant(
        "the decoder sees the token it must predict",
        "models/t5/states.py",
        "shifted = F.pad(responses, (1, 0), value=model.config.decoder_start_token_id)[:, :-1]",
        "shifted = responses",
        "models/test_generation.py::test_logprobs_equal_those_during_sampling",
    ),
    Mutant(
        "EOS dropped from responses",
        "models/scheduling.py",
        "tokens.masked_fill(now.done, _NONE)",
        "tokens.masked_fill(now.done | (tokens == eos), _NONE)",
        "models/test_generation.py::test_order_length_and_eos_of_samples",
    ),
    Mutant(
        "rows that have finished grow older",
        "models/scheduling.py",
        "now.ages += ~now.done",
        "now.ages += 1",
        "models/test_slots.py::test_each_response_has_a_limit_of_its_own",
    ),
    Mutant(
        "rows in fixed places see tokens of the row before them",
        "models/slots.py",
        "found.masked_fill(distances < 0, -torch.inf)",
        "found",
        "models/test_slots.py::test_samples_equal_those_of_cohorts",
    ),
    Mutant(
        "world size left out of the loss",
        "modules/ppo_module.py",
        "self.trainer.accumulate_grad_batches * self.trainer.world_size",
        "self.trainer.accumulate_grad_batches",
        "modules/test_ppo_steps.py::test_loss_is_scaled_by_accumulation_and_ranks",
    ),
    Mutant(
        "accumulation left out of the loss",
        "modules/ppo_module.py",
        "self.trainer.accumulate_grad_batches * self.trainer.world_size",
        "self.trainer.world_size",
        "modules/test_ppo_steps.py::test_loss_is_scaled_by_accumulation_and_ranks",
    ),
    Mutant(
        "old log-probabilities not detached",
        "modules/ppo_module.py",
        '            batch["old_logprobs"],\n            old_values,',
        "            logprobs,\n            old_values,",
        "modules/test_ppo_steps.py::test_policy_gradient_is_that_of_the_surrogate",
    ),
    Mutant(
        "reference and policy swapped",
        "modules/ppo_module.py",
        "kl_penalty(logprobs, ref_logprobs, mask",
        "kl_penalty(ref_logprobs, logprobs, mask",
        "modules/test_ppo_steps.py::test_first_loss_follows_the_formulas",
    ),
    Mutant(
        "denominator of the micro-batch",
        "datamodules/rollouts.py",
        "found += [(part, denominator) for part in parts[rank :: self.world]]",
        "found += [(p, self.count([r for u in p for r in u])) for p in parts[rank :: self.world]]",
        "datamodules/test_rollouts.py::test_loader_returns_the_denominator_of_the_full_step",
    ),
    Mutant(
        "the same order every epoch",
        "datamodules/rollouts.py",
        "np.random.default_rng((seed, epoch))",
        "np.random.default_rng(seed)",
        "datamodules/test_rollouts.py::test_order_changes_with_epoch_and_seed",
    ),
    Mutant(
        "a rationale compared with itself",
        "rl/advantages.py",
        "(table.sum(0) - table) / (len(rewards) - 1)",
        "table.mean(0)",
        "rl/test_advantages.py::test_rloo_equals_a_hand_computed_case",
    ),
    Mutant(
        "clip range fixed",
        "modules/ppo_module.py",
        "clip_range=rl.clip_range,\n            vf_coef",
        "clip_range=0.2,\n            vf_coef",
        "modules/test_ppo_options.py::test_loss_of_a_policy_away_from_the_rollouts",
    ),
    Mutant(
        "value clip range disconnected",
        "modules/ppo_module.py",
        "value_clip_range=rl.value_clip_range",
        "value_clip_range=None",
        "modules/test_ppo_options.py::test_loss_of_a_policy_away_from_the_rollouts",
    ),
    Mutant(
        "clamp of the log ratio disconnected",
        "modules/ppo_module.py",
        "            log_ratio_clamp=rl.log_ratio_clamp,\n",
        "            log_ratio_clamp=None,\n",
        "modules/test_ppo_options.py::test_loss_of_a_policy_away_from_the_rollouts",
    ),
    Mutant(
        "γ and λ fixed",
        "rl/objectives/ppo.py",
        "gamma=settings.gamma, lam=settings.lam",
        "gamma=1.0, lam=0.95",
        "modules/test_ppo_options.py::test_epoch_advantages_and_returns_follow_the_formulas",
    ),
    Mutant(
        "always whitened",
        "modules/targets.py",
        "objective.whitened and settings.whiten",
        "objective.whitened",
        "modules/test_ppo_options.py::test_epoch_advantages_and_returns_follow_the_formulas",
    ),
    Mutant(
        "eps of Adam fixed",
        "modules/ppo_module.py",
        "eps=rl.adam_eps",
        "eps=1e-8",
        "modules/test_ppo_options.py::test_first_step_is_adamw",
    ),
    Mutant(
        "weight decay disconnected",
        "modules/ppo_module.py",
        "weight_decay=rl.weight_decay",
        "weight_decay=0.0",
        "modules/test_ppo_options.py::test_first_step_is_adamw",
    ),
    Mutant(
        "the value model's learning rate disconnected",
        "modules/ppo_module.py",
        "(rl.value_lr or rl.lr) / rl.lr",
        "1.0",
        "modules/test_ppo_options.py::test_first_step_is_adamw",
    ),
    Mutant(
        "neutral score fixed",
        "steps/ppo.py",
        "neutral=config.rl.neutral",
        "neutral=0.5",
        "steps/test_rollout.py::test_reward_is_score_minus_neutral",
    ),
    Mutant(
        "always the initial reference",
        "steps/rollout.py",
        'if config.rl.reference == "initial" and not is_own',
        "if not is_own",
        "steps/test_rollout.py::test_reference_in_second_round",
    ),
    Mutant(
        "never the initial reference",
        "steps/rollout.py",
        'if config.rl.reference == "initial" and not is_own',
        "if False and not is_own",
        "steps/test_rollout.py::test_reference_in_second_round",
    ),
    Mutant(
        "top_k disconnected",
        "steps/rollout.py",
        "Sampling(rl.top_k, rl.top_p, rl.temperature)",
        "Sampling(0, rl.top_p, rl.temperature)",
        "steps/test_rollout.py::test_sampling_settings_reach_the_sampler",
    ),
    Mutant(
        "top_p disconnected",
        "steps/rollout.py",
        "Sampling(rl.top_k, rl.top_p, rl.temperature)",
        "Sampling(rl.top_k, 1.0, rl.temperature)",
        "steps/test_rollout.py::test_sampling_settings_reach_the_sampler",
    ),
    Mutant(
        "temperature disconnected",
        "steps/rollout.py",
        "Sampling(rl.top_k, rl.top_p, rl.temperature)",
        "Sampling(rl.top_k, rl.top_p, 1.0)",
        "steps/test_rollout.py::test_sampling_settings_reach_the_sampler",
    ),
    Mutant(
        "a part's seed without its round",
        "steps/rollout.py",
        'f"{seed}/{round_number}/{part}"',
        'f"{seed}/{part}"',
        "steps/test_rollout.py::test_part_seed_is_pinned",
    ),
    Mutant(
        "PaliGemma's response in its prefix",
        "models/vlm/families.py",
        '{"paligemma": 1}',
        '{"paligemma": 0}',
        "models/test_families.py::test_a_prompt_is_read_once_for_its_responses",
    ),
    Mutant(
        "logits without the soft cap",
        "models/vlm/policy.py",
        "return logits if cap is None else",
        "return logits if True else",
        "models/test_families.py::test_left_and_right_padding_agree",
    ),
    Mutant(
        "the prompt's last token seen twice",
        "models/vlm/shared.py",
        "[length - 1 for length in ordered.lengths]",
        "ordered.lengths",
        "models/test_families.py::test_a_prompt_is_read_once_for_its_responses",
    ),
    Mutant(
        "state after the token",
        "models/vlm/running.py",
        "hidden.device) - 1\n",
        "hidden.device)\n",
        "models/test_families.py::test_a_prompt_is_read_once_for_its_responses",
    ),
    Mutant(
        "vision tokens are sampled",
        "models/vlm/policy.py",
        "return [token for token in self.reader.special_ids if token != self.tokenizer.eos_token_id]",
        "return super().banned",
        "models/test_families.py::test_no_vision_token_is_sampled",
    ),
    Mutant(
        "named special tokens alone",
        "models/vlm/messages.py",
        "added.union(tokenizer.all_special_ids)",
        "tokenizer.all_special_ids",
        "models/test_families.py::test_special_tokens_in_texts_are_escaped",
    ),
    Mutant(
        "a checkpoint's penalties kept",
        "models/vlm/loading.py",
        "    network.generation_config = GenerationConfig(",
        "    GenerationConfig(",
        "models/test_families.py::test_sampling_ignores_the_checkpoints_own_filters",
    ),
    Mutant(
        "no gradient without an image",
        "models/vlm/running.py",
        "if not torch.is_grad_enabled():",
        "if True:",
        "models/test_families.py::test_every_trained_weight_has_a_gradient",
    ),
    Mutant(
        "a response of several pairs stands for another",
        "modules/preference_module.py",
        'found[batch["responses"]]',
        'found[batch["responses"].flip(0)]',
        "modules/test_preference.py::test_responses_of_several_pairs_are_computed_once",
    ),
    Mutant(
        "log-probabilities of another policy's rollouts are kept",
        "steps/pairs.py",
        "return is_same_policy(fmean(differences), max(differences))",
        "return True",
        "steps/test_pairs.py::test_log_probabilities_of_rollouts_are_kept_where_they_are_the_policys",
    ),
    Mutant(
        "a wrong conclusion that scores well stays",
        "teachers/offline/learned.py",
        "and (not named or option in (None, *named))",
        "",
        "teachers/offline/test_learned.py::test_a_conclusion_that_names_another_option_is_replaced",
    ),
)


def run_tests(source: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs tests against the package in `source`."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            *(f"tests/{t}" for t in tests),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )


def mutate(mutant: Mutant, source: Path) -> None:
    """Applies a mutant to a copy of the source; raises ValueError where its place is not found once."""
    path = source / "ares" / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} holds {text.count(mutant.old)} times {mutant.old!r}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def main() -> int:
    """Prints who killed what; returns the exit code."""
    chosen = [m for m in MUTANTS if not sys.argv[1:] or m.name in sys.argv[1:]]
    tests = list(dict.fromkeys(mutant.test for mutant in chosen))
    untouched = run_tests(REPOSITORY / "src", tests)
    if untouched.returncode:
        print(untouched.stdout)
        return 1
    print(f"{len(tests)} tests pass on the source as it is", flush=True)
    survivors = []
    for mutant in chosen:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "src"
            shutil.copytree(REPOSITORY / "src", source)
            shutil.copytree(REPOSITORY / "conf", Path(folder) / "conf")
            mutate(mutant, source)
            started = time.monotonic()
            # 1: tests failed; anything else (collection, usage) proves nothing.
            killed = run_tests(source, [mutant.test]).returncode == 1
        survivors += [] if killed else [mutant.name]
        seconds = time.monotonic() - started
        print(
            f"{'killed  ' if killed else 'SURVIVED'} {mutant.name}  [{mutant.test}] {seconds:.0f} s",
            flush=True,
        )
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
