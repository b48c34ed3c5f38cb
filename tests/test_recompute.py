"""Gradient checkpointing: the gradients are those without it, to the bit, and the memory is less."""
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import tinygrad_lm as tg
from tinygrad_lm import Tensor, functional as F, nn, parallel
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.optim import AdamW

from .checks import tensor


def mlp(rng, p=0.0, size=3):
    """A module with a layer that it uses twice, and dropout."""
    class Twice(nn.Module):
        def __init__(self):
            self.layer, self.norm = nn.Linear(size, size, rng=rng), nn.LayerNorm(size)
            self.drop = nn.Dropout(p, rng=rng)

        def forward(self, x, shift=0.0):
            return x + self.drop(self.layer(F.tanh(self.layer(self.norm(x))))) + shift

    return Twice().to(np.float64)


def plainly(f, *inputs, rngs=None):
    return f(*inputs)


def seen(build, leaves):
    """(value, gradients of the leaves) to the byte; `build` makes the value, and draws what it draws."""
    for p in leaves:
        p.grad = None
    y = build()
    y.backward(np.random.default_rng(5).standard_normal(y.shape))
    return y.numpy().tobytes(), [None if p.grad is None else p.grad.tobytes() for p in leaves]


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("frozen_input", [False, True])
def test_gradients_of_modules_to_the_bit(p, nested, frozen_input):
    """A layer used twice in a block and a block used twice in the graph; dropout draws the same both times and goes on after
    backward as it would have; an input without gradient stays without."""
    def run(around):
        rng = np.random.default_rng(0)
        blocks = [mlp(rng, p) for _ in range(3)]
        x = Tensor(rng.standard_normal((4, 3)), not frozen_input)

        def step():
            y = x
            for block in [*blocks, blocks[0]]:
                if nested:
                    y = around(lambda y, b: around(b, y) * 2, y, block, rngs=[rng])
                else:
                    y = around(block, y)
            return y
        leaves = [x, *(q for b in blocks for q in b.parameters())]
        return [seen(step, leaves) for _ in range(2)], rng.random()

    assert run(F.checkpoint) == run(plainly)


@given(st.sampled_from([{}, dict(position="rotary", norm="rms", bias=False, gated=True, activation="silu")]),
       st.sampled_from([0.0, 0.3]), st.integers(1, 3), st.booleans(), st.integers(0, 99))
@settings(max_examples=15)
def test_a_gpt_with_and_without_to_the_bit(shape, dropout, workers, masked, seed):
    """Also on several threads; and with a mask."""
    results = []
    for checkpointed in False, True:
        rng = np.random.default_rng(seed)
        model = GPT(GPTConfig(11, 8, 2, 2, 8, dropout, **shape), rng=rng).to(np.float64)
        model.checkpoint_blocks = checkpointed
        opt = AdamW(model.parameters(), lr=1e-2)
        idx, targets = rng.integers(0, 11, (2, 3, 8))
        if masked:
            loss = model.loss(idx, targets, mask=np.arange(8) >= rng.integers(0, 5, (3, 1)))
            loss.backward()
            results.append((loss.item(), [p.grad.tobytes() for p in model.parameters()]))
        else:
            results.append((parallel.backward(model, opt, idx, targets, workers=workers), opt.flat_grad.tobytes()))
    assert results[0] == results[1]


def test_only_what_is_reached_gets_a_gradient():
    x, unused, whole = tensor(np.ones(2)), tensor(np.ones(2)), tensor(np.arange(2), False)
    weight = tensor(np.full(2, 3.0))
    F.checkpoint(lambda a, b, i: a * weight * i, x, unused, whole).sum().backward()
    assert unused.grad is None and x.grad.tolist() == [0, 3] and weight.grad.tolist() == [0, 1]
    y = F.checkpoint(lambda a: a * 2, tensor(np.ones(2), False))
    assert not y.requires_grad and y.node is None
    same = F.checkpoint(lambda a: a, x)
    same.sum().backward()
    assert x.grad.tolist() == [1, 4]


def test_no_grad_and_backward_under_it():
    calls, x = [], tensor(np.ones(2))

    def f(x):
        calls.append(1)
        return x * x

    with tg.no_grad():
        assert not F.checkpoint(f, x).requires_grad
    assert len(calls) == 1
    y = F.checkpoint(f, x).sum()
    with tg.no_grad():
        y.backward()
        assert not (x * 2).requires_grad
    assert len(calls) == 3 and x.grad.tolist() == [2, 2]


def test_retain_graph():
    x = tensor(np.ones(2))
    y = F.checkpoint(lambda x: x * x, x)
    y.backward(np.ones(2), retain_graph=True)
    y.backward(np.ones(2))
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="a second time through `checkpoint`"):
        y.backward(np.ones(2))


def test_threads_do_not_see_each_others_checkpoints():
    """While one thread is inside a checkpoint, another draws from its own generator."""
    inside, done, drawn = threading.Event(), threading.Event(), []

    def f(x):
        inside.set()
        done.wait(5)
        return x * 2

    thread = threading.Thread(target=lambda: F.checkpoint(f, Tensor(np.ones(2), True)))
    thread.start()
    inside.wait(5)
    drawn.append(F.dropout(np.ones(2), 0.5, rng=np.random.default_rng(0)))
    done.set()
    thread.join()
    assert len(drawn) == 1


# ---- what is refused -------------------------------------------------------------------------------------------------

def test_a_generator_that_would_not_be_set_back():
    x, rng = tensor(np.ones(4)), np.random.default_rng(0)
    with pytest.raises(RuntimeError, match=r"rngs=\[rng\]"):
        F.checkpoint(lambda x: F.dropout(x, 0.5, rng=rng), x)
    with pytest.raises(RuntimeError, match=r"rngs=\[rng\]"):
        F.checkpoint(lambda x: F.checkpoint(lambda x: F.dropout(x, 0.5, rng=rng), x, rngs=[rng]), x)
    F.dropout(x, 0.5, rng=rng)


def test_a_result_that_comes_in_by_the_back_door():
    x = tensor(np.ones(2))
    outside = F.exp(x)
    with pytest.raises(RuntimeError, match=r"uses the result of `exp`, of shape \(2,\).*give it as an input"):
        F.checkpoint(lambda x: x * outside, x)
    F.checkpoint(lambda x, y: x * y, x, outside).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.e)


def test_a_second_run_of_another_shape():
    x, pieces = tensor(np.ones(3)), [3, 2]
    y = F.checkpoint(lambda x: x[:pieces.pop(0)] * 2, x)
    with pytest.raises(RuntimeError, match=r"gave shape \(3,\) and float64 the first time, and \(2,\)"):
        y.sum().backward()


def test_a_function_of_several_results():
    with pytest.raises(TypeError, match="returns one tensor, not tuple: join several"):
        F.checkpoint(lambda x: (x, x), tensor(np.ones(2)))


# ---- memory ----------------------------------------------------------------------------------------------------------

def peak(model, idx):
    """Bytes at the highest point of a forward and backward, above what was there before."""
    for p in model.parameters():
        p.grad = np.zeros_like(p.data)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    model.loss(idx, idx).backward()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest - before


def test_less_than_a_third_of_the_memory():
    """Sixteen blocks keep their inputs alone, and one block at a time all the rest."""
    model = GPT(GPTConfig(11, 64, n_layer=16, n_head=2, n_embd=32))
    idx = np.random.default_rng(0).integers(0, 11, (2, 64))
    with parallel.one_blas_thread():
        model.loss(idx, idx).backward()                                  # whatever is made once
        plain = peak(model, idx)
        model.checkpoint_blocks = True
        assert peak(model, idx) < plain / 3
