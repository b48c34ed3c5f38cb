"""backward() walks any graph right: shared, deep, freed, repeated; keeps no more memory than it must, and aliases none."""
import functools
import gc
import threading
import tracemalloc
import weakref
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_lm as tg
from tinygrad_lm import Tensor, functional as F, gradcheck, nn
from tinygrad_lm.tensor import Node, _receive, op, unbroadcast

from .strategies import array, broadcastable, uniform


def leaf(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), True)


def counting(calls):
    """The identity, whose backward writes down what was asked of it."""
    def backward(dy, saved, needs):
        calls.append(needs)
        return tuple(dy if n else None for n in needs)
    return op(lambda *xs: (sum(xs), ()), backward)


# ---- the shape of the graph -----------------------------------------------------------------------------------------

def test_an_operand_twice():
    x = leaf(3)
    assert gradcheck(lambda x: x * x, x) and gradcheck(lambda x: x @ x + x / x, x)
    (x + x).backward(np.ones(3))
    assert x.grad.tolist() == [2, 2, 2]


def test_diamonds():
    def diamonds(x):
        for _ in range(30):
            x = x * 0.4 + F.sin(x) * 0.6                     # 2³⁰ paths, 90 operations
        return x
    assert gradcheck(diamonds, leaf(4))


def test_a_gradient_that_two_nodes_hold_is_not_added_to_in_place():
    """c = a + b; out = 5a + c: two well-known engines give b the gradient 6."""
    for first in range(2):
        a, b = leaf(3), leaf(3)
        x = a * 1
        c = x + b
        out = x * 5 + c if first else c + x * 5
        out.backward(np.ones(3))
        assert a.grad.tolist() == [6, 6, 6] and b.grad.tolist() == [1, 1, 1]


@given(st.integers(0, 2**32 - 1))
def test_random_graphs(seed):
    """Twenty operations on whatever came before, of shapes that broadcast."""
    def build(*leaves):
        rng, made = np.random.default_rng(seed), list(leaves)
        for _ in range(20):
            a, b = (made[i] for i in rng.integers(0, len(made), 2))
            made.append([lambda: (a + b) / 2, lambda: F.sin(a) * b, lambda: (a - b) * 0.5, lambda: F.tanh(a),
                         lambda: F.mean(a, axis=-1, keepdims=True), lambda: F.where(np.array([[True], [False]]), a, b),
                         lambda: F.concat([a * b, b * a])[:1]][rng.integers(7)]())
        return sum(F.sum(t) for t in made)
    assert gradcheck(build, leaf(2, 1, seed=seed), leaf(1, 2, seed=seed + 1), leaf(2, seed=seed + 2))


def test_a_layer_used_several_times_in_one_graph():
    rng = np.random.default_rng(0)
    layer, norm = nn.Linear(3, 3, rng=rng).to("f8"), nn.LayerNorm(3).to("f8")
    gradcheck(lambda x, *_: layer(norm(layer(norm(x)))) + layer(x[::-1]), leaf(2, 3), *layer.parameters(), *norm.parameters())


def test_weights_shared_between_layers():
    rng = np.random.default_rng(0)
    table, head = nn.Embedding(5, 3, rng=rng).to("f8"), nn.Linear(3, 5, bias=False, rng=rng)
    head.weight = table.weight
    gradcheck(lambda w: head(table(np.array([0, 3, 3]))), table.weight)


def test_a_chain_of_100_000_operations():
    """Built, walked, freed: by backward, and by reference counting where backward never came."""
    for walk in True, False:
        x = leaf(1)
        y = x
        for _ in range(100_000):
            y = y + 1e-5
        if walk:
            y.backward()
            assert x.grad.tolist() == [1]
        made = weakref.ref(y)
        del y
        assert made() is None


# ---- what goes in and what comes out --------------------------------------------------------------------------------

def test_gradients_add_up_over_calls():
    x = leaf(2)
    for n in 1, 2, 3:
        (x * 2).sum().backward()
        assert x.grad.tolist() == [2 * n, 2 * n]


@given(array(values=uniform()), st.integers(0, 2**32 - 1))
def test_seed_gradients(x, seed):
    """backward(seed) is the gradient of Σ seed · y; an array, a tensor or a list; never changed."""
    dy = np.random.default_rng(seed).standard_normal(x.shape)
    kept = dy.copy()
    for given_as in dy, Tensor(dy), dy.tolist(), dy.astype(np.float32).astype(np.float64):
        t = Tensor(x, True)
        F.sin(t).backward(given_as)
        np.testing.assert_allclose(t.grad, np.cos(x) * dy, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(dy, kept)


def test_backward_of_a_leaf():
    x = Tensor(3.0, True)
    x.backward()
    x.backward(4)
    assert x.grad == 5 and x.grad.shape == ()


@given(broadcastable(uniform(), uniform(), sizes=(0, 1, 2, 3)))
def test_unbroadcast_is_the_transpose_of_broadcasting(drawn):
    """⟨broadcast x, g⟩ = ⟨x, unbroadcast g⟩"""
    x, other = drawn
    g = x * 0 + other
    back = unbroadcast(g, x.shape)
    assert back.shape == x.shape
    np.testing.assert_allclose((np.broadcast_to(x, g.shape) * g).sum(), (x * back).sum(), atol=1e-12)


def test_receive_owns_its_memory():
    x, g = leaf(2), np.ones(2)
    _receive(x, g)
    _receive(x, g)
    assert x.grad.tolist() == [2, 2] and g.tolist() == [1, 1]
    x.grad, x.grad_buffer = None, np.zeros(2)
    _receive(x, g)
    assert x.grad is x.grad_buffer and x.grad.tolist() == [1, 1]
    _receive(x, g)
    assert x.grad is x.grad_buffer and x.grad.tolist() == [2, 2]


def test_gradients_have_their_leafs_type():
    x, w = leaf(2, 3, dtype=np.float32), leaf(3, dtype=np.float64)
    (x * w).sum().backward()
    assert x.grad.dtype == np.float32 and w.grad.dtype == np.float64 and w.grad.shape == (3,)
    for g in x.grad, w.grad:
        assert type(g) is np.ndarray


def test_an_array_times_a_tensor_is_a_tensor():
    a, t = np.arange(6.0).reshape(2, 3), leaf(2, 3)
    for y in (a * t, a + t, a - t, a / t, a ** t, a @ t.T, np.float64(2) * t, np.float32(2) - t):
        assert isinstance(y, Tensor) and y.requires_grad
    assert (a < t).dtype == bool


def test_detach():
    x = leaf(2)
    y = (x * x).detach()
    assert not y.requires_grad and y.node is None
    (x * y).sum().backward()
    np.testing.assert_allclose(x.grad, x.data ** 2)
    assert x.detach().data is x.data


# ---- the graph's end ------------------------------------------------------------------------------------------------

def test_a_graph_is_freed_by_backward():
    x = leaf(2)
    y = F.sin(x * 2)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time through `sin`.*retain_graph=True"):
        y.sum().backward()


def test_retain_graph():
    x = leaf(2)
    y = F.sin(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad, 2 * np.cos(x.data))
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


# ---- only what is asked for -----------------------------------------------------------------------------------------

def test_frozen_inputs_get_no_gradient_computed():
    calls = []
    identity = counting(calls)
    x, frozen = leaf(2), Tensor(np.ones(2))
    identity(frozen, x, frozen * 3, 1.0).sum().backward()
    assert calls == [(False, True, False, False)] and frozen.grad is None
    y = identity(frozen, frozen)
    assert y.node is None and not y.requires_grad


def test_each_node_is_asked_once():
    calls = []
    identity, x = counting(calls), leaf(2)
    y = identity(x)
    (y * y + F.sin(y) + y).sum().backward()
    assert len(calls) == 1


def test_no_grad():
    x = leaf(2)
    with tg.no_grad():
        with tg.no_grad():
            assert (x * 2).node is None
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_belongs_to_a_thread():
    x, seen, inside, done = leaf(2), [], threading.Event(), threading.Event()

    def work():
        with tg.no_grad():
            inside.set()
            done.wait(5)
            seen.append((x * 2).requires_grad)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    seen.append((x * 2).requires_grad)
    done.set()
    thread.join()
    assert seen == [True, False]


def generator(x):
    with tg.no_grad():
        yield (x * 2).requires_grad
        yield (x * 2).requires_grad
    yield (x * 2).requires_grad


def generator_with_exit_stack(x):
    with ExitStack() as stack:
        stack.enter_context(tg.no_grad())
        yield (x * 2).requires_grad
        yield (x * 2).requires_grad
    yield (x * 2).requires_grad


def delegating_generator(x):
    yield from generator(x)


@pytest.mark.parametrize("make", [generator, generator_with_exit_stack, delegating_generator])
def test_no_grad_does_not_leak_out_of_a_generator(make):
    x, inside = leaf(2), make(leaf(2))
    for expected in False, False, True:
        assert next(inside) is expected
        assert (x * 2).requires_grad
    abandoned = make(x)
    next(abandoned)
    with tg.no_grad():
        assert not (x * 2).requires_grad
        next(abandoned)
    del abandoned
    assert (x * 2).requires_grad


def test_no_grad_does_not_leak_out_of_a_coroutine():
    async def coroutine():
        with tg.no_grad():
            await pause()
            return (x * 2).requires_grad

    async def asynchronous_generator():
        with tg.no_grad():
            yield (x * 2).requires_grad

    class pause:
        def __await__(self):
            yield

    x, running, steps = leaf(2), coroutine(), asynchronous_generator()
    running.send(None)
    assert (x * 2).requires_grad
    with pytest.raises(StopIteration) as result:
        running.send(None)
    assert result.value.value is False
    with pytest.raises(StopIteration) as result:
        steps.__anext__().send(None)
    assert result.value.value is False and (x * 2).requires_grad


def test_detect_anomaly_names_the_first_operation():
    x = Tensor(np.array([0.0, 1.0]), True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"`log` produced NaN or infinity \(shape \(2,\)\)"):
            F.exp(F.log(x))
        y = F.sqrt(x).sum()
        with pytest.raises(FloatingPointError, match="backward of `sqrt` produced"):
            y.backward()
    with np.errstate(all="ignore"):
        assert F.log(x).data[0] == -np.inf                  # without it, NumPy's own behaviour


# ---- memory ---------------------------------------------------------------------------------------------------------

def without_collector(test):
    """Reference counting has to do it alone."""
    @functools.wraps(test)
    def run():
        gc.collect()
        gc.disable()
        try:
            test()
        finally:
            gc.enable()
    return run


@without_collector
def test_reference_counting_alone_frees_a_graph():
    x = leaf(5)
    h = F.sin(x)
    y = (h * h + F.softmax(h)).sum()
    refs = [weakref.ref(h), weakref.ref(y)]
    saved = weakref.ref(y.node.inputs[0].inputs[1].saved[0])               # softmax's own array
    assert saved() is not None
    del h, y
    assert [r() for r in refs] == [None, None] and saved() is None


def test_memory_falls_while_backward_runs():
    """When a node is reached, what the nodes above it saved is gone already."""
    alive, x = [], leaf(10)
    arrays = []

    def backward(dy, saved):
        alive.append(sum(r() is not None for r in arrays))
        return dy * saved[0],

    def forward(x):
        kept = np.ones(10)
        arrays.append(weakref.ref(kept))
        return x * 1, (kept,)

    step, y = op(forward, backward), x
    for _ in range(6):
        y = step(y)
    y.backward(np.ones(10))
    assert alive == [6, 5, 4, 3, 2, 1]
    assert all(r() is None for r in arrays)


@without_collector
def test_intermediate_results_are_not_kept_by_the_graph():
    """x + 1 needs no value backward, so none is kept."""
    x = leaf(5)
    middle = x + 1
    y, array_of_middle = middle + 1, weakref.ref(middle.data)
    del middle
    assert array_of_middle() is None
    y.backward(np.ones(5))


@given(st.integers(0, 2**32 - 1))
def test_no_two_gradients_share_memory(seed):
    """Whatever passes gradients on untouched: the leaves' are their own, and the seed is nobody's."""
    rng = np.random.default_rng(seed)
    leaves, dy = [leaf(2, 2, seed=i) for i in range(4)], np.ones((2, 2))
    made = list(leaves)
    for _ in range(6):
        a, b = (made[i] for i in rng.integers(0, len(made), 2))
        made.append([lambda: a + b, lambda: a - b, lambda: a.T + b, lambda: a.reshape(2, 2) + b[:], lambda: F.stack([a, b])[0],
                     lambda: F.concat([a, b])[1:3]][rng.integers(6)]())
    out = made[-1] + sum(made[:-1], 0.0)
    out.backward(dy)
    grads = [t.grad for t in leaves] + [dy]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])
    before = [g.copy() for g in grads[1:]]
    grads[0] += 100
    assert all((a == b).all() for a, b in zip(grads[1:], before)) and (dy == 1).all()


def live(*types):
    return sum(isinstance(o, types) for o in gc.get_objects())


@without_collector
def test_10_000_steps_leak_nothing():
    """Neither tensors, nor nodes, nor bytes; without the garbage collector."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(2, 2, rng=rng)
    optimizer = tg.optim.AdamW(layer.parameters(), lr=1e-3)
    x, targets = np.ones((2, 2), np.float32), np.array([0, 1])

    def train(steps):
        for _ in range(steps):
            F.cross_entropy(layer(F.relu(layer(x))), targets).backward()
            tg.optim.clip_grad_norm_(optimizer.params, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    train(100)
    objects = live(Tensor, Node)
    train(9_000)
    tracemalloc.start()
    train(100)
    before, _ = tracemalloc.get_traced_memory()
    train(800)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert live(Tensor, Node) == objects and after - before < 10_000
