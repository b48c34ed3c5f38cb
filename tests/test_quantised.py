"""Weights in few bits: no weight further than half a step from what it becomes, and the same network with less memory."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import no_grad
from tinygrad_lm.checkpoint import CheckpointError, load, pack, save
from tinygrad_lm.decode import decoder
from tinygrad_lm.generate import generate
from tinygrad_lm.models import BERT, GPT, GPTConfig, quantised
from tinygrad_lm.models.cache import KVCache
from tinygrad_lm.models.saved import describe, load_model
from tinygrad_lm.nn import Linear
from tinygrad_lm.ops import quantise as q
from tinygrad_lm.text.char import CharTokenizer

from .test_transformer import BERTS, SHAPES, T, V, build, ids


@st.composite
def weights(draw):
    """Rows of many sizes: some are zeros, some one number, some tiny, some with one weight far outside."""
    O, I = draw(st.integers(1, 9)), draw(st.integers(1, 100))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    w = rng.normal(size=(O, I)) * 10.0 ** rng.integers(-9, 2, (O, 1))
    for row in w:
        kind = rng.integers(6)
        if kind == 0:
            row[:] = 0
        elif kind == 1:
            row[:] = row[0]
        elif kind == 2:
            row[rng.integers(I)] *= 50
        elif kind == 3:
            row += row[0] * 100
    return w.astype(np.float32)


@given(weights())
def test_int8_is_within_half_a_step(w):
    codes, scale = q.int8_rows(w)
    assert (codes.shape, codes.dtype, scale.shape, scale.dtype) == (w.shape, np.int8, w.shape[:1], np.float32)
    error = abs(w.astype(float) - q.int8_weight(codes, scale))
    assert (error <= scale[:, None] * 0.5 + 2e-7 * abs(w)).all()
    np.testing.assert_allclose(scale, abs(w).max(-1) / 127, rtol=1e-6)             # no step is longer than need be
    assert not (codes[~w.any(-1)]).any()


@given(weights(), st.sampled_from([q.GROUP, 2, 64, 128]))
def test_int4_is_within_half_a_step(w, group):
    codes, scale, low = q.int4_groups(w, group)
    (O, I), G = w.shape, -(-w.shape[1] // group)
    assert codes.shape == (G, group // 2, O) and codes.nbytes == G * O * group // 2            # two a byte
    assert codes.flags.c_contiguous                          # outputs along memory: read otherwise it takes five times longer
    assert scale.shape == low.shape == (G, O) and scale.nbytes == low.nbytes == 2 * G * O
    again = q.int4_weight(codes, scale, low).reshape(-1, O)[:I].T
    step = scale.astype(float).repeat(group, 0)[:I].T
    assert (abs(w - again.astype(float)) <= step / 2 + 2e-7 * abs(w).max()).all()
    groups = [w[:, g:g + group] for g in range(0, I, group)]
    span = np.array([g.max(1) - g.min(1) for g in groups])
    ulp = 2.0 ** -10                                         # of float16, below and above; 6e-8 of its smallest numbers
    assert (scale <= (span + ulp * abs(w).max(-1) + 6e-8) / 15.0 * (1 + 1.01 * ulp) + 6e-8).all()   # and none is longer


@given(weights(), st.integers(1, 5), st.integers(1, 5000), st.sampled_from([1, 3, 99]), st.sampled_from([q.GROUP, 4, 64]),
       st.integers(0, 99))
def test_products_are_those_of_the_weights_turned_back(w, N, block, few, group, seed):
    """Whatever the size of the blocks, and whether sums are scaled or weights."""
    x = np.random.default_rng(seed).normal(size=(N, w.shape[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(q, "BLOCK", block)
        patch.setattr(q, "FEW", few)
        codes = q.int8_rows(w)
        again = q.int8_weight(*codes).T
        np.testing.assert_allclose(q.int8_product(x, *codes), x @ again, rtol=1e-6, atol=1e-6 * abs(w).max())
        codes = q.int4_groups(w, group)
        again = q.int4_weight(*codes).reshape(-1, len(w))[:w.shape[1]]
        np.testing.assert_allclose(q.int4_product(x, *codes), x @ again, rtol=1e-6, atol=1e-5 * abs(w).max())


def test_every_finite_float16_is_the_same_number():
    x = np.arange(2**16).astype(np.uint16).view(np.float16)
    x = x[np.isfinite(x)]
    np.testing.assert_array_equal(q.from_float16(x).view(np.int32), x.astype(np.float32).view(np.int32))       # −0 too


@pytest.mark.parametrize("how", [q.int8_rows, q.int4_groups])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(how, bad):
    w = np.ones((3, 40), np.float32)
    w[1, 37] = bad
    with pytest.raises(ValueError, match=rf"weight at \(1, 37\) is {bad}"):
        how(w)


def test_what_cannot_be_quantised():
    with pytest.raises(ValueError, match="larger than 60000"):
        q.int4_groups(np.full((2, 2), 1e5, np.float32))
    with pytest.raises(ValueError, match="not float32"):
        q.int8_rows(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="int8 or int4, not 'int2'"):
        quantised.quantise(GPT(GPTConfig(V, T)), "int2")
    with pytest.raises(TypeError, match="a GPT or a BERT can be quantised, not a Linear"):
        quantised.quantise(Linear(3, 3, rng=np.random.default_rng(0)), "int8")
    with pytest.raises(ValueError, match="quantised to int8 already"):
        quantised.quantise(quantised.quantise(GPT(GPTConfig(V, T)), "int8"), "int4")
    model = GPT(GPTConfig(V, T))
    model.blocks[1].mlp.fc.weight.data[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"blocks.1.mlp.fc: the weight at \(3, 4\) is nan"):
        quantised.quantise(model, "int4")


def turned_back(model):
    """The float32 network with exactly the weights that a quantised one stands for, as {name: array}."""
    state = {}
    for name, layer in [*quantised.layers(model), ("wte", model.wte), ("head", model.head)]:
        if not hasattr(layer, "scale"):                      # a BERT's head, and the table that it shares
            continue
        if isinstance(layer, quantised.Int4Linear):
            w = q.int4_weight(layer.weight.data, layer.scale.data, layer.low.data)
            state[f"{name}.weight"] = w.reshape(-1, w.shape[-1]).T
        else:
            state[f"{name}.weight"] = q.int8_weight(layer.weight.data, layer.scale.data)
    return state


@pytest.mark.parametrize("how", quantised.KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture_is_the_network_of_the_weights_turned_back(name, how):
    """To float32's precision; and writing with a cache takes the same tokens as reading all anew."""
    shape = SHAPES[name] | dict(n_embd=8)
    model, plain = (build(**shape).to(np.float32) for _ in range(2))
    quantised.quantise(model, how)
    for key, p in plain.named_parameters():
        w = turned_back(model).get(key)
        p.data[...] = p.data if w is None else w[:, :p.shape[1]]
    with no_grad():
        np.testing.assert_allclose(model(ids()).data, plain(ids()).data, rtol=1e-3, atol=1e-3)
        idx = ids()[:, :2]
        written = generate(model, idx, T - 2, rng=np.random.default_rng(0), temperature=0).tokens
        for _ in range(T - 2):
            idx = np.concatenate([idx, model(idx).data[:, -1:].argmax(-1)], axis=1)
    np.testing.assert_array_equal(written, idx)
    with pytest.raises(IndexError, match=r"token id 7 at position \(0, 1\)"):
        model(np.array([[0, 7]]))


@pytest.mark.parametrize("how", quantised.KINDS)
@pytest.mark.parametrize("head", [True, False])
def test_a_bert_is_the_network_of_the_weights_turned_back(head, how):
    """With its head the table stays, which the head shares, and it guesses tokens as before."""
    def bert():
        model = BERT(GPTConfig(V, T, n_embd=8, n_layer=2, **BERTS), rng=np.random.default_rng(0), head=head).to(np.float32)
        for p in model.parameters():
            p.data[...] *= 8
        return model
    model, plain = quantised.quantise(bert(), how), bert()
    assert quantised.kind(model) == how and isinstance(model.wte, quantised.Int8Embedding) != head
    for key, p in plain.named_parameters():
        w = turned_back(model).get(key)
        p.data[...] = p.data if w is None else w[:, :p.shape[1]]
    with no_grad():
        np.testing.assert_allclose(model.hidden(ids()).data, plain.hidden(ids()).data, rtol=1e-3, atol=1e-3)
        if head:
            np.testing.assert_allclose(model(ids()).data, plain(ids()).data, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("how", quantised.KINDS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "wide heads"])
def test_a_token_at_a_time_without_a_copy_of_the_weights(name, how):
    """The functions of decode.py, with padding on the left: they read what is quantised as it lies."""
    model = quantised.quantise(build(**SHAPES[name] | dict(n_embd=8)).to(np.float32), how)
    mask = np.arange(T) >= np.arange(len(ids()))[:, None]
    cache, read = KVCache(model, len(mask)), decoder(model)
    assert read.__qualname__.startswith(("gpt2_decoder", "llama_decoder"))
    with no_grad():
        whole = model(ids(), mask=mask).data
        model(ids()[:, :-2], mask=mask[:, :-2], cache=cache)
        for t in (T - 2, T - 1):
            np.testing.assert_allclose(read(ids()[:, t], cache), whole[:, t], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how, near", [("int8", 0.03), ("int4", 0.3)])
def test_scores_stay_close(how, near):
    """Relative to how much they differ from one another; 4 bits are nearer than a network with other weights by far."""
    config = GPTConfig(50, 32, n_layer=2, n_head=4, n_embd=64)
    model, other = GPT(config), GPT(config, rng=np.random.default_rng(1))
    idx = np.random.default_rng(0).integers(0, 50, (2, 32))
    with no_grad():
        before, strange = model(idx).data, other(idx).data
        after = quantised.quantise(model, how)(idx).data
    assert 0 < abs(after - before).max() < near * before.std() < abs(strange - before).max()


@pytest.mark.parametrize("tied", [True, False])
def test_memory_is_counted_to_the_byte(tied):
    shape = dict(vocab_size=50, block_size=16, n_layer=3, n_head=4, n_embd=64, bias=False, tied=tied)
    C, weights = 64, 3 * 12 * 64 * 64
    table, rest = 50 * C + 4 * 50, {"positions": 4 * 16 * C, "norm": 4 * C} | ({} if tied else {"head": 50 * C + 4 * 50})
    float32 = quantised.memory(GPT(GPTConfig(**shape)))
    assert float32 == rest | {"embedding": 4 * 50 * C, "blocks": 4 * (weights + 3 * 2 * C)} | \
        ({} if tied else {"head": 4 * 50 * C})
    outputs = 3 * (3 + 1 + 4 + 1) * C
    assert quantised.memory(quantised.quantise(GPT(GPTConfig(**shape)), "int8")) == rest | {
        "embedding": table, "blocks": weights + 4 * outputs + 4 * 3 * 2 * C}
    assert quantised.memory(quantised.quantise(GPT(GPTConfig(**shape)), "int4")) == rest | {
        "embedding": table, "blocks": weights // 2 + 4 * weights // 32 + 4 * 3 * 2 * C}


def test_no_gradient_flows_through():
    model = GPT(GPTConfig(V, T))
    quantised.quantise(model, "int8")
    assert not any(p.requires_grad for p in model.parameters())
    model.ln_f.weight.requires_grad = True
    with pytest.raises(RuntimeError, match="train in float32 and quantise"):
        model(ids())


@pytest.mark.parametrize("how", quantised.KINDS)
def test_saved_and_read_again(tmp_path, how):
    tokenizer, path = CharTokenizer("abcde"), tmp_path / "small.safetensors"
    model = quantised.quantise(GPT(GPTConfig(len(tokenizer), T, n_layer=1, n_embd=32)), how)
    save(path, pack({"model": model})[0], describe(model, tokenizer))
    again, _, meta = load_model(path)
    assert meta["quantised"] == how == quantised.kind(again) and again.wte.weight is again.head.weight
    for a, b in zip(model.parameters(), again.parameters()):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.data, b.data)
    with no_grad():
        np.testing.assert_array_equal(model(ids()).data, again(ids()).data)
    tensors, meta = load(path)
    save(path, {k: a for k, a in tensors.items() if "scale" not in k}, meta)
    with pytest.raises(CheckpointError, match="wte.scale: missing"):
        load_model(path)
    save(path, tensors, meta | {"quantised": "int3"})
    with pytest.raises(CheckpointError, match="int8 or int4, not 'int3'"):
        load_model(path)
