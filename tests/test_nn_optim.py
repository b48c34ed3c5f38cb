"""Modules find their parameters; optimizers do what their formulas say, checked by loops written out here."""
from math import cos, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, backend, functional as F, gradcheck, nn, optim

from .checks import place, tensor, there
from .strategies import array, shapes

on_every_device = pytest.mark.usefixtures("device")


def rng():
    return np.random.default_rng(0)


class Tiny(nn.Module):
    """A tied table, a list and a dict of layers."""

    def __init__(self):
        r = rng()
        self.table = nn.Embedding(4, 3, rng=r)
        self.blocks = [nn.Linear(3, 3, rng=r), nn.LayerNorm(3)]
        self.named = {"last": nn.RMSNorm(3), "drop": nn.Dropout(0.5, rng=r)}
        self.scale = nn.Parameter(np.ones((), np.float32))
        self.head = nn.Linear(3, 4, bias=False, rng=r)
        self.head.weight = self.table.weight
        self.constant = Tensor([1.0])                       # no parameter
        self.extra = (nn.Parameter([1.0, 2.0]), "no parameter", None)

    def forward(self, idx):
        x = self.table(idx)
        for block in self.blocks:
            x = block(x)
        return self.head(self.named["drop"](self.named["last"](x)) * self.scale) + self.extra[0].sum()


NAMES = ["table.weight", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "named.last.weight", "scale",
         "extra.0"]


# ---- modules --------------------------------------------------------------------------------------------------------

def test_parameters_are_found_in_order_and_once():
    m = Tiny()
    assert [name for name, _ in m.named_parameters()] == NAMES
    assert m.parameters()[0] is m.head.weight and len({id(p) for p in m.parameters()}) == len(NAMES)
    assert m.n_parameters() == 12 + 9 + 3 + 3 + 3 + 3 + 1 + 2
    assert [type(x).__name__ for x in m.modules()] == ["Tiny", "Embedding", "Linear", "LayerNorm", "RMSNorm", "Dropout", "Linear"]


def test_a_state_goes_in_and_out():
    one, two = Tiny(), Tiny()
    for p in one.parameters():
        p.data += 1
    state = one.state_dict()
    assert list(state) == NAMES and state["scale"] is one.scale.data
    own = two.scale.data
    two.load_state_dict(state)
    assert two.scale.data is own                            # copied into what is there
    for a, b in zip(one.parameters(), two.parameters()):
        np.testing.assert_array_equal(a.data, b.data)
        assert not np.shares_memory(a.data, b.data)
    two.load_state_dict({"scale": np.array(7.0), "unknown": np.ones(1)}, strict=False)
    assert two.scale.item() == 7 and two.scale.dtype == np.float32


def test_train_and_eval():
    m = Tiny()
    assert m.training and m.named["drop"].training
    assert m.eval() is m and not any(x.training for x in m.modules())
    idx = np.array([[0, 1, 3]])
    np.testing.assert_array_equal(m(idx).data, m(idx).data)
    m.train()
    assert m.named["drop"].training and (m(idx).data != m(idx).data).any()


def test_freezing():
    m = Tiny()
    m.blocks[0].requires_grad_(False)
    m(np.array([0, 1])).sum().backward()
    assert [name for name, p in m.named_parameters() if p.grad is None] == ["blocks.0.weight", "blocks.0.bias"]
    m.requires_grad_(False)
    assert not m(np.array([0])).requires_grad
    assert m.requires_grad_() is m and m(np.array([0])).requires_grad


@on_every_device
def test_a_whole_model_has_the_right_gradients():
    m = place(Tiny().to(np.float64)).eval()
    assert {p.dtype for p in m.parameters()} == {np.dtype("f8")} and m.head.weight is m.table.weight
    assert gradcheck(lambda *_: F.cross_entropy(m(np.array([0, 1, 1])), np.array([3, 0, -100])), *m.parameters())


@on_every_device
@given(shapes(most=2), st.data())
def test_layers_compute_their_functions(lead, data):
    r, x = rng(), data.draw(array((*lead, 3)))
    layer, norm, rms = (place(m.to("f8")) for m in (nn.Linear(3, 2, rng=r), nn.LayerNorm(3), nn.RMSNorm(3)))
    np.testing.assert_allclose(layer(tensor(x)).numpy(), x @ layer.weight.numpy().T + layer.bias.numpy())
    assert nn.Linear(3, 2, bias=False, rng=r).bias is None and nn.LayerNorm(3, bias=False).bias is None
    centred = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(norm(tensor(x)).numpy(), centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-5))
    np.testing.assert_allclose(rms(tensor(x)).numpy(), x / np.sqrt((x ** 2).mean(-1, keepdims=True) + 1e-6))


def test_layers_start_as_they_say():
    layer, table = nn.Linear(100, 50, rng=rng()), nn.Embedding(200, 50, rng=rng())
    for p in layer.parameters():
        assert abs(p.data).max() <= 0.1 and 0.04 < p.data.std() < 0.08 and p.dtype == np.float32
    assert abs(table.weight.data.mean()) < 0.05 and 0.95 < table.weight.data.std() < 1.05


def test_dropout_layer():
    x, drop = Tensor(np.ones(1000)), nn.Dropout(0.5, rng=rng())
    assert drop(x).data.sum() != 1000 and set(np.unique(drop(x).data)) == {0.0, 2.0}
    assert drop.eval()(x) is x and nn.Dropout(0.0, rng=rng())(x) is x


# ---- optimizers -----------------------------------------------------------------------------------------------------

def sgd(w, grads, *, lr, momentum, weight_decay):
    v = 0
    for g in grads:
        v = momentum * v + g + weight_decay * w
        w = w - lr * v
    return w


def adamw(w, grads, *, lr, betas, eps, weight_decay):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * weight_decay * w
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


KINDS = [(optim.SGD, sgd, dict(lr=0.1, momentum=0.9, weight_decay=0.05)),
         (optim.SGD, sgd, dict(lr=0.1, momentum=0.0, weight_decay=0.0)),
         (optim.AdamW, adamw, dict(lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05)),
         (optim.AdamW, adamw, dict(lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0))]
every_kind = pytest.mark.parametrize("make, loop, options", KINDS)


def parameters(*shapes, dtype="f8"):
    r = rng()
    return [nn.Parameter(tensor(r.standard_normal(s).astype(dtype)).data) for s in shapes]


def values(params):
    return [p.numpy().copy() for p in params]


def run(optimizer, params, grads):
    """A step for each row of `grads`, which holds an array, or None, a parameter."""
    for row in grads:
        for p, g in zip(params, row):
            if g is not None:
                (p * there(g.astype(p.dtype), p)).sum().backward()          # the gradient of Σ p g is g
        optimizer.step()
        optimizer.zero_grad()


@on_every_device
@every_kind
def test_steps_follow_the_formula(make, loop, options):
    """Matrices decay and vectors do not, in whatever order they come; a later lr counts at once."""
    for dtype, tolerance in ("f8", dict(rtol=1e-12, atol=1e-14)), ("f4", dict(rtol=1e-4, atol=1e-6)):
        params = parameters((3,), (2, 3), (), (2, 2, 2), dtype=dtype)
        start, r = values(params), np.random.default_rng(1)
        grads = [[r.standard_normal(p.shape) for p in params] for _ in range(5)]
        run(make(params, **options), params, grads)
        for i, (p, w) in enumerate(zip(params, start)):
            decay = options["weight_decay"] if p.ndim >= 2 else 0
            expected = loop(w, [row[i] for row in grads], **options | dict(weight_decay=decay))
            assert p.dtype == dtype
            np.testing.assert_allclose(p.numpy(), expected, **tolerance)


@on_every_device
@every_kind
def test_more_than_one_block(make, loop, options):
    """Stretches longer than BLOCK, and ends that are no multiple of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim, "BLOCK", 4)
        test_steps_follow_the_formula(make, loop, options)


@on_every_device
def test_a_block_is_full_size_by_default():
    p, = parameters((2, optim.BLOCK))
    start, = values([p])
    run(optim.AdamW([p], lr=0.1, weight_decay=0.0), [p], [[np.ones(p.shape)]])
    np.testing.assert_allclose(p.numpy(), start - 0.1, atol=1e-8)


@on_every_device
@every_kind
def test_without_a_gradient_nothing_moves(make, loop, options):
    """Neither the parameter nor its momentum; the neighbours move."""
    params = parameters((2, 2), (2, 2), (2, 2))
    start, r = values(params), np.random.default_rng(1)
    g = [[r.standard_normal((2, 2)) for _ in params] for _ in range(3)]
    g[1][1] = None
    g[2][0] = g[2][2] = None
    optimizer = make(params, **options)
    run(optimizer, params, g[:1])
    middle = values(params)
    run(optimizer, params, g[1:2])
    end = values(params)
    assert (end[1] == middle[1]).all() and all((end[i] != middle[i]).all() for i in (0, 2))
    middle = end
    run(optimizer, params, g[2:])
    end = values(params)
    assert all((end[i] == middle[i]).all() for i in (0, 2)) and (end[1] != middle[1]).all()
    assert all((p != w).all() for p, w in zip(end, start))


@on_every_device
@every_kind
def test_a_gradient_set_by_hand(make, loop, options):
    p, q = parameters((2, 3), (2, 3))
    start, g = p.numpy().copy(), np.random.default_rng(1).standard_normal((3, 2)).T
    optimizer = make([p, q], **options)
    p.grad = tensor(g).data                                 # neither the buffer nor contiguous
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), loop(start, [g], **options), rtol=1e-12)


@on_every_device
@every_kind
def test_a_state_continues_exactly(make, loop, options):
    """Three steps, saved and loaded, three more: the same bits as six."""
    r = np.random.default_rng(1)
    grads = [[r.standard_normal((2, 3)), r.standard_normal(3)] for _ in range(6)]
    params = parameters((2, 3), (3,))
    run(make(params, **options), params, grads)
    halfway = parameters((2, 3), (3,))
    first = make(halfway, **options)
    run(first, halfway, grads[:3])
    resumed = [nn.Parameter(p.data.copy()) for p in halfway]
    second = make(resumed, **options)
    second.load_state_dict({name: a.copy() for name, a in first.state_dict().items()})
    run(second, resumed, grads[3:])
    for a, b in zip(values(params), values(resumed)):
        np.testing.assert_array_equal(a, b)


def test_updates_are_as_long_as_possible():
    """One call for all, those that decay first, around what has no gradient."""
    params, calls = parameters((2, 2), (3,), (2, 3), (1,), (4,), (2, 1)), []
    optimizer = optim.SGD(params, lr=0.1, weight_decay=0.1)
    optimizer.update = lambda w, g, block, decaying: calls.append((block.start, block.stop, decaying))
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer.step()
    assert calls == [(0, 20, 12)]
    params[2].grad = None
    optimizer.step()
    assert calls[1:] == [(0, 4, 4), (10, 20, 2)]


@on_every_device
def test_tied_parameters_move_once():
    m = place(Tiny().to("f8")).eval()
    w, optimizer = m.table.weight.numpy().copy(), optim.SGD(m.parameters(), lr=0.1)
    m(np.array([0, 1])).sum().backward()
    g = backend.to_host(m.head.weight.grad).copy()
    optimizer.step()
    np.testing.assert_allclose(m.table.weight.numpy(), w - 0.1 * g)
    assert m.head.weight is m.table.weight


def test_parameters_and_gradients_lie_in_one_buffer():
    m = Tiny()
    m.blocks[0].requires_grad_(False)
    before = m.state_dict()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    for name, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
        assert np.shares_memory(a, optimizer.flat) == (not name.startswith("blocks.0"))
    m(np.array([0, 1])).sum().backward()
    assert all(np.shares_memory(p.grad, optimizer.flat_grad) for p in optimizer.params)
    kept = [p.grad.copy() for p in optimizer.params]
    m(np.array([0, 1])).sum().backward()                    # adds up in the same place
    assert all(np.shares_memory(p.grad, optimizer.flat_grad) for p in optimizer.params) and len(kept) == len(optimizer.params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in m.parameters())


@on_every_device
def test_training_in_float32_stays_there():
    m = place(Tiny())
    for make in optim.SGD, optim.AdamW:
        optimizer = make(m.parameters(), lr=np.float64(0.1), weight_decay=np.float64(0.1))
        m(np.array([0, 1])).sum().backward()
        optim.clip_grad_norm_(m.parameters(), np.float64(0.1))
        optimizer.step()
        assert all(p.dtype == np.float32 for p in m.parameters()) and optimizer.flat.dtype == np.float32


# ---- clipping and the learning rate ---------------------------------------------------------------------------------

@on_every_device
@given(st.lists(array(shapes(sizes=(0, 2, 3))), min_size=1, max_size=4), st.sampled_from([0.1, 1.0, 100.0]))
def test_clip_grad_norm_(grads, most):
    """The joint norm of all gradients is at most `most`, and their directions stay; those without one are passed over."""
    params = [nn.Parameter(np.zeros(g.shape)) for g in grads] + [nn.Parameter([1.0])]
    for p, g in zip(params, grads):
        p.grad = tensor(g.copy(order="K")).data
    norm = sqrt(sum((g ** 2).sum() for g in grads))
    assert optim.clip_grad_norm_(iter(params), most) == pytest.approx(norm)
    for p, g in zip(params, grads):
        np.testing.assert_allclose(backend.to_host(p.grad), g * min(1, most / norm) if norm else g, rtol=1e-12)


@on_every_device
@given(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), st.sampled_from([0.1, 1.0, 100.0]),
       st.sampled_from([1, 2, 3, 9]))
def test_an_optimizer_clips_what_it_holds(there, most, workers):
    """As the function does; what has no gradient keeps none, and the numbers in its buffer count for nothing."""
    shapes, r = [(3, 4), (5,), (), (4, 4)], np.random.default_rng(1)
    gradients = [r.standard_normal(shape) if has else None for shape, has in zip(shapes, there)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim, "BLOCK", 7)
        optimizer = optim.AdamW(parameters(*shapes))
        optimizer.flat_grad[...] = 1e6
        for p in optimizer.params:
            g = gradients[shapes.index(p.shape)]
            p.grad = None if g is None else tensor(g.copy()).data
        loose = [nn.Parameter(np.zeros(shape)) for shape in shapes]
        for p, g in zip(loose, gradients):
            p.grad = None if g is None else tensor(g).data
        norm = optim.clip_grad_norm_(loose, most)
        assert optimizer.clip_grad_norm_(most, workers=workers) == pytest.approx(norm)
    expected = dict(zip(shapes, (p.grad for p in loose)))
    for p in optimizer.params:
        if expected[p.shape] is None:
            assert p.grad is None
        else:
            np.testing.assert_allclose(backend.to_host(p.grad_buffer), backend.to_host(expected[p.shape]), rtol=1e-12)


@every_kind
@pytest.mark.parametrize("workers", [2, 5])
def test_workers_share_a_step(make, loop, options, workers, monkeypatch):
    """Each element is updated once, by the same arithmetic: the same bits as on one thread."""
    monkeypatch.setattr(optim, "BLOCK", 4)
    one, many = [parameters((3,), (2, 3), (5, 5)) for _ in range(2)]
    for params, w in ((one, 1), (many, workers)):
        optimizer, r = make(params, **options), np.random.default_rng(1)
        for _ in range(3):
            for p in params:
                p.grad = r.standard_normal(p.shape)
            optimizer.step(workers=w)
    for a, b in zip(one, many):
        np.testing.assert_array_equal(a.data, b.data)


def test_warmup_cosine():
    o = dict(lr=2.0, warmup=4, total=12, floor=0.5)
    assert [optim.warmup_cosine(t, **o) for t in range(4)] == [0.5, 1.0, 1.5, 2.0]
    for t in range(4, 12):
        assert optim.warmup_cosine(t, **o) == pytest.approx(0.5 + 1.5 * (1 + cos(pi * (t - 4) / 8)) / 2)
    assert optim.warmup_cosine(5, **o | dict(total=5)) == 0.5
    assert optim.warmup_cosine(12, **o) == optim.warmup_cosine(99, **o) == 0.5
    assert optim.warmup_cosine(0, lr=1.0, warmup=0, total=0) in (0.0, 1.0)


@on_every_device
def test_training_learns():
    """y = 2x + 1 by AdamW: the whole road from forward to step."""
    layer = place(nn.Linear(1, 1, rng=rng()))
    optimizer = optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.0)
    x = tensor(np.linspace(-1, 1, 20, dtype=np.float32)[:, None], False)
    for _ in range(200):
        F.mse_loss(layer(x), 2 * x + 1).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert layer.weight.item() == pytest.approx(2, abs=1e-2) and layer.bias.item() == pytest.approx(1, abs=1e-2)
