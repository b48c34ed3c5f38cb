"""The captured step: recorded once, replayed with other batches and rates, it is train_step; and where it cannot be, it says
so and is train_step all the same. Over the strict stand-in, whose streams record operations instead of doing them, and whose
kernels run on the emulator."""
import warnings

import numpy as np
import pytest

from tinygrad_lm import Tensor, emulator, graph, nn
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.optim import SGD, AdamW
from tinygrad_lm.train import captured_step, train_step

from .strict_cupy import strict_cupy
from .test_device import CONFIG, batch

pytestmark = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")


@pytest.fixture
def cupy():
    with strict_cupy() as module:
        yield module


def made(device="cuda", optimizer=AdamW, dtype=np.float32, **config):
    model = GPT(GPTConfig(**{**vars(CONFIG), **config})).to(dtype).to(device)
    return model, optimizer(model.parameters(), lr=1e-2)


def steps(step, opt, n=6, **shape):
    losses = []
    for i in range(n):
        opt.lr = 1e-2 / (1 + i)                                            # a schedule, which no recording may freeze
        losses.append(step(*batch(i, **shape)))
    return losses


def plain(model, opt):
    return lambda idx, targets: train_step(model, opt, idx, targets, max_norm=0.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_replayed_step_is_the_plain_one(cupy, dtype):
    model, opt = made(dtype=dtype)
    expected = steps(plain(model, opt), opt)
    captured, own = made(dtype=dtype)
    launches = cupy.launches
    losses = steps(captured_step(captured, own, max_norm=0.5), own)
    assert cupy.launches - launches == 4                                   # two plain, then replayed
    assert losses == expected and own.step_count == 6
    assert same_state(own, opt)                                            # the same kernels: the same bits
    there, optimizer = made("cpu", dtype=dtype)
    np.testing.assert_allclose(losses, steps(plain(there, optimizer), optimizer), rtol=1e-5 if dtype is np.float32 else 2e-3)


def same_state(opt, other):
    return opt.step_count == other.step_count and all(
        np.array_equal(getattr(opt, name).get(), getattr(other, name).get()) for name in ("home", "flat", "m", "v"))


@pytest.mark.parametrize("dtype, asked", [(np.float32, 2), (np.float16, 3)])
def test_the_host_waits_once_a_step(cupy, dtype, asked):
    """Plainly for the loss, the norm and, in float16, whether a gradient overflowed; once where the step is replayed."""
    model, opt = made(dtype=dtype)
    for step, times in ((captured_step(model, opt), 1), (plain(model, opt), asked)):
        steps(step, opt, 3)
        before = cupy.synchronisations
        step(*batch(9))
        assert cupy.synchronisations - before == times


def test_another_shape_is_launched_plainly(cupy):
    (model, opt), (other, own) = made(), made()
    step, launches = captured_step(model, opt, max_norm=0.5), cupy.launches
    for shape in [{}, {}, {}, dict(B=2), dict(T=5), {}]:
        assert step(*batch(**shape)) == plain(other, own)(*batch(**shape))
    assert cupy.launches - launches == 2


@pytest.mark.parametrize("case", [dict(device="cpu"), dict(dropout=0.1), dict(optimizer=lambda p, lr: SGD(p, lr)),
                                  dict(dtype=np.float64)])
def test_what_cannot_be_replayed_is_launched_plainly(cupy, case):
    (model, opt), (other, own) = made(**case), made(**case)
    launches = cupy.launches
    assert steps(captured_step(model, opt, max_norm=0.5), opt) == steps(plain(other, own), own)
    assert cupy.launches == launches


class ReadsItsLoss(GPT):
    def loss(self, idx, targets, **options):
        loss = super().loss(idx, targets, **options)
        return loss * (2 if float(loss.data) > 0 else 1)


def test_a_step_that_reads_a_value_is_not_recorded(cupy):
    """float(x), hidden in a model: the recording fails, the warning says why, and training goes on plainly."""
    model = ReadsItsLoss(CONFIG).to("cuda")
    opt = AdamW(model.parameters(), lr=1e-2)
    step = captured_step(model, opt)
    with pytest.warns(UserWarning, match="launched plainly.*value was read"):
        losses = steps(step, opt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert step(*batch(0)) < losses[0]
    assert opt.step_count == 7


def test_an_overflow_of_float16_is_treated_as_the_plain_step_treats_it(cupy):
    """The step is left out and the scale halved; a new scale needs no new recording."""
    (model, opt), (other, own) = made(dtype=np.float16), made(dtype=np.float16)
    step, launches = captured_step(model, opt, max_norm=0.5), cupy.launches
    scales = []
    for i in range(10):
        if i == 4:
            opt.scaler.scale = own.scaler.scale = 2.0 ** 21
        assert step(*batch(i)) == plain(other, own)(*batch(i))
        assert same_state(opt, own) and vars(opt.scaler) == vars(own.scaler)
        scales.append(opt.scaler.scale)
    assert cupy.launches - launches == 8 and scales[4] == 2.0 ** 20 and opt.step_count < 10


class Touchy(GPT):
    """Its gradient is infinite where `root` is 0, and its loss, but not its gradient, where `extra` is infinite."""

    def __init__(self, config):
        super().__init__(config)
        self.root = nn.Parameter(np.ones(1, np.float32))
        self.extra = nn.Parameter(np.ones(1, np.float32), requires_grad=False)

    def loss(self, idx, targets, **options):
        return super().loss(idx, targets, **options) + (self.root.sqrt() + self.extra).sum()


def touchy():
    model = Touchy(CONFIG).to("cuda")
    return model, AdamW(model.parameters(), lr=1e-2)


def spoil(model, what):
    if what == "weight":
        model.wte.weight.data[...] = np.inf
    elif what == "gradient":
        model.root.data[...] = 0
    else:
        model.extra.data[...] = np.inf


@pytest.mark.parametrize("what", ["weight", "gradient", "loss"])
def test_a_step_that_is_not_finite_moves_nothing_and_raises_what_train_step_raises(cupy, what):
    (model, opt), (other, own) = touchy(), touchy()
    step = captured_step(model, opt, max_norm=0.5)
    steps(step, opt, 4)
    steps(plain(other, own), own, 4)
    spoil(model, what), spoil(other, what)
    before = [a.get() for a in (opt.flat, opt.m, opt.v)]
    with pytest.raises(FloatingPointError) as ours:
        step(*batch())
    with pytest.raises(FloatingPointError) as theirs:
        plain(other, own)(*batch())
    assert str(ours.value) == str(theirs.value) and opt.step_count == 4
    for a, b in zip((opt.flat, opt.m, opt.v), before):
        np.testing.assert_array_equal(a.get(), b)


def test_after_a_step_that_is_not_finite_training_goes_on(cupy):
    (model, opt), (other, own) = touchy(), touchy()
    step = captured_step(model, opt, max_norm=0.5)
    steps(step, opt, 4)
    steps(plain(other, own), own, 4)
    spoil(model, "loss")
    with pytest.raises(FloatingPointError, match="loss is inf at step 5"):
        step(*batch())
    model.extra.data[...] = 1
    for shape in [{}, dict(B=2), {}]:                                      # replayed, plainly, and replayed
        assert step(*batch(**shape)) == plain(other, own)(*batch(**shape))


def test_ids_are_checked_before_they_are_sent(cupy):
    model, opt = made()
    step = captured_step(model, opt)
    steps(step, opt, 3)
    idx, targets = batch()
    with pytest.raises(IndexError, match="token id 11"):
        step(idx + 11 - idx, targets)
    with pytest.raises(ValueError, match="no target"):
        step(idx, np.full_like(targets, -100))


def test_a_recording_is_not_done_until_it_is_called(cupy):
    x = nn.Parameter(np.ones(3), device="cuda")
    recording = graph.Recording(lambda: (Tensor(x.data) * 2).data)
    assert x.data.tolist() == [1, 1, 1]
    x.data[...] = 5
    assert recording().tolist() == [10, 10, 10]
