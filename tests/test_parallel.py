"""A batch split over threads gives the gradient of the whole batch; the same number of workers, the same bits."""
import contextlib
import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_lm as tg
from tinygrad_lm import backend, parallel
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
    draws = [m.drop.rng.random(4).tolist() for m in [model, *(r.model for r in parallel.replicas(model, opt, 2))]]
    assert len({tuple(d) for d in draws}) == 3


def test_replicas_share_weights_and_not_gradients():
    model, opt = tiny()
    replica = parallel.replicas(model, opt, 1)[0].model
    for p, q in zip(model.parameters(), replica.parameters()):
        assert q.data is p.data and q.grad_buffer is None
    model.eval()
    model.wte.weight.requires_grad = False
    replica = parallel.replicas(model, opt, 1)[0].model
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


# ---- unhappy paths --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [0, -2])
def test_no_workers_is_a_mistake(workers):
    model, opt = tiny()
    with pytest.raises(ValueError, match=f"workers={workers}: at least 1, or None"):
        train_step(model, opt, *batch(np.random.default_rng(0), 4), workers=workers)


def test_more_workers_than_rows_and_processors(monkeypatch):
    monkeypatch.setattr(parallel, "_usable", lambda: {0})
    parallel.pool.cache_clear()
    try:
        (one, w1), (many, w50) = train(1), train(50)
    finally:
        parallel.pool.cache_clear()
    np.testing.assert_allclose(many, one, rtol=1e-9)
    np.testing.assert_allclose(w50, w1, rtol=1e-6, atol=1e-9)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process's processors cannot be chosen here")
def test_one_processor_only():
    """Everything that train_step decides by itself, in a process that may use a single one."""
    code = """if True:
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import numpy as np, tinygrad_lm as tg
        from tinygrad_lm import parallel
        from tinygrad_lm.models import GPT, GPTConfig
        from tinygrad_lm.train import train_step
        parallel.SMALL = 0
        model = GPT(GPTConfig(11, 8, 1, 1, 8))
        opt, idx = tg.optim.AdamW(model.parameters()), np.zeros((3, 8), int)
        assert parallel.choose_workers(opt.flat.size, idx) == 1
        print(train_step(model, opt, idx, idx) > 0, train_step(model, opt, idx, idx, workers=3) > 0)"""
    assert run_python(code).split() == ["True", "True"]


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_threads_that_the_environment_gives_blas_come_back(threads):
    code = """if True:
        import numpy as np
        from threadpoolctl import threadpool_info
        from tinygrad_lm import parallel
        blas = lambda: [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
        before = blas()
        with parallel.one_blas_thread():
            inside = blas()
        assert blas() == before and set(inside) <= {1}, (before, inside, blas())"""
    run_python(code, OPENBLAS_NUM_THREADS=threads)


def test_a_blas_that_threadpoolctl_does_not_know(monkeypatch):
    from threadpoolctl import ThreadpoolController
    monkeypatch.setattr(parallel, "_blas", lambda: ThreadpoolController().select(user_api="unheard of").lib_controllers)
    (one, _), (three, _) = train(1), train(3)
    np.testing.assert_allclose(three, one, rtol=1e-9)


def test_blas_has_its_threads_back_when_blocks_of_two_threads_overlap():
    from threadpoolctl import threadpool_info
    before = [lib["num_threads"] for lib in threadpool_info()]
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    with ThreadPoolExecutor(1) as other:
        first.enter_context(parallel.one_blas_thread())
        other.submit(second.enter_context, parallel.one_blas_thread()).result()
        first.close()
        assert all(lib["num_threads"] == 1 for lib in threadpool_info() if lib["user_api"] == "blas")
        other.submit(second.close).result()
    assert [lib["num_threads"] for lib in threadpool_info()] == before


def test_two_trainings_at_once():
    """From two threads, each with workers: the same bits as one after the other."""
    alone = train(3)
    with ThreadPoolExecutor(2) as callers:
        for losses, weights in [c.result() for c in [callers.submit(train, 3) for _ in range(4)]]:
            assert losses == alone[0] and weights.tobytes() == alone[1].tobytes()


def loss_in_child(queue):
    queue.put(train(2)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_workers_of_its_own():
    losses, _ = train(2)                                                         # this process's threads exist now
    fork = multiprocessing.get_context("fork")
    queue = fork.SimpleQueue()
    child = fork.Process(target=loss_in_child, args=(queue,), daemon=True)
    child.start()
    child.join(30)
    try:
        assert child.exitcode == 0 and queue.get() == losses
    finally:
        child.kill()


@pytest.fixture
def keep_memory_warm(monkeypatch):
    """The decision taken anew."""
    monkeypatch.delenv("TINYGRAD_LM_KEEP_MEMORY", raising=False)
    return backend.keep_memory_warm.__wrapped__


@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14", "emscripten"])
def test_other_systems_keep_their_memory_as_it_is(keep_memory_warm, monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", None)                                    # not even looked for
    assert keep_memory_warm() is False


@pytest.mark.parametrize("library", ["missing", "without mallopt"])
def test_linux_with_another_c_library(keep_memory_warm, monkeypatch, library):
    def load(name):
        if library == "missing":
            raise OSError(f"{name}: cannot open shared object file")
        return object()

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", load)
    assert keep_memory_warm() is False


def test_memory_is_not_kept_where_the_environment_says_so(keep_memory_warm, monkeypatch):
    monkeypatch.setenv("TINYGRAD_LM_KEEP_MEMORY", "0")
    monkeypatch.setattr(ctypes, "CDLL", None)
    assert keep_memory_warm() is False


def test_training_is_the_same_whether_memory_is_kept_or_not():
    code = """if True:
        from tests.test_parallel import train
        from tinygrad_lm import backend
        losses, weights = train(2)
        print(backend.keep_memory_warm(), hash((tuple(losses), weights.tobytes())))"""
    environments = [dict(TINYGRAD_LM_KEEP_MEMORY=keep, PYTHONHASHSEED="0") for keep in "01"]
    (off, bits), (_, bits_kept) = [run_python(code, **e).split() for e in environments]
    assert off == "False" and bits == bits_kept


def run_python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@given(st.integers(0, 7), st.integers(1, 5))
def test_items_are_shared_out_once_each_and_in_order(n, workers):
    seen = []
    assert parallel.share_out(lambda a, b: seen.append(a) or (a, b), [(i, -i) for i in range(n)], workers) == \
        [(i, -i) for i in range(n)]
    assert sorted(seen) == list(range(n))
