"""A batch split over threads gives the gradient of the whole batch; the same number of workers, the same bits."""
import threading

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_lm as tg
from tinygrad_lm import parallel
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.train import train_step


def tiny(dropout=0.0, seed=0):
    model = GPT(GPTConfig(11, 8, 2, 2, 8, dropout), rng=np.random.default_rng(seed)).to(np.float64)
    return model, tg.optim.AdamW(model.parameters(), lr=1e-2)


def batch(rng, B, T=8):
    return rng.integers(0, 11, (B, T)), rng.integers(0, 11, (B, T))


@given(B=st.integers(1, 7), workers=st.integers(1, 9), ignored=st.floats(0, 0.95), seed=st.integers(0, 99))
def test_the_parts_sum_to_the_whole(B, workers, ignored, seed):
    """Also with more workers than rows, and rows in which no target counts."""
    rng = np.random.default_rng(seed)
    idx, targets = batch(rng, B)
    targets[rng.random(targets.shape) < ignored] = -100
    targets[0, 0] = 3
    (whole, _), (model, opt) = tiny(), tiny()
    loss = whole.loss(idx, targets)
    loss.backward()
    assert parallel.backward(model, opt, idx, targets, workers=workers) == pytest.approx(loss.item(), rel=1e-12)
    for (name, p), q in zip(whole.named_parameters(), model.parameters()):
        np.testing.assert_allclose(q.grad, p.grad, rtol=1e-9, atol=1e-13, err_msg=name)


def train(workers, dropout=0.0, steps=5):
    model, opt = tiny(dropout)
    rng = np.random.default_rng(1)
    losses = [train_step(model, opt, *batch(rng, 6), workers=workers) for _ in range(steps)]
    return losses, opt.flat.copy()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_workers_give_the_same_bits(dropout):
    (losses, weights), (again, weights_again) = train(3, dropout), train(3, dropout)
    assert losses == again and weights.tobytes() == weights_again.tobytes()


def test_training_with_workers_is_training_without():
    (one, w1), (three, w3) = train(1), train(3)
    np.testing.assert_allclose(three, one, rtol=1e-9)
    np.testing.assert_allclose(w3, w1, rtol=1e-6, atol=1e-9)


def test_workers_draw_different_dropout():
    model, opt = tiny(dropout=0.5)
    draws = [m.drop.rng.random(4).tolist() for m in [model, *parallel.replicas(model, opt, 2)]]
    assert len({tuple(d) for d in draws}) == 3


def test_replicas_share_weights_and_not_gradients():
    model, opt = tiny()
    replica, = parallel.replicas(model, opt, 1)
    for p, q in zip(model.parameters(), replica.parameters()):
        assert q.data is p.data and q.grad_buffer is None
    model.eval()
    model.wte.weight.requires_grad = False
    replica, = parallel.replicas(model, opt, 1)
    assert not replica.training and not replica.wte.weight.requires_grad and replica.wpe.weight.requires_grad


def test_an_error_in_a_worker_reaches_the_caller_and_nobody_writes_on():
    model, opt = tiny()
    idx, targets = batch(np.random.default_rng(0), 4)
    idx[3, 2] = 99                                          # in the last worker's part
    with pytest.raises(IndexError, match="99"):
        train_step(model, opt, idx, targets, workers=4)
    before = opt.flat.copy()
    idx[3, 2] = 1
    train_step(model, opt, idx, targets, workers=4)
    assert (opt.flat != before).any()


def test_ctrl_c_in_the_callers_part_waits_for_the_others(monkeypatch):
    model, opt = tiny()
    idx, targets = batch(np.random.default_rng(0), 4)
    plain, finished = GPT.loss, []

    def interrupted(self, *batch):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        loss = plain(self, *batch)
        finished.append(True)
        return loss

    monkeypatch.setattr(GPT, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_step(model, opt, idx, targets, workers=2)
    assert finished == [True]


def test_small_work_stays_on_one_thread_and_large_work_does_not(monkeypatch):
    monkeypatch.setattr(parallel, "processors", lambda: 4)
    small, _ = tiny()
    assert parallel.choose_workers(small.n_parameters(), np.zeros((4, 8), int)) == 1
    large = GPT(GPTConfig(65, 64, 4, 4, 128))
    assert parallel.choose_workers(large.n_parameters(), np.zeros((12, 64), int)) == 4
    assert parallel.choose_workers(large.n_parameters(), np.zeros((2, 600), int)) == 2
    monkeypatch.setattr(parallel, "processors", lambda: 1)
    assert parallel.choose_workers(large.n_parameters(), np.zeros((12, 64), int)) == 1


def test_anomalies_are_found_in_any_part():
    """detect_anomaly belongs to a thread, so the work stays on the one that asked for it."""
    model, opt = tiny()
    model.ln_f.weight.data[0] = np.inf
    with tg.detect_anomaly(), pytest.raises(FloatingPointError, match="layer_norm"):
        train_step(model, opt, *batch(np.random.default_rng(0), 4), workers=4)


def test_blas_has_its_threads_back_afterwards():
    from threadpoolctl import threadpool_info
    before = [lib["num_threads"] for lib in threadpool_info()]
    with parallel.one_blas_thread():
        assert all(lib["num_threads"] == 1 for lib in threadpool_info() if lib["user_api"] == "blas")
    assert [lib["num_threads"] for lib in threadpool_info()] == before
