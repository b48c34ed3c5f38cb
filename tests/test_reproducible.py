"""The same seed gives the same bits, in every stage and with every number of workers; another seed gives others."""
import numpy as np
import pytest

from tinygrad_lm import parallel
from tinygrad_lm.nn import Dropout
from tinygrad_lm.optim import AdamW

from .stages import STAGES, model, train


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("stage", STAGES)
def test_same_seed_same_bits(stage):
    (a, logged), (b, again), (c, other) = train(stage, seed=1), train(stage, seed=1), train(stage, seed=2)
    assert same(a, b) and logged == again
    assert not same(a, c) and logged != other


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_same_seed_same_bits_with_several_workers(monkeypatch, tmp_path, stage):
    """Dropout is on. What a run that was resumed draws is the same, too."""
    monkeypatch.setattr(parallel, "choose_workers", lambda model, idx: 3)
    (a, logged), (b, again) = train(stage, seed=1), train(stage, seed=1)
    assert same(a, b) and logged == again
    with monkeypatch.context() as m:
        step = AdamW.step
        m.setattr(AdamW, "step", lambda opt, **options: step(opt, **options) if opt.step_count < 8 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(stage, tmp_path, seed=1, save_every=3)
    c, resumed = train(stage, tmp_path, seed=1, save_every=3, resume=True)
    assert same(a, c) and logged == resumed


def test_no_two_layers_of_a_worker_drop_alike(monkeypatch):
    """The masks of all places and all workers are different draws."""
    m, masks, forward = model(), [], Dropout.forward

    def watched(self, x):
        y = forward(self, x)
        masks.append(tuple((y.data == 0).ravel()))
        return y
    monkeypatch.setattr(Dropout, "forward", watched)
    idx = np.full((3, 8), 2)
    parallel.backward(m, AdamW(m.parameters()), idx, idx, workers=3)
    assert len(masks) == 3 * 3 and len(set(masks)) == len(masks)
