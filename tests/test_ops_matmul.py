"""Products of matrices and vectors, with and without batches."""
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import functional as F

from .checks import check, check_same, tensor, there
from .strategies import array, shapes

pytestmark = pytest.mark.usefixtures("device")

size = st.integers(1, 3)


few = settings(max_examples=15)                             # of each kind

# v vector, m matrix, b matrices stacked along axes that broadcast
every_kind = pytest.mark.parametrize("kinds", ["vv", "vm", "mv", "mm", "bm", "mb", "bb", "vb", "bv"])


def factors(draw, kinds):
    """Two operands of `@`."""
    n, k, m = draw(size), draw(st.sampled_from([1, 2, 3, 0])), draw(size)
    batch = draw(shapes(least=1, most=2, sizes=(2, 1, 0)))
    shrunk = tuple(draw(st.sampled_from((b, 1))) for b in batch)[draw(st.integers(0, len(batch) - 1)):]
    first, second = draw(st.permutations([batch, shrunk]))
    a = {"v": (k,), "m": (n, k), "b": (*first, n, k)}[kinds[0]]
    b = {"v": (k,), "m": (k, m), "b": (*second, k, m)}[kinds[1]]
    return draw(array(a)), draw(array(b))


@every_kind
@few
@given(st.data())
def test_matmul(kinds, data):
    check(F.matmul, np.matmul, *factors(data.draw, kinds))


@every_kind
@few
@given(st.data())
def test_matmul_operators(kinds, data):
    a, b = factors(data.draw, kinds)
    check(lambda a, b: a @ b, np.matmul, a, b)
    check(lambda b: there(a.astype(b.dtype), b) @ b, lambda b: a @ b, b)
    check(lambda a: a @ there(b.astype(a.dtype), a), lambda a: a @ b, a)


@given(shapes(most=2, sizes=(0, 1, 2)), size, size, st.data())
def test_linear(rows, n_in, n_out, data):
    x, w, b = [data.draw(array(s)) for s in ((*rows, n_in), (n_out, n_in), (n_out,))]
    check_same(F.linear, lambda x, w, b: x @ w.T + b, x, w, b)
    check_same(F.linear, lambda x, w: x @ w.T, x, w)


@given(shapes(most=2, sizes=(0, 1, 2)), size, size, st.data())
def test_linear_add(rows, n_in, n_out, data):
    r, x, w, b = [data.draw(array(s)) for s in ((*rows, n_out), (*rows, n_in), (n_out, n_in), (n_out,))]
    check_same(F.linear_add, lambda r, x, w, b: r + F.linear(x, w, b), r, x, w, b)
    check_same(F.linear_add, lambda r, x, w: r + F.linear(x, w), r, x, w)


def test_linear_add_takes_equal_shapes_only():
    x, w = tensor(np.ones((2, 3))), tensor(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"shape \(2, 4\) is added to an equal shape, not to \(4,\)"):
        F.linear_add(tensor(np.ones(4)), x, w)


@given(shapes(most=2, sizes=(0, 1, 2)), size, size, st.data())
def test_linear_gelu(rows, n_in, n_out, data):
    x, w, b = [data.draw(array(s)) for s in ((*rows, n_in), (n_out, n_in), (n_out,))]
    check_same(F.linear_gelu, lambda x, w, b: F.gelu(F.linear(x, w, b), approximate="tanh"), x, w, b)


SPECS = ["i,i->", "i,j->ij", "ij,jk->ik", "ij,kj->ki", "ij,j", "ij,jk", "bij,bjk->bik", "btd,bsd->bts", "...d,...d->...",
         "...ij,jk->...ik", "ij,...jk->i...k", "ij,k->k", "ij,jk->", "ik,ij->j", "ij,->j", "ab,ba", "...i,i", "i,...ij", "...i,...i"]


@pytest.mark.parametrize("spec", SPECS)
@few
@given(st.data())
def test_einsum(spec, data):
    """Shared labels, labels that are summed alone, implicit results, and `...` that broadcasts."""
    sizes = {c: data.draw(size) for c in "abdijkst"}
    terms = spec.split("->")[0].split(",")
    dots = data.draw(st.sampled_from([(2,), (2, 3), ()]))
    operands = []
    for term in terms:
        lead = data.draw(st.sampled_from([dots, (), (1,) * len(dots), dots[1:]])) if "..." in term else ()
        operands.append(data.draw(array(lead + tuple(sizes[c] for c in term.replace("...", "")))))
    check(lambda a, b: F.einsum(spec, a, b), lambda a, b: np.einsum(spec, a, b), *operands)
