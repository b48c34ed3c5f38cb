"""Products of matrices and vectors, with and without batches."""
import numpy as np
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, functional as F

from .checks import check, check_same
from .strategies import array, shapes

size = st.integers(1, 3)


@st.composite
def factors(draw):
    """Two operands of `@`: vectors, matrices, and stacks of matrices whose leading axes broadcast."""
    n, k, m = draw(size), draw(st.sampled_from([0, 1, 2, 3])), draw(size)
    left, right = draw(st.sampled_from(["vv", "vm", "mv", "mm", "bm", "mb", "bb", "vb", "bv"]))
    batch = draw(shapes(least=1, most=2, sizes=(1, 2)))
    shrunk = tuple(draw(st.sampled_from((b, 1))) for b in batch)[draw(st.integers(0, len(batch))):]
    first, second = draw(st.permutations([batch, shrunk]))
    a = {"v": (k,), "m": (n, k), "b": (*first, n, k)}[left]
    b = {"v": (k,), "m": (k, m), "b": (*second, k, m)}[right]
    return [draw(array(a)), draw(array(b))]


@given(factors())
def test_matmul(drawn):
    check(F.matmul, np.matmul, *drawn)


@given(factors())
def test_matmul_operators(drawn):
    a, b = drawn
    check(lambda a, b: a @ b, np.matmul, a, b)
    check(lambda b: a.astype(b.dtype) @ b, lambda b: a @ b, b)
    check(lambda a: a @ b.astype(a.dtype), lambda a: a @ b, a)


@given(shapes(most=2, sizes=(0, 1, 2)), size, size, st.data())
def test_linear(rows, n_in, n_out, data):
    x, w, b = [data.draw(array(s)) for s in ((*rows, n_in), (n_out, n_in), (n_out,))]
    check_same(F.linear, lambda x, w, b: x @ w.T + b, x, w, b)
    check_same(F.linear, lambda x, w: x @ w.T, x, w)


SPECS = ["i,i->", "i,j->ij", "ij,jk->ik", "ij,kj->ki", "ij,j", "ij,jk", "bij,bjk->bik", "btd,bsd->bts", "...d,...d->...",
         "...ij,jk->...ik", "ij,...jk->i...k", "ij,k->k", "ij,jk->", "ii2,ij->j".replace("i2", "k"), "ij,->j", "ab,ba"]


@given(st.sampled_from(SPECS), st.data())
def test_einsum(spec, data):
    """Shared labels, labels that are summed alone, implicit results, and `...` that broadcasts."""
    sizes = {c: data.draw(size) for c in "abdijkst"}
    terms = spec.split("->")[0].split(",")
    dots = data.draw(shapes(most=2, sizes=(2,)))
    operands = []
    for term in terms:
        lead = data.draw(st.sampled_from([dots, (1,) * len(dots), dots[1:]])) if "..." in term else ()
        operands.append(data.draw(array(lead + tuple(sizes[c] for c in term.replace("...", "")))))
    check(lambda a, b: F.einsum(spec, a, b), lambda a, b: np.einsum(spec, a, b), *operands)


def test_one_matrix_for_a_large_batch():
    """Where the left is a stack and the right one matrix, the gradient is one product over all rows."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 7, 3)), rng.standard_normal((3, 2))
    check(lambda a, b: Tensor(a) @ b if not isinstance(a, Tensor) else a @ b, np.matmul, a, b)
