"""On a real GPU (pytest -m gpu): every function, over random shapes as well, against float64 on the host, and the step."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, backend, functional as F
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT
from tinygrad_lm.optim import AdamW
from tinygrad_lm.train import captured_step, train_step

from .test_device import CASES, CONFIG, batch, draw

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("xp")]
TOLERANCE = {"float64": dict(rtol=1e-10, atol=1e-12), "float32": dict(rtol=2e-4, atol=2e-5)}


def values_and_gradients(f, arrays, device, dtype):
    tensors = [Tensor(a.astype(dtype), True, device=device) for a in arrays]
    y = f(*tensors)
    y.backward(draw(*y.shape).astype(y.dtype))
    return [y.numpy(), *(backend.to_host(t.grad) for t in tensors)]


def check(f, arrays, dtype):
    """f on the GPU in `dtype`, forward and backward, is f on the host in float64."""
    for there, here in zip(values_and_gradients(f, arrays, "cuda", dtype), values_and_gradients(f, arrays, "cpu", "float64")):
        assert there.dtype == dtype or f is CASES["astype"][0] or there.dtype == np.float64
        np.testing.assert_allclose(there, here, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", sorted(set(CASES) - {"astype"}))
def test_a_function(name, dtype):
    f, shapes = CASES[name]
    check(f, [draw(*shape, seed=i) for i, shape in enumerate(shapes)], dtype)


ROWS, COLUMNS = st.integers(1, 70), st.sampled_from([1, 2, 31, 32, 33, 64, 127, 128, 129, 257, 1000, 1024, 1025])


@given(ROWS, COLUMNS, st.sampled_from(list(TOLERANCE)))
def test_rows_of_any_length(rows, columns, dtype):
    """Softmax, norms and cross-entropy at and off what a warp and a block take at once."""
    x, w = draw(rows, columns), draw(columns, seed=1)
    targets = np.random.default_rng(rows).integers(0, columns, rows)
    for f, arrays in [(F.softmax, [x]), (F.log_softmax, [x]), (F.rms_norm, [x, w]), (F.layer_norm, [x, w, w + 1]),
                      (lambda x: F.gelu(x, approximate="tanh"), [x]),
                      (lambda x: F.cross_entropy(x, targets), [x])]:
        if columns > 1 or f is not F.layer_norm:                           # a row of one has no variance
            check(f, arrays, dtype)


@given(st.integers(1, 3), st.sampled_from([1, 2, 3]), st.sampled_from([1, 15, 16, 17, 63, 64, 65, 130]),
       st.sampled_from([16, 32, 64, 128]), st.sampled_from(list(TOLERANCE)))
def test_attention_of_any_length(B, H, T, D, dtype):
    q, k, v = (draw(B, H, T, D, seed=i) for i in range(3))
    check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v], dtype)
    check(lambda x: F.qkv_attention(x, H), [draw(B, T, 3 * H * D)], dtype)


@given(st.integers(1, 300), st.sampled_from([1, 7, 64, 700]))
def test_an_embedding(n, V):
    idx = np.random.default_rng(n).integers(0, V, n)
    for dtype in TOLERANCE:
        check(lambda w: F.embedding(idx, w), [draw(V, 24)], dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("captured", [False, True])
def test_the_step(captured, dtype):
    def losses(device, dtype):
        model = GPT(CONFIG).to(dtype).to(device)
        opt = AdamW(model.parameters(), lr=1e-2)
        step = captured_step(model, opt) if captured else lambda idx, targets: train_step(model, opt, idx, targets)
        return [step(*batch(i)) for i in range(8)]

    np.testing.assert_allclose(losses("cuda", dtype), losses("cpu", "float64"), rtol=1e-8 if dtype == "float64" else 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_step_can_be_captured(recwarn, dtype):
    model = GPT(CONFIG).to(dtype).to("cuda")
    step = captured_step(model, AdamW(model.parameters(), lr=1e-2))
    for i in range(4):
        step(*batch(i))
    assert step.replay and not recwarn.list


def test_writing():
    model, idx = GPT(CONFIG).to(np.float64), np.array([[1, 2, 3]])
    here, there = (generate(model.to(device), idx, 12, rng=np.random.default_rng(0)) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(there.tokens, here.tokens)


def test_dropout_is_seeded():
    x = Tensor(np.ones((300, 70), np.float32), device="cuda")
    a, b, c = (F.dropout(x, 0.25, rng=np.random.default_rng(seed)).numpy() for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any() and abs((a == 0).mean() - 0.25) < 0.02


def test_out_of_memory_says_what_was_free(xp):
    with pytest.raises(MemoryError, match="MiB more were asked for"):
        xp.empty(1 << 50, np.uint8)
