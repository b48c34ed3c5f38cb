"""The GPT: right gradients in every parameter, blind to the future, and the same with a cache, with padding, in float32."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import backend, gradcheck, no_grad
from tinygrad_lm.models import GPT, GPTConfig, RewardModel
from tinygrad_lm.models.transformer import KVCache
from tinygrad_lm.nn import Dropout

from . import checks

on_every_device = pytest.mark.usefixtures("device")
V, BLOCK = 7, 8


def tiny(dtype=np.float64, seed=0, **shape):
    """A GPT with weights so large that every part of it matters."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(**dict(vocab_size=V, block_size=BLOCK, n_layer=2, n_head=2, n_embd=8) | shape), rng=rng).to(dtype)
    for p in model.parameters():
        p.data[...] += rng.normal(0, 0.3, p.shape)
    return checks.place(model)


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, V, shape)


def logits(model, idx, **options):
    with no_grad():
        return model(idx, **options).numpy()


def grads(model, loss):
    for p in model.parameters():
        p.grad = None
    loss.backward()
    return {n: p.grad if p.grad is None else backend.to_host(p.grad) for n, p in model.named_parameters()}


def check_parameters(model, loss):
    """The gradient of loss() in every parameter is that of central differences; on a device, in float64 and in float32, it
    is what the host says."""
    if checks.device == "cpu":
        return gradcheck(lambda *parameters: loss(), *model.parameters())
    expected = grads(model.to("cpu"), loss())
    for dtype, tolerance in checks.TOLERANCE.items():
        for name, g in grads(model.to(dtype).to(checks.device), loss()).items():
            assert g.dtype == dtype
            np.testing.assert_allclose(g, expected[name], **tolerance, err_msg=name)


# ---- gradients ------------------------------------------------------------------------------------------------------

@on_every_device
@pytest.mark.parametrize("mask", [None, np.arange(4) >= np.array([[0], [2]])], ids=["fused attention", "masked"])
def test_the_gradient_of_every_parameter(mask):
    model, idx, targets = tiny(n_embd=4), ids(2, 4), ids(2, 4, seed=1)
    targets[1, :2] = -100
    check_parameters(model, lambda: model.loss(idx, targets, mask=mask))
    assert all(g.any() for g in grads(model, model.loss(idx, targets, mask=mask)).values())


@on_every_device
def test_without_biases():
    """nanoGPT's kind: matrices and the norms' weights alone, each with its gradient."""
    model = tiny(bias=False)
    assert not any(name.endswith("bias") for name, _ in model.named_parameters()) and len(model.blocks[0].parameters()) == 6
    check_parameters(model, lambda: model.loss(ids(1, 3), ids(1, 3, seed=1)))


@on_every_device
def test_the_tied_head_receives_both_gradients_and_counts_once():
    model, idx = tiny(), np.full((1, 3), 2)
    assert "head" not in " ".join(model.state_dict()) and model.n_parameters() == sum(a.size for a in model.state_dict().values())
    c = GPTConfig(65, 64, n_layer=4, n_head=4, n_embd=128)
    C = c.n_embd
    assert GPT(c).n_parameters() == (65 + 64) * C + 4 * (12 * C * C + 13 * C) + 2 * C
    g = grads(model, model.loss(idx, ids(1, 3)))["wte.weight"]
    assert (g != 0).all(axis=-1).all()                          # as a head every row; as an embedding row 2 alone


@on_every_device
def test_the_loss_is_the_mean_over_targets_that_count():
    model, idx, targets = tiny(), ids(3, 5), ids(3, 5, seed=1)
    targets[0, 3:], targets[2] = -100, -100
    z = logits(model, idx)
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    wanted = [-logp[b, t, targets[b, t]] for b in range(3) for t in range(5) if targets[b, t] != -100]
    assert model.loss(idx, targets).item() == pytest.approx(np.mean(wanted), rel=1e-12)


@on_every_device
def test_float32_is_close_to_float64():
    small, exact, idx, targets = tiny(np.float32), tiny(), ids(4, 8), ids(4, 8, seed=1)
    exact.load_state_dict(small.state_dict())
    a, b = small.loss(idx, targets), exact.loss(idx, targets)
    assert a.dtype == np.float32 and a.item() == pytest.approx(b.item(), rel=1e-5)
    ga, gb = grads(small, a), grads(exact, b)
    for name in ga:
        assert ga[name].dtype == np.float32
        np.testing.assert_allclose(ga[name], gb[name], atol=1e-5, err_msg=name)


# ---- what a token may see -------------------------------------------------------------------------------------------

@on_every_device
@given(st.integers(1, BLOCK), st.data())
def test_the_future_changes_nothing(T, data):
    t, seed = data.draw(st.integers(0, T - 1)), data.draw(st.integers(0, 99))
    model, idx = tiny(seed=seed), ids(2, T, seed=seed)
    other = idx.copy()
    other[:, t + 1:] = (other[:, t + 1:] + 1) % V
    np.testing.assert_array_equal(logits(model, idx)[:, :t + 1], logits(model, other)[:, :t + 1])
    g, h = (grads(model, model(i)[:, :t + 1].sum()) for i in (idx, other))
    for name in g:
        np.testing.assert_allclose(g[name], h[name], atol=1e-12, err_msg=name)
    assert not g["wpe.weight"][t + 1:].any() and g["wpe.weight"][:t + 1].any()
    if t + 1 < T:
        assert not np.allclose(logits(model, idx)[:, t + 1:], logits(model, other)[:, t + 1:])


@on_every_device
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2), st.integers(0, 3), st.integers(0, 99))
def test_padding_changes_nothing(lengths, left, right, seed):
    """Logits, loss and gradients of the real tokens are those of each row alone, whatever stands around them."""
    model, longest = tiny(seed=seed), max(lengths)
    rows = [ids(n, seed=seed + n) for n in lengths]
    T = left + longest + (right if right + left + longest <= BLOCK else 0)
    idx, targets = ids(len(rows), T, seed=seed + 50), np.full((len(rows), T), -100)
    mask = np.zeros(idx.shape, bool)
    for b, row in enumerate(rows):
        real = slice(left + longest - len(row), left + longest)              # flush right, then padding on the right
        idx[b, real], targets[b, real], mask[b, real] = row, (row + 1) % V, True
    together = logits(model, idx, mask=mask)
    for b, row in enumerate(rows):
        np.testing.assert_allclose(together[b, mask[b]], logits(model, row[None])[0], atol=1e-12)
    alone = sum(model.loss(row[None], (row[None] + 1) % V) * len(row) for row in rows)
    alone, loss = alone / sum(lengths), model.loss(idx, targets, mask=mask)
    assert loss.item() == pytest.approx(alone.item(), rel=1e-12)
    g, h = grads(model, loss), grads(model, alone)
    for name in g:
        np.testing.assert_allclose(g[name], h[name], atol=1e-12, err_msg=name)


@on_every_device
def test_padding_on_the_right_needs_no_mask():
    model, idx = tiny(), ids(2, 5)
    longer = np.concatenate([idx, ids(2, 3, seed=9)], axis=1)
    np.testing.assert_allclose(logits(model, longer)[:, :5], logits(model, idx), atol=1e-12)


# ---- the cache ------------------------------------------------------------------------------------------------------

@on_every_device
@given(st.integers(1, BLOCK), st.integers(0, 99), st.data())
def test_the_cache_equals_no_cache(T, seed, data):
    """Read in pieces of any size; each row with padding of its own on the left."""
    B = data.draw(st.integers(1, 3))
    pads = np.array(data.draw(st.lists(st.integers(0, T - 1), min_size=B, max_size=B)))
    mask = np.arange(T) >= pads[:, None] if pads.any() else None
    model, idx, cuts = tiny(seed=seed), ids(B, T, seed=seed), [0, *sorted(data.draw(st.sets(st.integers(1, T)))), T]
    cache, pieces = KVCache(model, B), []
    for start, stop in zip(cuts, cuts[1:]):
        if start < stop:
            piece = None if mask is None or mask[:, start:stop].all() else mask[:, start:stop]
            pieces.append(logits(model, idx[:, start:stop], mask=piece, cache=cache))
    whole, real = logits(model, idx, mask=mask), np.ones((B, T), bool) if mask is None else mask
    np.testing.assert_allclose(np.concatenate(pieces, axis=1)[real], whole[real], atol=1e-12)
    assert cache.length == T


def test_a_cache_is_for_decoding_only():
    model = tiny()
    with pytest.raises(RuntimeError, match="no_grad"):
        model(ids(1, 2), cache=KVCache(model, 1))


# ---- errors ---------------------------------------------------------------------------------------------------------

def test_a_sequence_longer_than_the_block():
    model = tiny()
    with pytest.raises(ValueError, match="9 tokens and the model's block_size is 8: shorten it"):
        model(ids(1, 9))
    cache = KVCache(model, 1)
    logits(model, ids(1, 8), cache=cache)
    with pytest.raises(ValueError, match="9 tokens"):
        logits(model, ids(1, 1), cache=cache)


@pytest.mark.parametrize("bad", [-1, V])
def test_a_token_out_of_range(bad):
    with pytest.raises(IndexError, match=rf"token id {bad} at position \(0, 1\).*{V} entries"):
        tiny()(np.array([[0, bad]]))
    with pytest.raises(IndexError, match=f"target {bad} "):
        tiny().loss(np.array([[0, 1]]), np.array([[0, bad]]))


def test_ids_of_the_wrong_kind():
    with pytest.raises(TypeError, match="integers"):
        tiny()(np.array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"\(batch, time\)"):
        tiny()(np.array([0, 1]))


@pytest.mark.parametrize("wrong, says", [(dict(n_embd=10, n_head=4), "split evenly"), (dict(n_layer=0), "n_layer"),
                                         (dict(vocab_size=0), "vocab_size"), (dict(block_size=-1), "block_size"),
                                         (dict(n_head=0), "n_head"), (dict(dropout=1.0), "dropout")])
def test_a_bad_configuration(wrong, says):
    with pytest.raises(ValueError, match=says):
        GPT(GPTConfig(**dict(vocab_size=5, block_size=4, n_layer=1, n_head=2, n_embd=8) | wrong))


def test_a_misspelt_option():
    with pytest.raises(TypeError, match="n_layers"):
        GPTConfig(5, 4, n_layers=2)


# ---- state ----------------------------------------------------------------------------------------------------------

def test_initial_weights():
    L = 3
    for name, p in GPT(GPTConfig(500, 200, n_layer=L, n_head=2, n_embd=64)).named_parameters():
        if p.ndim == 1:
            assert (p.data == (0 if name.endswith("bias") else 1)).all(), name
        else:
            std = 0.02 / np.sqrt(2 * L) if name.endswith("proj.weight") else 0.02
            assert p.data.std() == pytest.approx(std, rel=0.05) and abs(p.data.mean()) < 0.05 * std, name


def test_a_new_model_knows_nothing():
    model = GPT(GPTConfig(50, 16))
    assert model.loss(ids(4, 16), ids(4, 16, seed=1)).item() == pytest.approx(np.log(50), abs=0.2)


@on_every_device
def test_state_dict_round_trip():
    a, b = tiny(seed=0), tiny(seed=1)
    assert (logits(a, ids(2, 5)) != logits(b, ids(2, 5))).any()
    b.load_state_dict({name: array.copy() for name, array in a.state_dict().items()})
    np.testing.assert_array_equal(logits(a, ids(2, 5)), logits(b, ids(2, 5)))


@on_every_device
def test_dropout_is_seeded_and_off_in_eval():
    def model(seed):
        return checks.place(GPT(GPTConfig(V, BLOCK, 1, 2, 8, dropout=0.5), rng=np.random.default_rng(seed)))
    a, b, idx = model(3), model(3), ids(2, 5)
    first = logits(a, idx)
    np.testing.assert_array_equal(first, logits(b, idx))
    assert (first != logits(a, idx)).any()                      # another draw
    np.testing.assert_array_equal(logits(a.eval(), idx), logits(a, idx))
    assert (logits(a, idx) != logits(b, idx)).any()


def test_dropout_acts_on_the_embeddings_and_on_what_each_block_adds(monkeypatch):
    calls = []
    monkeypatch.setattr(Dropout, "forward", lambda self, x: calls.append(x.shape) or x)
    logits(tiny(n_layer=3, dropout=0.1), ids(2, 5))
    assert calls == [(2, 5, 8)] * (1 + 2 * 3)


# ---- the heads ------------------------------------------------------------------------------------------------------

@on_every_device
def test_a_reward_model_has_a_body_of_its_own():
    gpt = tiny()
    before = {name: a.copy() for name, a in gpt.state_dict().items()}
    model = RewardModel(gpt, rng=np.random.default_rng(0))
    for p in model.parameters():
        p.data[...] += 1
    assert all((before[name] == a).all() for name, a in gpt.state_dict().items())


def test_the_head_of_a_reward_model_starts_as_stiennon_has_it():
    gpt = GPT(GPTConfig(V, BLOCK, 1, 2, 512))
    head = RewardModel(gpt, rng=np.random.default_rng(0)).weight.data
    assert head.std() == pytest.approx(513 ** -0.5, rel=0.1)
    assert not RewardModel(gpt).values(ids(2, 5)).data.any()    # a value model knows nothing yet
