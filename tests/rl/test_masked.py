import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ares.rl.masked import masked_mean, masked_sum, masked_whiten


def ragged(seed: int, rows: int, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows, 1), generator=generator)
    mask = (torch.arange(longest) < lengths).float()
    return torch.randn(rows, longest, generator=generator) * 3 + 1, mask


def test_sum_and_mean_ignore_padding():
    x = torch.tensor([[1.0, 2.0, float("nan")], [4.0, float("inf"), 9.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert masked_sum(x, mask) == 7
    assert masked_mean(x, mask) == pytest.approx(7 / 3)
    assert masked_mean(x, mask, denominator=14) == 0.5
    assert masked_mean(x, torch.zeros_like(mask)) == 0


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9))
def test_whitened_tokens_have_mean_0_and_std_1_and_padding_0(seed, rows, longest):
    x, mask = (each.double() for each in ragged(seed, rows, longest))  # values may be nearly equal
    white = masked_whiten(x.masked_fill(mask == 0, float("nan")), mask)
    real = white[mask.bool()]
    assert torch.equal(white[~mask.bool()], torch.zeros(int((mask == 0).sum())))
    assert real.mean().item() == pytest.approx(0, abs=1e-5)
    if len(real) > 1:
        variance = x[mask.bool()].var(correction=0).item()
        assert real.std(correction=0).item() == pytest.approx((variance / (variance + 1e-8)) ** 0.5, abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_whitening_is_invariant_to_scale_shift_and_padding(seed):
    x, mask = ragged(seed, 3, 6)
    mask[0] = 1
    white = masked_whiten(x, mask)
    torch.testing.assert_close(masked_whiten(5 * x - 2, mask), white, atol=1e-4, rtol=1e-4)
    wider = masked_whiten(
        torch.nn.functional.pad(x, (0, 4), value=7.0), torch.nn.functional.pad(mask, (0, 4))
    )
    torch.testing.assert_close(wider[:, :6], white)


def test_whitening_without_shift_and_of_constants():
    x, mask = ragged(3, 4, 5)
    mean = masked_mean(x, mask)
    kept = masked_whiten(x, mask, shift_mean=False)
    torch.testing.assert_close(kept, (masked_whiten(x, mask) + mean) * mask)
    assert torch.equal(masked_whiten(torch.full((2, 3), 4.0), torch.ones(2, 3)), torch.zeros(2, 3))
    assert torch.equal(masked_whiten(x, torch.zeros_like(mask)), torch.zeros_like(x))


def test_whitening_equals_the_recording(shared):
    with np.load(shared / "golden/ppo.npz") as golden:
        x, recorded = (torch.from_numpy(golden[f"whiten_dist/{name}"]) for name in ("x0", "world1_rank0"))
        # The original's single-process path divides by n - 1; ours never does.
        for case in range(5):
            y = torch.from_numpy(golden[f"whiten/{case}/x"])
            for name, shift in (("out", True), ("out_noshift", False)):
                unbiased = torch.from_numpy(golden[f"whiten/{case}/{name}"])
                mean = 0 if shift else y.mean()
                scale = (y.numel() / (y.numel() - 1)) ** 0.5
                ours = (masked_whiten(y, torch.ones_like(y), shift_mean=shift) - mean) / scale + mean
                if y.std() > 1e-3:  # below that, 1e-8 inside the root is not small
                    torch.testing.assert_close(ours, unbiased, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(masked_whiten(x, torch.ones_like(x)), recorded, atol=1e-5, rtol=1e-5)


def _whiten_on_a_rank(rank: int, rendezvous: str, xs: list[torch.Tensor], folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    torch.save(masked_whiten(xs[rank], torch.ones_like(xs[rank])), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_whitening_over_two_processes_equals_the_recording(shared, tmp_path):
    with np.load(shared / "golden/ppo.npz") as golden:
        xs = [torch.from_numpy(golden[f"whiten_dist/x{rank}"]) for rank in (0, 1)]
        recorded = [torch.from_numpy(golden[f"whiten_dist/world2_rank{rank}"]) for rank in (0, 1)]
    arguments = (str(tmp_path / "rendezvous"), xs, str(tmp_path))
    torch.multiprocessing.spawn(_whiten_on_a_rank, arguments, nprocs=2)
    for rank in (0, 1):
        ours = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(ours, recorded[rank], atol=1e-5, rtol=1e-5)
