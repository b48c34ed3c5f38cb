"""Writing: the distribution is the one defined, the draws follow it, and what is recorded is what was drawn."""
import copy
from itertools import product

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import no_grad, parallel
from tinygrad_lm.decode import decoder
from tinygrad_lm.generate import choose_readers, generate, next_logprobs, penalise, stream
from tinygrad_lm.models.transformer import KVCache
from tinygrad_lm.text.batches import answer_mask
from tinygrad_lm.train.logprobs import token_logprobs

from .test_gpt import BLOCK, V, ids, logits, tiny
from .test_transformer import SHAPES, build, ids as arch_ids


def rng(seed=0):
    return np.random.default_rng(seed)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ---- the distribution of the next token -----------------------------------------------------------------------------

scores = st.lists(st.integers(-3, 3).map(lambda n: n * 0.7), min_size=1, max_size=6).map(lambda z: np.array([z, z[::-1]]))   # ties
temperatures = st.floats(0.05, 20)


@given(scores, temperatures)
def test_temperature_divides_the_scores(z, temperature):
    np.testing.assert_allclose(np.exp(next_logprobs(z, temperature)), softmax(z / temperature), atol=1e-12)


@given(scores, temperatures, st.integers(1, 8))
def test_top_k_keeps_the_k_likeliest(z, temperature, k):
    """And those as likely as the k-th: a tie is not broken by the token's number."""
    p = softmax(z / temperature)
    kept = z >= np.sort(z, axis=-1)[:, -min(k, z.shape[1])][:, None]
    expected = p * kept / (p * kept).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(next_logprobs(z, temperature, top_k=k)), expected, atol=1e-12)


@given(scores, temperatures, st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_whose_probability_reaches_p(z, temperature, top_p):
    for row, logp in zip(softmax(z / temperature), next_logprobs(z, temperature, top_p=top_p)):
        kept = logp > -np.inf
        assert kept.any() and row[kept].min() >= row[~kept].max(initial=0) - 1e-12        # the likeliest
        assert row[kept].sum() >= top_p - 1e-9                                            # reach p
        assert row[kept].sum() - row[kept].min() < top_p + 1e-9                           # with one less they do not
        np.testing.assert_allclose(np.exp(logp), row * kept / row[kept].sum(), atol=1e-12)


@given(scores, temperatures, st.floats(0, 1))
def test_min_p_keeps_those_at_least_p_times_as_likely_as_the_likeliest(z, temperature, min_p):
    p = softmax(z / temperature)
    share = p / p.max(-1, keepdims=True)
    kept = np.exp(next_logprobs(z, temperature, min_p=min_p)) > 0
    assert kept[share > min_p + 1e-9].all() and not kept[share < min_p - 1e-9].any()
    expected = p * kept / (p * kept).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(next_logprobs(z, temperature, min_p=min_p)), expected, atol=1e-12)


@given(scores, st.floats(0.3, 4), st.data())
def test_the_penalty_moves_seen_tokens_only_and_to_less(z, penalty, data):
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=z.size, max_size=z.size))).reshape(z.shape)
    before, after = z.copy(), penalise(z, seen, penalty)
    np.testing.assert_array_equal(z, before)
    for old, new, was_seen in zip(z.flat, after.flat, seen.flat):
        assert new == (old if not was_seen else old / penalty if old > 0 else old * penalty)
        if was_seen and old and penalty != 1:
            assert (new < old) == (penalty > 1)


def test_what_was_seen_is_prompt_and_answer_without_padding():
    """By hand: greedy with a penalty is the argmax of penalised scores of a model without cache."""
    model, (idx, mask) = tiny(), left_padded([ids(1, seed=1), ids(3, seed=2)], 0)
    start = idx.shape[1]
    written = generate(model, idx, 5, rng=rng(), temperature=0, mask=mask, repetition_penalty=5.0).tokens
    plain = generate(model, idx, 5, rng=rng(), temperature=0, mask=mask).tokens
    for _ in range(5):
        z = logits(model, idx, mask=mask)[:, -1]
        for row, text, real in zip(z, idx, mask):
            for v in set(text[real]):
                row[v] = row[v] / 5 if row[v] > 0 else row[v] * 5
        idx, mask = np.column_stack([idx, z.argmax(-1)]), np.column_stack([mask, [True, True]])
    np.testing.assert_array_equal(written, idx)
    assert (written != plain).any() and start == 3


@given(scores, st.floats(0, 20), st.none() | st.integers(1, 8), st.none() | st.floats(0.01, 1), st.none() | st.floats(0, 1))
def test_probabilities_sum_to_1(z, temperature, k, p, min_p):
    with np.errstate(all="raise", under="ignore"):
        logp = next_logprobs(z.astype(np.float32), temperature, k, p, min_p)
    assert logp.dtype == np.float32
    np.testing.assert_allclose(np.exp(logp).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-46, 5e-324])
def test_a_temperature_near_0_is_greedy(temperature):
    z = np.array([[1.0, 3.0, 2.0]], np.float32)
    assert np.exp(next_logprobs(z, temperature)).tolist() == [[0, 1, 0]]


def test_temperature_0_scales_nothing():
    z = rng().normal(size=(3, V))
    np.testing.assert_array_equal(next_logprobs(z, 0), next_logprobs(z, 1))


# ---- the draws ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_the_argmax_of_a_model_without_cache(seed):
    model, idx = tiny(seed=seed), ids(3, 2, seed=seed)
    written = generate(model, idx, 6, rng=rng(), temperature=0).tokens
    for _ in range(6):
        idx = np.concatenate([idx, logits(model, idx)[:, -1:].argmax(-1)], axis=1)
    np.testing.assert_array_equal(written, idx)


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_is_the_argmax_without_cache_for_every_architecture(name):
    model, idx = build(**SHAPES[name]), arch_ids()[:, :1]
    written = generate(model, idx, 5, rng=rng(), temperature=0).tokens
    for _ in range(5):
        idx = np.concatenate([idx, logits(model, idx)[:, -1:].argmax(-1)], axis=1)
    np.testing.assert_array_equal(written, idx)


def test_samples_follow_the_distribution_with_a_penalty():
    """The second token's distribution depends on the first: χ² of all texts of two tokens."""
    model, n = tiny(vocab_size=4), 20_000
    texts = np.array([(0, a, b) for a, b in product(range(4), repeat=2)])
    z, p = logits(model, texts), np.ones(16)
    for t in (0, 1):
        for i, text in enumerate(texts):
            row = z[i, t].copy()
            for v in set(text[:t + 1]):
                row[v] = row[v] / 2 if row[v] > 0 else row[v] * 2
            p[i] *= softmax(row)[text[t + 1]]
    drawn = generate(model, np.zeros((n, 1), int), 2, rng=rng(1), repetition_penalty=2.0).tokens
    counts = np.bincount(drawn[:, 1] * 4 + drawn[:, 2], minlength=16)
    assert p.sum() == pytest.approx(1) and ((counts - n * p) ** 2 / (n * p)).sum() < 15 + 4 * np.sqrt(30)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"temperature": 1.5, "top_k": 3}, {"top_p": 0.6},
                                     {"min_p": 0.3}])
def test_samples_follow_the_exact_distribution(options):
    """Every text of two tokens, by listing them all: χ² of 20,000 samples against what the model says."""
    model, n = tiny(vocab_size=4), 20_000
    texts = np.array([(0, a, b) for a, b in product(range(4), repeat=2)])
    first, second = (next_logprobs(logits(model, texts)[:, t], **options) for t in (0, 1))
    p = np.exp(first[range(16), texts[:, 1]] + second[range(16), texts[:, 2]])
    assert p.sum() == pytest.approx(1)
    drawn = generate(model, np.zeros((n, 1), int), 2, rng=rng(1), **options).tokens
    counts = np.bincount(drawn[:, 1] * 4 + drawn[:, 2], minlength=16)
    assert not counts[p < 1e-15].any()
    possible = p > 1e-15
    chi2, freedom = ((counts - n * p)[possible] ** 2 / (n * p[possible])).sum(), possible.sum() - 1
    assert chi2 < freedom + 4 * np.sqrt(2 * freedom)


def test_the_same_seed_writes_the_same():
    model, idx = tiny(), ids(4, 2)
    a, b, c = (generate(model, idx, 6, rng=rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a.tokens, b.tokens)
    np.testing.assert_array_equal(a.logprobs, b.logprobs)
    assert (a.tokens != c.tokens).any()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.8])
def test_recorded_log_probabilities_are_those_recomputed(temperature):
    """In float32, as training has it: the samples' own log-probabilities, under the temperature that drew them."""
    model, idx = tiny(np.float32), ids(50, 2)
    g = generate(model, idx, 6, rng=rng(), temperature=temperature, end=1)
    mask = answer_mask(g.tokens, 2, 1)
    with no_grad():
        again = token_logprobs(model, g.tokens, mask, temperature=temperature).data
        cold = token_logprobs(model, g.tokens, mask, temperature=0.4).data
    np.testing.assert_allclose(g.logprobs, again[:, 1:], atol=1e-5)
    assert abs(cold[:, 1:] - g.logprobs).max() > 0.1                            # a forgotten temperature would show


def test_the_end_token_stops_and_pads():
    model, prompts = tiny(), np.full((200, 2), 1)                               # an end token in a prompt ends nothing
    g = generate(model, prompts, 5, rng=rng(), end=1, pad=6)
    answers, mask = g.tokens[:, 2:], answer_mask(g.tokens, 2, 1)[:, 2:]
    assert (answers[~mask] == 6).all() and (g.logprobs[~mask] == 0).all() and (g.logprobs[mask] < 0).all()
    np.testing.assert_array_equal(g.ended, (answers == 1).any(-1))
    assert 0 < g.ended.mean() < 1 and (g.tokens[:, :2] == prompts).all()


def test_writing_stops_when_all_have_ended():
    g = generate(tiny(), ids(2, 2), 500, rng=rng(), end=1)
    assert g.ended.all() and g.tokens.shape[1] < 500 and (g.tokens[:, -1] == 1).any()


def test_nothing_to_write():
    g = generate(tiny(), ids(2, 3), 0, rng=rng())
    assert g.tokens.shape == (2, 3) and g.logprobs.shape == (2, 0) and not g.ended.any()


@pytest.mark.parametrize("T", [1, 5, 20])
def test_writing_goes_on_beyond_the_block(T):
    """When the block is full, the last half of it is read anew, with or without a cache."""
    model, idx = tiny(), ids(2, T)
    written = generate(model, idx, 30, rng=rng(), temperature=0).tokens
    window = BLOCK // 2 if T > BLOCK else T
    for _ in range(30):
        if window > BLOCK:
            window = BLOCK // 2
        idx = np.concatenate([idx, logits(model, idx[:, -window:])[:, -1:].argmax(-1)], axis=1)
        window += 1
    np.testing.assert_array_equal(written, idx)


def test_a_block_of_one_token():
    assert generate(tiny(block_size=1), ids(2, 3), 4, rng=rng()).tokens.shape == (2, 7)


def left_padded(rows, garbage):
    T = max(map(len, rows))
    idx, mask = np.full((len(rows), T), garbage), np.zeros((len(rows), T), bool)
    for b, row in enumerate(rows):
        idx[b, T - len(row):], mask[b, T - len(row):] = row, True
    return idx, mask


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, V - 1), st.integers(0, 99))
def test_prompts_of_different_length(lengths, garbage, seed):
    """Padded on the left, each row is written as it would be alone."""
    model, rows = tiny(seed=seed), [ids(n, seed=seed + n) for n in lengths]
    idx, mask = left_padded(rows, garbage)
    together = generate(model, idx, 4, rng=rng(), temperature=0, mask=mask)
    for b, row in enumerate(rows):
        alone = generate(model, row[None], 4, rng=rng(), temperature=0)
        np.testing.assert_array_equal(together.tokens[b, idx.shape[1]:], alone.tokens[0, len(row):])
        np.testing.assert_allclose(together.logprobs[b], alone.logprobs[0], atol=1e-10)


@pytest.mark.parametrize("lengths", [(1, 8), (2, 12)])
def test_padding_stays_unseen_beyond_the_block(lengths):
    """Also when the window that is read anew begins within the padding, or the prompts are longer than the block."""
    model, rows = tiny(), [ids(n, seed=n) for n in lengths]
    a, b = (generate(model, idx, 12, rng=rng(), temperature=0, mask=mask)
            for idx, mask in (left_padded(rows, 0), left_padded(rows, 5)))
    np.testing.assert_array_equal(a.tokens[:, max(lengths):], b.tokens[:, max(lengths):])
    np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-10)


def test_written_tokens_count_as_real_beyond_the_block():
    """Without a cache, the mask carried on by hand."""
    model, (idx, mask) = tiny(), left_padded([ids(1, seed=1), ids(6, seed=2)], 0)
    written = generate(model, idx, 12, rng=rng(), temperature=0, mask=mask).tokens
    length = idx.shape[1]
    for _ in range(12):
        length = length if length <= BLOCK else BLOCK // 2
        scores = logits(model, idx[:, -length:], mask=mask[:, -length:])[:, -1]
        idx, mask = np.column_stack([idx, scores.argmax(-1)]), np.column_stack([mask, [True, True]])
        length += 1
    np.testing.assert_array_equal(written, idx)


def test_dropout_is_off_while_writing_and_on_again_afterwards():
    model = tiny(dropout=0.5)
    a, b = (generate(model, ids(2, 2), 6, rng=rng(), temperature=0) for _ in range(2))
    np.testing.assert_array_equal(a.logprobs, b.logprobs)
    assert all(m.training for m in model.modules())
    frozen = tiny(dropout=0.5).eval()
    generate(frozen, ids(2, 2), 2, rng=rng())
    assert not any(m.training for m in frozen.modules())


def test_no_gradient_is_kept():
    model = tiny()
    for token, logp in stream(model, ids(2, 2), 3, rng=rng()):
        assert model.loss(ids(1, 2), ids(1, 2)).requires_grad              # and the caller's own are on in between


# ---- the fast path --------------------------------------------------------------------------------------------------

@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from([(1, 3), (2, 8), (4, 8), (3, 15)]), st.integers(1, BLOCK - 1),
       st.integers(0, 99), st.booleans(), st.data())
def test_reading_token_by_token_equals_the_model(B, layers, heads_and_channels, prompt, seed, bias, data):
    """A prompt read by the model in pieces, each row with padding of its own on the left, then one token at a time by the
    functions made of its weights: the scores are those of the whole text read at once, without a cache."""
    n_head, C = heads_and_channels
    model, idx = tiny(seed=seed, n_layer=layers, n_head=n_head, n_embd=C, bias=bias), ids(B, BLOCK, seed=seed)
    pads = np.array(data.draw(st.lists(st.integers(0, prompt - 1), min_size=B, max_size=B)))
    mask = np.arange(BLOCK) >= pads[:, None] if pads.any() else None
    whole = logits(model, idx, mask=mask)
    cache, read = KVCache(model, B), decoder(model)
    cut = data.draw(st.integers(0, prompt - 1))
    for piece in (slice(0, cut), slice(cut, prompt)) if cut else (slice(0, prompt),):
        last = logits(model, idx[:, piece], mask=None if mask is None else mask[:, piece], cache=cache)[:, -1]
    np.testing.assert_allclose(last, whole[:, prompt - 1], atol=1e-11)
    for t in range(prompt, BLOCK):
        with no_grad():
            scores = read(idx[:, t], cache)
        np.testing.assert_allclose(scores, whole[:, t], atol=1e-11)
    assert cache.length == BLOCK


def test_attention_scores_that_exp_would_overflow():
    model, idx = tiny(np.float32), ids(3, BLOCK)
    for block in model.blocks:
        block.attn.qkv.weight.data[...] *= 20
    cache, read = KVCache(model, 3), decoder(model)
    with no_grad(), np.errstate(over="raise", invalid="raise"):
        last = [read(idx[:, t], cache) for t in range(BLOCK)][-1]
    np.testing.assert_allclose(last, logits(model, idx)[:, -1], atol=1e-3)


def test_reading_token_by_token_changes_no_weight_and_keeps_float32():
    model, cold = tiny(np.float32), tiny(np.float32)
    cache, read = KVCache(model, 2), decoder(model)
    with no_grad():
        scores = [read(ids(2), cache) for _ in range(BLOCK)]
    assert all(s.dtype == np.float32 for s in scores)
    for a, b in zip(model.parameters(), cold.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


def test_each_generation_reads_the_weights_as_they_are_then():
    """Training goes on between two of them."""
    model, idx = tiny(), ids(2, 2)
    before = generate(model, idx, 6, rng=rng()).logprobs
    for p in model.parameters():
        p.data[...] *= 0.8
    after, fresh = (generate(m, idx, 6, rng=rng()).logprobs for m in (model, copy.deepcopy(model)))
    np.testing.assert_array_equal(after, fresh)
    assert abs(after - before).max() > 0.01
    tokens = generate(model, idx, 6, rng=rng()).tokens
    expected = np.take_along_axis(next_logprobs(logits(model, tokens[:, :-1]))[:, 1:], tokens[:, 2:, None], -1)[..., 0]
    np.testing.assert_allclose(after, expected, atol=1e-10)


@pytest.mark.parametrize("n_parameters, batch, readers", [(10**6, 1, 1), (10**6, 32, 4), (10**9, 1, 1), (10**9, 3, 1),
                                                          (10**9, 8, 2), (10**9, 32, 4), (10**3, 512, 1)])
def test_how_many_read(n_parameters, batch, readers, monkeypatch):
    monkeypatch.setattr("tinygrad_lm.generate.processors", lambda: 4)
    assert choose_readers(n_parameters, batch) == readers


@pytest.mark.parametrize("readers", [1, 2])
def test_no_product_of_a_step_runs_on_several_blas_threads(readers, monkeypatch):
    """Not even the head's: one that does leaves a thread waiting in a loop, which halves the speed of the rest."""
    limits = []
    monkeypatch.setattr("tinygrad_lm.generate.choose_readers", lambda *_: readers)

    def watched(model):
        read = decoder(model)

        def check(token, cache):
            scores = read(token, cache)
            limits.append((parallel._open_blocks[0], scores.shape))
            return scores
        return check

    monkeypatch.setattr("tinygrad_lm.generate.decoder", watched)
    generate(tiny(), ids(4, 2), 4, rng=rng())
    assert limits == [(1, (4 // readers, V))] * 3 * readers


# ---- errors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("idx", [np.zeros((1, 0), int), np.zeros((2, 0), int), np.zeros(3, int)])
def test_an_empty_prompt(idx):
    with pytest.raises(ValueError, match="at least one token"):
        generate(tiny(), idx, 3, rng=rng())


@pytest.mark.parametrize("options, says", [({"temperature": -1}, "temperature"), ({"temperature": np.nan}, "temperature"),
                                           ({"temperature": np.inf}, "temperature"), ({"top_k": 0}, "top_k"),
                                           ({"top_p": 0}, "top_p"), ({"top_p": -0.1}, "top_p"),
                                           ({"min_p": -0.1}, "min_p"), ({"min_p": 1.1}, "min_p"),
                                           ({"min_p": np.nan}, "min_p"), ({"repetition_penalty": 0}, "repetition_penalty"),
                                           ({"repetition_penalty": np.nan}, "repetition_penalty")])
def test_a_bad_option(options, says):
    with pytest.raises(ValueError, match=says):
        generate(tiny(), ids(1, 2), 3, rng=rng(), **options)


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_damaged_weights(damage):
    model = tiny()
    model.blocks[0].mlp.fc.weight.data[0, 0] = damage
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="weights are damaged"):
        generate(model, ids(1, 2), 3, rng=rng())


def test_the_step_at_which_scores_become_nan_is_named():
    model = tiny()
    model.wpe.weight.data[5] = np.nan                                            # the third token after a prompt of 3
    said = r"step 3 \(after 3 written tokens\): 14 of 14, the first nan, of token 0 in row 0"
    with pytest.raises(FloatingPointError, match=said):
        generate(model, ids(2, 3), 6, rng=rng())


@pytest.mark.parametrize("T", [4, 3 * BLOCK])
@pytest.mark.parametrize("wrong", [V, -1])
def test_a_token_outside_the_vocabulary(T, wrong):
    """Also where it stands so far back that it would not be read."""
    idx = ids(2, T)
    idx[1, 1] = wrong
    with pytest.raises(IndexError, match=rf"token id {wrong} at position \(1, 1\): the vocabulary has {V} entries"):
        generate(tiny(), idx, 3, rng=rng())


@pytest.mark.parametrize("readers", [2, 3, 5])
def test_sequences_read_on_several_threads(readers, monkeypatch):
    """The rows are independent: cut into parts with a cache each, they become the same text, also beyond the block."""
    model, idx = tiny(), rng(1).integers(0, V, (5, 3))
    mask = np.array([[False] * (i % 3) + [True] * (3 - i % 3) for i in range(5)])
    for m in (None, mask):
        together = generate(model, idx, 12, rng=rng(2), mask=m)
        with monkeypatch.context() as patch:
            patch.setattr("tinygrad_lm.generate.choose_readers", lambda *_: readers)
            apart = generate(model, idx, 12, rng=rng(2), mask=m)
        np.testing.assert_array_equal(apart.tokens, together.tokens)
        np.testing.assert_allclose(apart.logprobs, together.logprobs, atol=1e-9)
