"""The transformer by configuration: positions that turn, heads that share keys, parts in parallel, and BERT."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, detect_anomaly, functional as F, no_grad
from tinygrad_lm.models import BERT, GPT, GPTConfig
from tinygrad_lm.models.bert import hide, sentence_embedding
from tinygrad_lm.models.longer import extended
from tinygrad_lm.models.quantised import Int8Linear
from tinygrad_lm.models.rotary import frequencies, rotary_angles
from tinygrad_lm.optim import AdamW
from tinygrad_lm.tensor import Node
from tinygrad_lm.train import train_step

V, T = 7, 6
LLAMA = dict(norm="rms", activation="silu", gated=True, position="rotary", bias=False, tied=False, n_kv_head=2, n_head=4)
NEOX = dict(order="parallel", activation="gelu", position="rotary", rotary_share=0.5, tied=False, n_head=2)
BERTS = dict(order="post", causal=False, segments=2, activation="gelu", n_head=2)
SHAPES = {"gpt2": dict(n_head=2), "llama": LLAMA, "neox": NEOX,
          "scaled": LLAMA | dict(rope_scaling={"kind": "ntk", "factor": 2.0}),
          "wide heads": LLAMA | dict(head_size=6), "relu": dict(activation="relu", bias=False, n_head=2)}


def build(kind=GPT, **shape):
    """In float64, with weights so large that every part matters."""
    rng = np.random.default_rng(0)
    model = kind(GPTConfig(V, T, **dict(n_layer=2, n_embd=8) | shape), rng=rng).to(np.float64)
    for p in model.parameters():
        p.data[...] += rng.normal(0, 0.3, p.shape)
    return model


def ids(B=2, seed=0):
    return np.random.default_rng(seed).integers(0, V, (B, T))


@pytest.mark.parametrize("name", SHAPES)
def test_gradients(name):
    """Of every parameter, by central differences."""
    model = build(**SHAPES[name] | dict(n_layer=1))
    own = list(model.named_parameters())
    model.loss(ids(1), ids(1, 1)).backward()
    rng = np.random.default_rng(1)
    for name, p in own:                                  # along a random direction each: enough to tell any slip
        d, eps = rng.standard_normal(p.shape), 1e-6
        before = p.data.copy()
        high, low = (shifted(model, p, before + s * eps * d) for s in (1, -1))
        p.data[...] = before
        assert (high - low) / (2 * eps) == pytest.approx((p.grad * d).sum(), rel=1e-6, abs=1e-8), name


def shifted(model, p, value):
    p.data[...] = value
    with no_grad():
        return model.loss(ids(1), ids(1, 1)).item()


def test_the_plain_block_in_one_operation_is_its_parts_to_the_bit():
    """And what is not plain goes the other way: dropout, another kind of layer, detect_anomaly."""
    def loss_and_gradients(**shape):
        model = build(n_head=2, **shape)
        loss = model.loss(ids(), ids(seed=1))
        blocks = [node.name for node in operations(loss)].count("block")
        loss.backward()
        return blocks, loss.item(), [p.grad for p in model.parameters()]

    fused, loss, gradients = loss_and_gradients()
    with detect_anomaly():
        composed, *expected = loss_and_gradients()
    assert (fused, composed) == (2, 0) and loss == expected[0]
    for ours, theirs in zip(gradients, expected[1]):
        np.testing.assert_array_equal(ours, theirs)
    for other in (dict(dropout=0.1), dict(bias=False), dict(attention_bias=False), dict(activation="gelu"),
                  dict(order="post")):
        assert loss_and_gradients(**other)[0] == 0
    assert build(n_head=2, dropout=0.1).eval().blocks[0].is_plain()
    model = build(n_head=2)
    model.blocks[0].mlp.fc = Int8Linear(model.blocks[0].mlp.fc.weight.data.astype("f4"))
    assert [block.is_plain() for block in model.blocks] == [False, True]


def operations(y):
    nodes, stack = [], [y.node]
    while stack:
        nodes.append(stack.pop())
        stack += [t for t in nodes[-1].inputs or () if isinstance(t, Node)]
    return nodes


@pytest.mark.parametrize("name", SHAPES)
def test_no_token_sees_the_future(name):
    model, a = build(**SHAPES[name]), ids()
    b = a.copy()
    b[:, 4:] = (b[:, 4:] + 1) % V
    x, y = model(a).data, model(b).data
    np.testing.assert_allclose(x[:, :4], y[:, :4], rtol=1e-12, atol=1e-12)
    assert (abs(x[:, 4:] - y[:, 4:]) > 1e-3).any(-1).all()


@pytest.mark.parametrize("name", SHAPES)
def test_it_learns(name):
    model = GPT(GPTConfig(V, T, **dict(n_layer=2, n_embd=16) | SHAPES[name]))
    opt, idx = AdamW(model.parameters(), lr=1e-2), ids(4)
    losses = [train_step(model, opt, idx[:, :-1], idx[:, 1:]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_rotary_scores_depend_on_the_distance_alone():
    config = GPTConfig(V, 64, n_embd=16, n_head=2, position="rotary")
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 1, 1, 1, 8))

    def score(i, j):
        cos, sin = rotary_angles(config, np.array([i, j]), q)
        turned = [F.rotary(Tensor(x), cos[n:n + 1], sin[n:n + 1]).data for n, x in enumerate((q, k))]
        return (turned[0] * turned[1]).sum()

    assert score(5, 2) == pytest.approx(score(40, 37), rel=1e-12) and abs(score(5, 2) - score(5, 3)) > 1e-3


def test_scaled_frequencies():
    """Linear: all as many times slower. NTK: the slowest as many times, the fastest not at all. LLaMA 3's: fast pairs
    stay, slow ones are slower, those between lie between."""
    def f(**scaling):
        return np.array(frequencies(GPTConfig(V, 4096, n_embd=64, n_head=1, position="rotary",
                                              rope_scaling=scaling or None)))

    plain = f()
    np.testing.assert_allclose(plain, 10000.0 ** (-np.arange(0, 64, 2) / 64))
    np.testing.assert_allclose(f(kind="linear", factor=4.0), plain / 4)
    ntk = f(kind="ntk", factor=4.0)
    assert ntk[0] == plain[0] and ntk[-1] == pytest.approx(plain[-1] / 4) and (np.diff(plain / ntk) > 0).all()
    share = plain / f(kind="llama3", factor=8.0, low=1.0, high=4.0, length=512)
    turns = 512 * plain / (2 * np.pi)
    assert (share[turns > 4] == 1).all() and np.allclose(share[turns < 1], 8)
    between = share[(turns < 4) & (turns > 1)]
    assert len(between) and ((1 < between) & (between < 8)).all()


def test_a_longer_model_shares_its_weights_and_reads_on():
    """As it is, it reads the old texts as before. Linear: every pair turns half as fast; NTK: the slowest does."""
    model, long = build(**SHAPES["wide heads"]), np.random.default_rng(2).integers(0, V, (1, 2 * T))
    models = {kind: extended(model, 2 * T, kind) for kind in (None, "linear", "ntk")}
    for kind, longer in models.items():
        assert longer(long).shape == (1, 2 * T, V) and model.config.block_size == T
        assert all(p is q for p, q in zip(longer.parameters(), model.parameters()))
        assert (longer(ids()).data == model(ids()).data).all() == (kind is None)
    own, stretched = (np.array(frequencies(m.config)) for m in (model, models["linear"]))
    np.testing.assert_array_equal(stretched, own / 2)
    ntk = np.array(frequencies(models["ntk"].config))
    assert ntk[0] == own[0] and ntk[-1] == pytest.approx(own[-1] / 2)


@pytest.mark.parametrize("shape, arguments, words", [
    (dict(n_head=2), (2 * T, "ntk"), "only a GPT with rotary positions .* position='learned', which has learned its 6"),
    (SHAPES["scaled"], (2 * T, "ntk"), "stretched already, by .*extend the one it was made from"),
    (LLAMA, (T, "ntk"), "block_size=6 is no longer than the model's 6"),
    (LLAMA, (2 * T, "yarn"), "not at all .None., not 'yarn'")])
def test_what_cannot_be_extended(shape, arguments, words):
    with pytest.raises(ValueError, match=words):
        extended(build(**shape), *arguments)


# ---- BERT ------------------------------------------------------------------------------------------------------------

def test_bert_sees_in_both_directions_and_padding_does_not_count():
    model, idx = build(BERT, **BERTS), ids()
    other = idx.copy()
    other[:, -1] = (other[:, -1] + 1) % V
    assert (abs(model(idx).data[:, 0] - model(other).data[:, 0]) > 1e-4).any()
    mask = np.array([[True] * 4 + [False] * 2, [True] * 6])
    np.testing.assert_allclose(model(idx, mask=mask).data[:1, :4], model(idx[:1, :4]).data, rtol=1e-10)
    np.testing.assert_allclose(sentence_embedding(model, idx, mask)[0],
                               sentence_embedding(model, idx[:1, :4], mask[:1, :4])[0])


def test_bert_segments_matter():
    model, idx = build(BERT, **BERTS), ids()
    segments = np.arange(T)[None].repeat(2, 0) // 3
    np.testing.assert_array_equal(model(idx).data, model(idx, segments=0 * segments).data)
    assert (abs(model(idx).data - model(idx, segments=segments).data) > 1e-4).any()


def test_bert_fills_a_blank():
    """Sentences 0 1 2 3 4 5 and their rotations: what is hidden follows from its neighbours."""
    rng, hidden = np.random.default_rng(0), V - 1
    model = BERT(GPTConfig(V, T, n_layer=1, n_embd=32, **BERTS), rng=rng)
    opt = AdamW(model.parameters(), lr=3e-3)
    for _ in range(250):
        text = (rng.integers(0, 6, (32, 1)) + np.arange(T)) % 6
        inputs, targets = hide(text, hidden=hidden, vocab_size=V, rng=rng, share=0.3)
        train_step(model, opt, inputs, targets)
    text = (np.arange(6)[:, None] + np.arange(T)) % 6
    blank = text.copy()
    blank[:, 2] = hidden
    assert (model(blank).data[:, 2].argmax(-1) == text[:, 2]).all()


@given(st.integers(0, 2**32 - 1))
def test_hide(seed):
    """15 % are targets; of these 80 % are hidden, 10 % another token, 10 % stay; what may not be chosen is not."""
    rng = np.random.default_rng(seed)
    idx, real = rng.integers(0, 1000, (40, 100)), rng.random((40, 100)) < 0.9
    inputs, targets = hide(idx, hidden=1000, vocab_size=1000, rng=rng, real=real)
    chosen = targets != -100
    assert (targets[chosen] == idx[chosen]).all() and (inputs[~chosen] == idx[~chosen]).all() and not (chosen & ~real).any()
    n = chosen.sum()
    assert abs(n / real.sum() - 0.15) < 0.03
    assert abs((inputs[chosen] == 1000).mean() - 0.8) < 0.1 and abs((inputs[chosen] == idx[chosen]).mean() - 0.1) < 0.07


def test_what_a_bert_is_not():
    with pytest.raises(ValueError, match="sees in both directions"):
        BERT(GPTConfig(V, T))
    model = BERT(GPTConfig(V, T, n_embd=8, **BERTS), head=False)
    with pytest.raises(RuntimeError, match="no head that guesses"):
        model(ids())
    with pytest.raises(ValueError, match="7 tokens and the model's block_size is 6"):
        model.hidden(np.zeros((1, 7), int))


def test_of_an_odd_number_of_channels_the_last_turns_with_the_next():
    """As in GPT-NeoX: the angles are of 3 channels, 2 pairs turn."""
    c = GPTConfig(V, T, n_head=1, n_embd=6, position="rotary", rotary_share=0.5)
    assert frequencies(c) == pytest.approx((1, 10000 ** (-2 / 3)))


@pytest.mark.parametrize("wrong, words", [
    (dict(n_head=4, n_kv_head=3), "n_kv_head=3 heads of keys cannot serve n_head=4"),
    (dict(norm="batch"), "norm is one of layer, rms, not 'batch'"),
    (dict(position="rotary", rotary_share=1.5), r"in \(0, 1\], not 1.5"),
    (dict(position="rotary", head_size=5), "rotary_share=1.0 of head_size=5 are 5 channels, and channels turn in pairs"),
    (dict(position="rotary", head_size=8, rotary_share=0.1), "rotary_share=0.1 of head_size=8 are 0 channels"),
    (dict(rope_scaling={"kind": "linear"}), "rope_scaling is one of linear with"),
    (dict(n_inner=0), "n_inner must be at least 1, not 0")])
def test_shapes_that_cannot_be(wrong, words):
    with pytest.raises(ValueError, match=words):
        GPTConfig(V, T, **wrong)
