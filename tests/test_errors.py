"""What goes wrong is refused at the line that did it, in words that name the shapes and the remedy."""
import re

import numpy as np
import pytest

import tinygrad_lm as tg
from tinygrad_lm import Tensor, functional as F, nn

rng = np.random.default_rng(0)


def ones(*shape, grad=False):
    return Tensor(np.ones(shape), grad)


def refused(error, words, f, *args, **kwargs):
    """f raises `error`, and its message holds each of `words`."""
    with pytest.raises(error) as caught:
        f(*args, **kwargs)
    for word in [words] if isinstance(words, str) else words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in {str(caught.value)!r}"


@pytest.mark.parametrize("f", [F.add, F.sub, F.mul, F.div, F.pow, F.maximum, F.matmul])
def test_shapes_that_do_not_fit(f):
    refused(ValueError, [f.__name__, r"\(2, 3\) and \(4, 5\)"], f, ones(2, 3), ones(4, 5))


def test_shapes_that_do_not_multiply():
    refused(ValueError, ["at least one axis", r"use \*"], F.matmul, ones(2), ones())
    refused(ValueError, [r"last axis of the left \(3\)", r"second last axis of the right \(4\)"], F.matmul, ones(2, 3),
            ones(4, 3))
    refused(ValueError, [r"only axis of the right \(4\)"], F.matmul, ones(2, 3), ones(4))
    refused(ValueError, [r"\(out, in\) = \(5, 4\)", r"\(\.\.\., 4\)", r"not \(2, 3\)"], F.linear, ones(2, 3), ones(5, 4))
    refused(ValueError, [r"bias of shape \(5,\)", r"not \(4,\)"], F.linear, ones(2, 3), ones(5, 3), ones(4))
    refused(ValueError, ["two operands", "has 1"], F.einsum, "ij->ji", ones(2, 2), ones(2))
    refused(ValueError, ["twice in one operand", "diagonal"], F.einsum, "ii,i->i", ones(2, 2), ones(2))
    refused(ValueError, ["names 2 axes", r"\(2, 2, 2\)"], F.einsum, "ij,i->i", ones(2, 2, 2), ones(2))
    refused(ValueError, [r"\(2, 3\) and \(4,\)"], F.einsum, "ij,j->i", ones(2, 3), ones(4))


def test_arrangements_that_are_impossible():
    refused(ValueError, [r"reshape", r"\(2, 3\)", r"\(4,\)"], F.reshape, ones(2, 3), 4)
    refused(ValueError, [r"\[1, 1\] sum to 2", "axis 0 has 3"], F.split, ones(3), [1, 1])
    refused(ValueError, [r"concat of shapes \(2, 3\) and \(2, 4\)"], F.concat, [ones(2, 3), ones(2, 4)])
    refused(ValueError, [r"stack of shapes \(2,\) and \(3,\)"], F.stack, [ones(2), ones(3)])
    refused(ValueError, "at least one tensor", F.concat, [])
    refused(ValueError, "at least one tensor", F.stack, [])
    refused(ValueError, "no elements", F.mean, ones(0, 3))
    refused(ValueError, "max of shapes", F.max, ones(0))
    refused(IndexError, "out of bounds", lambda: ones(3)[7])


@pytest.mark.parametrize("weight, bias", [((4,), (3,)), ((3,), (4,)), ((1,), (3,)), ((2, 3), (3,))])
def test_norms_of_other_sizes(weight, bias):
    """A weight that would merely broadcast is refused, too: its gradient would be of another shape."""
    wrong = re.escape(f"not {bias if weight == (3,) else weight}")
    refused(ValueError, ["layer_norm", r"\(2, 3\)", r"\(3,\)", wrong], F.layer_norm, ones(2, 3), ones(*weight), ones(*bias))
    if weight != (3,):
        refused(ValueError, ["rms_norm", r"\(2, 3\)", r"\(3,\)"], F.rms_norm, ones(2, 3), ones(*weight))


@pytest.mark.parametrize("query, key, value", [((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 5)),       # head sizes
                                               ((2, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),       # batches
                                               ((1, 3, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)),       # heads
                                               ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 2, 4))])      # keys and values
def test_attention_of_shapes_that_do_not_fit(query, key, value):
    refused(ValueError, [re.escape(str(s)) for s in (query, key, value)],
            F.scaled_dot_product_attention, ones(*query), ones(*key), ones(*value))


def test_attention_of_three_axes():
    refused(ValueError, [r"\(B, H, T, D\)", r"\(2, 3, 4\)"], F.scaled_dot_product_attention, *[ones(2, 3, 4)] * 3)
    for mask in (np.ones((3, 2), bool), np.ones((1, 2, 3), bool)):
        refused(ValueError, [r"shape \(2, 3\)", re.escape(str(mask.shape))], F.masked_softmax, ones(2, 3), mask)
    refused(ValueError, ["an axis at least"], F.masked_softmax, ones(), np.array(True))
    refused(TypeError, ["booleans", "not float64", "astype"], F.masked_softmax, ones(2, 3), np.ones((2, 3)))
    refused(TypeError, ["booleans", "not list"], F.masked_softmax, ones(2), [True, False])
    refused(ValueError, [r"\(2, 3, 7\)", "3 · n_head"], F.qkv_attention, ones(2, 3, 7), 2)


# ---- gradients where there are none ---------------------------------------------------------------------------------

@pytest.mark.parametrize("data", [[1, 2], [True], np.array([1], np.uint8)])
def test_integers_have_no_gradient(data):
    refused(TypeError, ["only floating-point tensors", "float32"], Tensor, data, True)


@pytest.mark.parametrize("data", ["text", [None], np.array(["a"]), [1j]])
def test_a_tensor_holds_numbers(data):
    refused(TypeError, "a tensor holds numbers", Tensor, data)


def test_backward_of_what_has_no_gradient():
    refused(RuntimeError, ["requires no gradient", "requires_grad=True", "no_grad"], (ones(1) * 2).backward)
    with tg.no_grad():
        y = ones(1, grad=True) * 2
    refused(RuntimeError, ["requires no gradient"], y.backward)


def test_backward_of_several_numbers_needs_a_seed():
    y = ones(2, 3, grad=True) * 2
    refused(RuntimeError, [r"shape \(2, 3\)", "seed", r"\.sum\(\)"], y.backward)
    refused(ValueError, [r"shape \(3, 2\)", r"\(2, 3\)"], y.backward, np.ones((3, 2)))
    refused(ValueError, [r"shape \(\)", r"\(2, 3\)"], y.backward, 1.0)


def test_backward_twice():
    y = (ones(2, grad=True) * 2).sum()
    y.backward()
    refused(RuntimeError, ["second time", "freed", "retain_graph=True"], y.backward)


def test_an_item_of_many():
    refused(ValueError, [r"shape \(2,\)", "index it"], ones(2).item)
    refused(ValueError, "one element", bool, ones(2))
    refused(TypeError, "without axes", len, ones())


# ---- ids, targets and losses ----------------------------------------------------------------------------------------

def test_token_ids_out_of_range():
    w = ones(5, 2)
    refused(IndexError, [r"token id 5 at position \(1, 0\)", "5 entries", "0 to 4"], F.embedding, np.array([[0], [5]]), w)
    refused(IndexError, [r"token id -1 at position \(0,\)"], F.embedding, np.array([-1, 7]), w)
    refused(TypeError, ["integers, not float64"], F.embedding, np.array([1.0]), w)


def test_targets_out_of_range():
    x = ones(2, 3)
    refused(IndexError, [r"target 3 at position \(1,\)", "3 entries"], F.cross_entropy, x, np.array([0, 3]))
    refused(IndexError, [r"target -1 at position \(0,\)"], F.cross_entropy, x, np.array([-1, -100]))
    refused(TypeError, "integers, not float", F.cross_entropy, x, np.array([0.0, 1.0]))


def test_losses_of_shapes_that_only_broadcast():
    refused(ValueError, [r"\(4,\) with \(4, 1\)", "reshape"], F.mse_loss, ones(4), ones(4, 1))
    refused(ValueError, [r"\(4, 3\)", r"\(4,\)", r"\(4, 1\)"], F.cross_entropy, ones(4, 3), np.zeros((4, 1), int))


def test_losses_that_cannot_be():
    x, targets = ones(2, 3), np.array([-100, -100])
    refused(ValueError, ["all 2 are -100"], F.cross_entropy, x, targets)
    assert F.cross_entropy(x, targets, reduction="sum").item() == 0
    refused(ValueError, ['"mean", "sum" or "none"', "'average'"], F.cross_entropy, x, targets, reduction="average")
    refused(ValueError, ["label_smoothing", r"\[0, 1\]", "1.5"], F.cross_entropy, x, np.array([0, 1]), label_smoothing=1.5)


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_that_is_no_probability(p):
    refused(ValueError, ["probability", re.escape(str(p))], F.dropout, ones(2), p, rng=rng)
    refused(ValueError, ["probability", re.escape(str(p))], nn.Dropout, p, rng=rng)


def test_gelu_of_another_kind():
    refused(ValueError, ['"none" or "tanh"', "'fast'"], F.gelu, ones(2), approximate="fast")


# ---- modules and optimizers -----------------------------------------------------------------------------------------

def test_a_state_that_does_not_fit_is_listed_and_changes_nothing():
    layer = nn.Linear(2, 3, rng=rng)
    before = {name: a.copy() for name, a in layer.state_dict().items()}
    state = {"weight": np.zeros((9, 9)), "other": np.zeros(4)}
    refused(ValueError, ["does not fit Linear", r"weight: shape \(9, 9\), the model has \(3, 2\)",
                         r"bias: missing, the model has shape \(3,\)", r"other: unknown to the model, shape \(4,\)"],
            layer.load_state_dict, state)
    refused(ValueError, "weight", layer.load_state_dict, state, strict=False)
    state["weight"], state["bias"] = np.zeros((3, 2)), np.zeros(4)
    refused(ValueError, [r"bias: shape \(4,\)"], layer.load_state_dict, state, strict=False)
    for name, a in layer.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


def test_optimizers_that_cannot_be():
    w = nn.Parameter(np.ones(2, np.float32))
    refused(ValueError, "nothing to optimize", tg.optim.SGD, [], lr=0.1)
    refused(ValueError, "no parameter requires a gradient", tg.optim.AdamW,
            nn.Linear(1, 1, rng=rng).requires_grad_(False).parameters())
    refused(TypeError, ["one type", "float32", "float64"], tg.optim.SGD, [w, nn.Parameter(np.ones(2))], lr=0.1)


def test_an_optimizer_whose_parameters_went_elsewhere():
    layer = nn.Linear(2, 2, rng=rng)
    old = tg.optim.SGD(layer.parameters(), lr=0.1)
    tg.optim.AdamW(layer.parameters())
    layer(ones(1, 2).astype("f4")).sum().backward()
    refused(RuntimeError, ["left this optimizer's buffer", "anew"], old.step)


def test_an_optimizers_state_of_another_model():
    small, large = (tg.optim.AdamW(nn.Linear(n, n, rng=rng).parameters()) for n in (2, 3))
    refused(ValueError, ["m has 6 elements", "12", "another model"], large.load_state_dict, small.state_dict())
    refused(ValueError, ["has no `m`, which AdamW keeps", "velocity"], large.load_state_dict,
            tg.optim.SGD(nn.Linear(3, 3, rng=rng).parameters(), lr=1).state_dict())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite(bad):
    layer = nn.Linear(2, 2, rng=rng)
    layer(ones(1, 2).astype("f4")).sum().backward()
    layer.bias.grad[0] = bad
    kept = layer.weight.grad.copy()
    refused(FloatingPointError, ["NaN or infinite", "detect_anomaly"], tg.optim.clip_grad_norm_, layer.parameters(), 1.0)
    np.testing.assert_array_equal(layer.weight.grad, kept)


def test_gradcheck_of_float32():
    refused(TypeError, ["float64", "tensor 0 is float32"], tg.gradcheck, F.exp, Tensor([1.0], True))
