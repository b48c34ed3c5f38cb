"""On a GPU (pytest -m gpu), where the properties of every function run as well (conftest.py, `device`): kernels at and off
the sizes of their tiles, the step, the recorded step, writing."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import backend, functional as F
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT
from tinygrad_lm.optim import AdamW
from tinygrad_lm.train import captured_step, train_step

from .checks import check_there, tensor
from .test_device import CONFIG, batch, draw

# The slow tests run the same over the stand-in, so that this file does not wait for a GPU to be run for the first time.
pytestmark = [pytest.mark.usefixtures("device"),
              pytest.mark.parametrize("device", [pytest.param("stand-in", marks=pytest.mark.slow),
                                                 pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True)]

ROWS, COLUMNS = st.integers(1, 70), st.sampled_from([1, 2, 31, 32, 33, 64, 127, 128, 129, 257, 1000, 1024, 1025])


@given(ROWS, COLUMNS)
def test_rows_of_any_length(rows, columns):
    """Softmax, norms and cross-entropy at and off what a warp and a block take at once."""
    x, w = draw(rows, columns), draw(columns, seed=1)
    uneven = x + 3 * (np.arange(columns) % 2)                              # no row whose variance float32 hardly sees
    targets = np.random.default_rng(rows).integers(0, columns, rows)
    for f, arrays in [(F.softmax, [x]), (F.log_softmax, [x]), (F.rms_norm, [x, w]), (F.layer_norm, [uneven, w, w + 1]),
                      (lambda x: F.gelu(x, approximate="tanh"), [x]),
                      (lambda x: F.cross_entropy(x, targets), [x])]:
        if columns > 1 or f is not F.layer_norm:                           # a row of one has no variance
            check_there(f, *arrays)


@given(st.integers(1, 3), st.sampled_from([1, 2, 3]), st.sampled_from([1, 15, 16, 17, 63, 64, 65, 130]),
       st.sampled_from([16, 32, 64, 128]))
def test_attention_of_any_length(B, H, T, D):
    q, k, v = (draw(B, H, T, D, seed=i) for i in range(3))
    check_there(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v)
    check_there(lambda x: F.qkv_attention(x, H), draw(B, T, 3 * H * D))


@given(st.integers(1, 300), st.sampled_from([1, 7, 64, 700]))
def test_an_embedding(n, V):
    idx = np.random.default_rng(n).integers(0, V, n)
    check_there(lambda w: F.embedding(idx, w), draw(V, 24))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
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
    x = tensor(np.ones((300, 70), np.float32))
    a, b, c = (F.dropout(x, 0.25, rng=np.random.default_rng(seed)).numpy() for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any() and abs((a == 0).mean() - 0.25) < 0.02


def test_out_of_memory_says_what_was_free():
    with pytest.raises(MemoryError, match="MiB more were asked for"):
        backend.cuda().empty(1 << 50, np.uint8)
