"""A model in float16 trains nearly as one in float32: master weights in float32, and a loss scaled as far as it goes."""
import numpy as np
import pytest

import tinygrad_lm as tg
from tinygrad_lm.checkpoint import load, pack, save, unpack
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.optim import LossScaler
from tinygrad_lm.train import train_step
from tinygrad_lm.train.step import descend

OPTIMIZERS = {"adamw": lambda params: tg.optim.AdamW(params, lr=1e-2),
              "sgd": lambda params: tg.optim.SGD(params, lr=0.3, momentum=0.5)}


def setting(dtype, optimizer="adamw", seed=0):
    model = GPT(GPTConfig(7, 6, 1, 2, 16)).to(dtype)
    rng = np.random.default_rng(seed)
    return model, OPTIMIZERS[optimizer](model.parameters()), rng.integers(0, 7, (4, 6)), rng.integers(0, 7, (4, 6))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("workers", [1, 2])
def test_float16_reaches_the_loss_of_float32(optimizer, workers):
    ends = {}
    for dtype in (np.float32, np.float16):
        step = setting(dtype, optimizer)
        ends[dtype] = [train_step(*step, workers=workers) for _ in range(60)]
    assert ends[np.float16][0] == pytest.approx(ends[np.float32][0], rel=2e-3)
    assert ends[np.float32][-1] < 0.7 * ends[np.float32][0]
    assert ends[np.float16][-1] == pytest.approx(ends[np.float32][-1], rel=0.1)


def test_parameters_are_the_rounded_master_weights():
    model, opt, *batch = setting(np.float16)
    for _ in range(3):
        train_step(model, opt, *batch)
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float16)} and opt.flat.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([p.data.reshape(-1) for p in opt.params]), opt.flat.astype(np.float16))


def test_master_weights_take_steps_that_float16_would_round_away():
    p = tg.nn.Parameter(np.ones(1, np.float16))
    opt = tg.optim.SGD([p], lr=1.0)
    for _ in range(10):
        p.grad = np.full(1, 1e-4 * opt.loss_scale, np.float16)              # float16 knows nothing between 1 and 0.9995
        assert opt.unscale()
        opt.step()
    assert opt.flat[0] == pytest.approx(0.999, abs=1e-6) and p.data[0] == np.float16(0.999)


def test_a_gradient_too_small_for_float16_arrives():
    x = tg.Tensor(np.full(1, 2.0 ** -13, np.float16))
    p = tg.nn.Parameter(np.ones(1, np.float16))
    opt = tg.optim.SGD([p], lr=1.0)
    opt.scaler.scale = 2.0 ** 12
    loss = (p * x * 2.0 ** -13).sum()                                       # its gradient is 2⁻²⁶: 0 in float16
    assert descend(loss, opt, max_norm=1.0) == 2.0 ** -26
    assert opt.flat_grad[0] == 2.0 ** -26


def test_an_overflow_leaves_out_the_step_and_halves_the_scale():
    model, opt, *batch = setting(np.float16)
    train_step(model, opt, *batch)
    opt.scaler.scale = 2.0 ** 23
    before, state = opt.flat.copy(), [a.copy() for a in (opt.home, opt.m, opt.v)]
    train_step(model, opt, *batch)
    assert opt.scaler.scale == 2.0 ** 22 and opt.step_count == 1
    for a, b in zip((opt.flat, opt.home, opt.m, opt.v), (before, *state)):
        np.testing.assert_array_equal(a, b)
    while opt.step_count == 1:
        train_step(model, opt, *batch)
    assert (opt.flat != before).any()


def test_the_scale_grows_after_good_steps_in_a_row_alone():
    scaler, scales = LossScaler(8.0, growth=3), []
    for good in (1, 1, 0, 1, 1, 1, 1, 1, 0):
        scaler.update(bool(good))
        scales.append(scaler.scale)
    assert scales == [8, 8, 4, 4, 4, 8, 8, 8, 4]


def test_the_scale_has_ends():
    scaler = LossScaler(2.0, growth=1, most=4.0, least=1.0)
    for _ in range(3):
        scaler.update(True)
    assert scaler.scale == 4
    with pytest.raises(FloatingPointError, match="overflows float16 even.*1.0.*train in float32"):
        for _ in range(3):
            scaler.update(False)


def test_the_gradients_norm_is_that_of_the_unscaled():
    (m16, o16, *batch), (m32, o32, *_) = setting(np.float16), setting(np.float32)
    norms = [descend(m.loss(*batch), o, 1.0) for m, o in ((m16, o16), (m32, o32))]
    assert norms[0] == pytest.approx(norms[1], rel=0.01)


def test_a_checkpoint_carries_scale_and_master_weights(tmp_path):
    def steps(model, opt, batch, n):
        return [train_step(model, opt, *batch) for _ in range(n)]

    model, opt, *batch = setting(np.float16)
    opt.scaler.growth = 5
    steps(model, opt, batch, 7)
    save(tmp_path / "x.safetensors", *pack({"model": model, "opt": opt}))
    then = steps(model, opt, batch, 8), opt.flat.copy(), opt.scaler.scale, opt.scaler.good

    model, opt, *_ = setting(np.float16)
    opt.scaler.growth = 5
    tensors, generators = load(tmp_path / "x.safetensors")
    unpack({"model": model, "opt": opt}, tensors, generators)
    assert (steps(model, opt, batch, 8), opt.scaler.scale, opt.scaler.good) == (then[0], *then[2:])
    np.testing.assert_array_equal(opt.flat, then[1])


def test_a_checkpoint_in_float32_is_refused_by_its_missing_master_weights():
    (_, o16, *_), (_, o32, *_) = setting(np.float16), setting(np.float32)
    with pytest.raises(ValueError, match="no `flat`"):
        o16.load_state_dict(o32.state_dict())


def test_other_types_are_not_scaled():
    for dtype in (np.float32, np.float64):
        _, opt, *_ = setting(dtype)
        assert opt.scaler is None and opt.loss_scale == 1 and opt.home is opt.flat and opt.home_grad is opt.flat_grad
        assert sorted(opt.state_dict()) == ["m", "step_count", "v"]


def test_the_loss_of_float16_logits_is_float32():
    logits = tg.Tensor(np.zeros((3, 5), np.float16), True)
    loss = tg.functional.cross_entropy(logits, np.array([0, 4, -100]))
    loss.backward()
    assert loss.dtype == np.float32 and logits.grad.dtype == np.float16
    assert loss.item() == pytest.approx(np.log(5), rel=1e-6)
