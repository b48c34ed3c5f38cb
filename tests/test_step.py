"""One training step: it descends, clips, and refuses a loss that is not a number before anything has moved."""
import numpy as np
import pytest

import tinygrad_lm as tg
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.train import train_step


@pytest.fixture
def setting():
    model = GPT(GPTConfig(7, 6, 1, 1, 8))
    rng = np.random.default_rng(0)
    return model, tg.optim.AdamW(model.parameters(), lr=1e-2), rng.integers(0, 7, (3, 6)), rng.integers(0, 7, (3, 6))


def test_the_loss_of_one_repeated_batch_falls(setting):
    losses = [train_step(*setting) for _ in range(40)]
    assert isinstance(losses[0], float) and losses[-1] < 0.5 * losses[0]


def test_the_gradient_is_clipped(setting):
    model, opt, idx, targets = setting
    train_step(model, opt, idx, targets, max_norm=1e-3)
    assert np.sqrt(sum((p.grad ** 2).sum() for p in model.parameters())) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
def test_nan_in_the_loss_names_the_step_and_moves_nothing(setting, workers):
    model, opt, idx, targets = setting
    train_step(model, opt, idx, targets)
    model.ln_f.weight.data[2] = np.nan
    before = opt.flat.copy()
    with pytest.raises(FloatingPointError, match="loss is nan at step 2.*detect_anomaly"):
        train_step(model, opt, idx, targets, workers=workers)
    np.testing.assert_array_equal(opt.flat, before)


def test_a_sequence_longer_than_the_block(setting):
    model, opt, *_ = setting
    with pytest.raises(ValueError, match="9 tokens.*block_size is 6"):
        train_step(model, opt, np.zeros((1, 9), int), np.zeros((1, 9), int))
