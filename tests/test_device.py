"""What runs on the host runs on a device, with the same result, and nothing slips from one to the other: proved over a
stand-in that is as strict as CuPy (strict_cupy.py), since there need not be a GPU."""
import sys
from types import ModuleType

import numpy as np
import pytest

import tinygrad_lm as tg
from tinygrad_lm import Tensor, backend, checkpoint, emulator, functional as F, kernels, nn
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.models.reward import RewardModel
from tinygrad_lm.optim import SGD, AdamW, clip_grad_norm_
from tinygrad_lm.train import train_step
from tinygrad_lm.train.logprobs import answer_logprobs

from .checks import there
from .strict_cupy import strict_cupy
from .test_errors import refused

MASK = np.array([[True, False, True], [False, True, True]])
CONFIG = GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8)


@pytest.fixture
def cupy():
    with strict_cupy() as module:
        yield module


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(0.2, 2, shape)


def batch(seed=0, B=3, T=8):
    ids = np.random.default_rng(seed).integers(0, CONFIG.vocab_size, (B, T + 1))
    return ids[:, :-1], np.where(np.arange(T) == 2, -100, ids[:, 1:])


# ---- each function's property runs over the same stand-in, and on a GPU: conftest.py, `device` -------------------------

def test_gradcheck_on_the_device(cupy):
    x, w = (Tensor(draw(*shape), True, device="cuda") for shape in [(2, 3), (3,)])
    assert tg.gradcheck(lambda x, w: F.rms_norm(x, w), x, w)
    with pytest.raises(AssertionError, match="gradient of input 0"):
        tg.gradcheck(lambda x: F.mul(x, x.detach()), x)


def test_comparisons_and_argmax(cupy):
    x = Tensor(draw(2, 3), device="cuda")
    assert (x > 1).device == x.argmax(1).device == "cuda"
    assert x.argmax().item() == int(draw(2, 3).argmax()) and bool(x[0, 0] > 0)
    assert "Tensor([" in repr(x)


# ---- moving ---------------------------------------------------------------------------------------------------------

def test_tensors_move_only_when_asked(cupy):
    x = Tensor([1, 2.5], True, device="cuda")
    assert (x.device, x.dtype, x.to("cuda")) == ("cuda", np.float32, x)
    assert x.to(np.float64).dtype == np.float64 and x.to("float16").dtype == np.float16
    assert type(x.numpy()) is np.ndarray and x.to("cpu").device == "cpu"
    (x.to("cpu") * Tensor([3, 4])).sum().backward()
    assert backend.device_of(x.grad) == "cuda" and x.grad.tolist() == [3, 4]
    refused(ValueError, ['"cpu" or "cuda"', "tpu"], Tensor, [1.0], device="tpu")
    refused(ValueError, ['"cpu" or "cuda"', "cuda:7"], x.to, "cuda:7")


def test_a_host_and_a_device_operand_are_refused(cupy):
    here, there = Tensor(draw(2, 3)), Tensor(draw(3), device="cuda")
    both = [r"\(2, 3\) on cpu", r"\(3,\) on cuda", r"\.to\("]
    for f in (F.add, F.mul, F.div, F.maximum, F.pow, lambda a, b: a + b.data, lambda a, b: a < b, lambda a, b: a.data @ b):
        refused(TypeError, both, f, here, there)
    refused(TypeError, ["masked_fill", "on cpu", "on cuda"], F.masked_fill, there, np.ones(3, bool), 0.0)
    refused(TypeError, ["getitem", "on cpu", "on cuda"], lambda: there[np.array([0, 1])])
    refused(TypeError, ["concat", "on cpu", "on cuda"], F.concat, [here, there.reshape(1, 3)])
    refused(TypeError, ["one device"], AdamW, [nn.Parameter(here.data), nn.Parameter(there.data)])
    assert ([1, 2, 3] + there).device == "cuda" and (np.float64(2) * there).device == "cuda"      # numbers have no place


def test_out_of_memory_says_what_was_asked_and_what_was_free(cupy, monkeypatch):
    Tensor([1.0], device="cuda")
    monkeypatch.setattr(cupy, "room", 3 << 20)
    refused(MemoryError, [r"4\.0 MiB more", r"3\.0 of", "smaller"], Tensor, np.zeros(1 << 20, np.float32), device="cuda")


@pytest.mark.parametrize("module, words", [(None, ["not installed", "cuda12"]), ("without a driver", ["no GPU", "nvidia-smi"])])
def test_without_a_gpu_one_sentence_says_why(monkeypatch, module, words):
    if module:
        monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
        sys.modules["cupy"].is_available, sys.modules["cupy"].ndarray = (lambda: False), type("ndarray", (), {})
    else:
        monkeypatch.setitem(sys.modules, "cupy", None)                    # importing it raises ImportError
    backend.why_no_cuda.cache_clear()
    try:
        assert not tg.cuda_is_available()
        refused(RuntimeError, words, Tensor, [1.0], device="cuda")
        refused(RuntimeError, words, nn.LayerNorm(3).to, "cuda")
        assert "\n" not in backend.why_no_cuda()
        if module:
            assert (Tensor([1.0]) + 1).item() == 2                        # and the CPU goes on
    finally:
        backend.why_no_cuda.cache_clear()


# ---- a whole model --------------------------------------------------------------------------------------------------

def trained(device, *, steps=4, optimizer=AdamW, dtype=np.float64, **config):
    """(losses, parameters) of a small GPT after some steps."""
    model = GPT(GPTConfig(**{**vars(CONFIG), **config})).to(dtype).to(device)
    opt = optimizer(model.parameters(), lr=1e-2)
    losses = [train_step(model, opt, *batch(i), max_norm=0.5, workers=2) for i in range(steps)]
    assert model.device == opt.device == device
    return losses, {name: backend.to_host(a) for name, a in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", [AdamW, lambda params, lr: SGD(params, lr, momentum=0.9, weight_decay=0.1)])
def test_training_on_the_device_is_training_on_the_host(cupy, optimizer):
    (here, weights), (over_there, moved) = (trained(device, optimizer=optimizer) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(over_there, here, rtol=1e-12)
    assert here[0] > here[-1]
    for name in weights:
        np.testing.assert_allclose(moved[name], weights[name], rtol=1e-9, atol=1e-12)


def test_a_step_waits_for_the_gpu_as_seldom_as_can_be(cupy):
    model = GPT(CONFIG).to(np.float64).to("cuda")
    opt = AdamW(model.parameters(), lr=1e-2)
    train_step(model, opt, *batch())
    before = cupy.synchronisations
    train_step(model, opt, *batch())
    assert cupy.synchronisations - before <= 1 + len(opt._blocks()), "the loss, and the norm of each stretch"


def test_dropout_on_the_device_is_seeded(cupy):
    def ones(seed):
        return F.dropout(Tensor(np.ones((50, 40)), device="cuda"), 0.25, rng=np.random.default_rng(seed)).numpy()

    assert (ones(1) == ones(1)).all() and (ones(1) != ones(2)).any()
    assert abs((ones(1) == 0).mean() - 0.25) < 0.03
    np.testing.assert_allclose(np.unique(ones(1)), [0, 4 / 3], rtol=1e-6)
    assert trained("cuda", dropout=0.2)[0] == trained("cuda", dropout=0.2)[0]


def test_clipping_by_the_function(cupy):
    p = nn.Parameter(draw(3), device="cuda")
    (p * 10).sum().backward()
    assert abs(clip_grad_norm_([p], 1.0) - 10 * 3 ** 0.5) < 1e-9
    np.testing.assert_allclose(backend.to_host(p.grad), np.full(3, 3 ** -0.5))


@pytest.mark.parametrize("mask", [None, np.array([[0, 1, 1], [1, 1, 1]], bool)])
def test_writing_on_the_device_is_writing_on_the_host(cupy, mask):
    model = GPT(CONFIG, rng=np.random.default_rng(3)).to(np.float64)
    idx = np.array([[1, 2, 3], [4, 5, 6]])
    here, over_there = (generate(model.to(device), idx, 12, rng=np.random.default_rng(0), top_k=5, mask=mask)
                        for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(over_there.tokens, here.tokens, strict=True)
    np.testing.assert_allclose(over_there.logprobs, here.logprobs, rtol=1e-9)


def test_a_reward_model_and_answers_on_the_device(cupy):
    gpt, (idx, _) = GPT(CONFIG).to(np.float64), batch()
    mask = np.arange(8) >= np.array([[3], [0], [5]])
    results = []
    for device in ("cpu", "cuda"):
        gpt.to(device)
        reward = RewardModel(gpt, rng=np.random.default_rng(1)).to(np.float64)
        reward.normalise(np.array([1.0, 3.0]))
        results.append((reward(idx, np.array([7, 3, 5])).numpy(), answer_logprobs(gpt, idx, mask).numpy()))
    for here, over_there in zip(*results):
        np.testing.assert_allclose(over_there, here, rtol=1e-9)


def test_a_checkpoint_goes_to_the_host_and_back(cupy, tmp_path):
    def fresh(device, seed):
        model = GPT(CONFIG, rng=np.random.default_rng(seed)).to(np.float64).to(device)
        return {"model": model, "opt": AdamW(model.parameters(), lr=1e-2)}

    run = fresh("cuda", 0)
    loss = [train_step(*run.values(), *batch(i)) for i in range(2)]
    checkpoint.save(tmp_path / "a", checkpoint.pack(run)[0], {})
    following = train_step(*run.values(), *batch(2))
    for device in ("cuda", "cpu"):
        again = fresh(device, 1)
        checkpoint.unpack(again, checkpoint.load(tmp_path / "a")[0], {f"model/{i}": m.rng.bit_generator.state
                          for i, m in enumerate(again["model"].modules()) if hasattr(m, "rng")})
        assert again["opt"].step_count == 2
        np.testing.assert_allclose(train_step(*again.values(), *batch(2)), following, rtol=1e-5)
    assert loss[0] > 0


def test_ids_are_checked_on_both_sides(cupy):
    model = GPT(CONFIG).to(np.float64).to("cuda")
    for ids in (np.array([[1, 11]]), cupy.asarray(np.array([[1, 11]]))):
        refused(IndexError, ["token id 11", r"\(0, 1\)"], model, ids)
        refused(IndexError, ["target 11"], model.loss, np.array([[1, 2]]), ids)


# ---- float32 goes to the kernels, which run on the emulator here ----------------------------------------------------

needs_compiler = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")


@pytest.fixture
def launched(cupy, monkeypatch):
    """The names of the kernels that were launched."""
    names, function = [], kernels.function

    def noted(xp, file, kernel):
        names.append(kernel.split("<")[0])
        return function(xp, file, kernel)

    monkeypatch.setattr(kernels, "function", noted)
    return names


MASKS = {                                                                 # options of attention, B 2, H 4, T 3, S 5
    "boolean, of all": dict(attn_mask=np.random.default_rng(0).random((2, 4, 3, 5)) < 0.6),
    "boolean, of sequences, causal": dict(attn_mask=np.arange(5) >= np.array([[1], [4]])[:, None, None], is_causal=True),
    "boolean, that hides all of a row": dict(attn_mask=np.arange(3)[:, None] != np.ones(5, int)),
    "boolean, and lengths": dict(attn_mask=np.random.default_rng(1).random((3, 5)) < 0.6, key_lengths=np.array([5, 2])),
    "numbers": dict(attn_mask=np.random.default_rng(2).standard_normal((4, 3, 5))),
    "numbers that forbid, and lengths": dict(attn_mask=np.where(np.eye(3, 5) > 0, -np.inf, 0.5),
                                             key_lengths=np.array([0, 4])),
}


@needs_compiler
@pytest.mark.parametrize("mask", MASKS)
def test_attention_under_a_mask_launches_the_masked_softmax(cupy, launched, mask):
    """Whose kernels of its own know only causal and length masks; grouped queries among them."""
    arrays, results = [draw(*shape, seed=i) for i, shape in enumerate([(2, 4, 3, 6), (2, 2, 5, 6), (2, 2, 5, 6)])], []
    for device, dtype in (("cpu", np.float64), ("cuda", np.float32)):
        options = {name: x if x is True else backend.to_device(x, device) for name, x in MASKS[mask].items()}
        tensors = [Tensor(a.astype(dtype), True, device=device) for a in arrays]
        y = F.scaled_dot_product_attention(*tensors, **options)
        y.backward(draw(*y.shape).astype(dtype))
        results.append([y.numpy(), *(backend.to_host(t.grad) for t in tensors)])
    for here, over_there in zip(*results):
        np.testing.assert_allclose(over_there, here, rtol=1e-5, atol=1e-6)
    assert launched == ["masked_softmax_forward"]


@needs_compiler
@pytest.mark.parametrize("shape, mask", [((2, 3), MASK), ((5,), np.arange(5) > 1), ((2, 3), np.array(True)),
                                         ((2, 1, 2, 3, 4), MASK[..., None]), ((0, 3), MASK[:1])])
def test_masked_softmax_launches_its_kernel(cupy, launched, shape, mask):
    (here, dx), (over_there, moved) = ((y.numpy(), backend.to_host(x.grad)) for x, y in (
        masked_weights(shape, mask, *place) for place in (("cpu", np.float64), ("cuda", np.float32))))
    np.testing.assert_allclose(over_there, here, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved, dx, rtol=1e-5, atol=1e-6)
    assert launched == ["masked_softmax_forward", "softmax_backward"] * (0 not in shape)


def masked_weights(shape, mask, device, dtype):
    x = Tensor(draw(*shape).astype(dtype), True, device=device)
    y = F.masked_softmax(x, there(mask, x))
    y.backward(draw(*shape, seed=1).astype(dtype))
    return x, y


@needs_compiler
def test_writing_behind_padding_launches_the_masked_softmax(cupy, launched):
    model, idx = GPT(CONFIG, rng=np.random.default_rng(3)), np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]], bool)
    here, over_there = (generate(model.to(device), idx, 3, rng=np.random.default_rng(0), mask=mask)
                        for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(over_there.tokens, here.tokens, strict=True)
    np.testing.assert_allclose(over_there.logprobs, here.logprobs, rtol=1e-4)
    assert launched.count("masked_softmax_forward") == 3 * CONFIG.n_layer


# ---- slips are caught -----------------------------------------------------------------------------------------------

SLIPS = {
    "a function of NumPy": lambda x: np.exp(x),
    "NumPy's sum over a list": lambda x: np.concatenate([x, x]),
    "an implicit copy": lambda x: np.asarray(x),
    "a host buffer filled": lambda x: np.zeros(x.shape).__setitem__(..., x),
    "a device buffer filled from the host": lambda x: x.__setitem__(..., np.zeros(x.shape)),
    "a host mask": lambda x: backend.array_module(x).where(np.ones(x.shape, bool), x, 0),
    "a host index": lambda x: x[np.array([0, 1])],
    "a host operand": lambda x: x * np.ones(x.shape),
    "a host operand first": lambda x: np.ones(x.shape) @ x.T,
    "a host operand in place": lambda x: x.__iadd__(np.ones(x.shape)),
    "a function that CuPy lacks": lambda x: backend.array_module(x).vecdot(x, x),
    "an option that CuPy lacks": lambda x: x.max(initial=0),
    "a number as a mask": lambda x: backend.array_module(x).where(True, x, 0),
    "a list of numbers": lambda x: backend.array_module(x).flip([1.0, 2.0]),
    "another sort": lambda x: backend.array_module(x).argsort(x, kind="mergesort"),
    "a host gather": lambda x: np.ones(9).take(x.astype(np.int64)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_slips_are_caught(cupy, slip):
    with pytest.raises((TypeError, AttributeError, ValueError)):
        SLIPS[slip](cupy.asarray(draw(2, 3)))


def test_a_slip_in_an_operation_is_caught(cupy, monkeypatch):
    """One call of NumPy instead of the array's module, deep in the model, and the step fails; what NumPy leaves in memory
    that nobody wrote is NaN."""
    monkeypatch.setattr("tinygrad_lm.ops.reduce.array_module", lambda x: np)
    with pytest.raises((TypeError, AttributeError)):
        trained("cuda", steps=1)
    assert np.isnan(cupy.empty(3).get()).all()
