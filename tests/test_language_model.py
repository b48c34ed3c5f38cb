"""Every kind of model answers to one interface, and its answers agree: chain rule, perplexity, bits a byte, samples."""
from functools import partial
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import Tensor, gradcheck
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, FeedForward, FeedForwardConfig, GPTConfig, NGram
from tinygrad_lm.models.language_model import LanguageModel, draw_token, rank
from tinygrad_lm.models.network import NetworkModel, load_network, windows
from tinygrad_lm.models.neural import PAD, neighbours, plane
from tinygrad_lm.models.ngram import Grams, add_k, discounts, kneser_ney, maximum_likelihood
from tinygrad_lm.nn import evaluating
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.words import WordTokenizer

ABC = CharTokenizer("abc")
V = len(ABC)
SMOOTHINGS = {"maximum likelihood": maximum_likelihood, "add-k": partial(add_k, k=0.3), "Kneser-Ney": kneser_ney}
smoothings = st.sampled_from(sorted(SMOOTHINGS)).map(SMOOTHINGS.get)
strings = st.text("abc", max_size=12)
texts = st.lists(strings, min_size=1, max_size=5).filter(any)


def network(kind, seed=0):
    """A network with weights so large that it has opinions."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(V, 6, 2, 2, 8), rng=rng) if kind == "GPT" else FeedForward(FeedForwardConfig(V, 3, 4, 6), rng=rng)
    for p in model.to(np.float64).parameters():
        p.data[...] += rng.normal(0, 0.5, p.shape)
    return NetworkModel(model, ABC)


def model_of(kind):
    if kind in SMOOTHINGS:
        return NGram(["abcab", "cab"], ABC, order=3, smoothing=SMOOTHINGS[kind])
    return network(kind)


every_kind = pytest.mark.parametrize("kind", [*SMOOTHINGS, "GPT", "FeedForward"])


# ---- the interface --------------------------------------------------------------------------------------------------

@every_kind
def test_the_chain_rule(kind):
    """log p of each token is what `next_logprobs` says of it after those before; their sum is log p of all."""
    model, tokens, context = model_of(kind), ABC.encode("abcab"), ABC.encode("c")
    by_hand = [model.next_logprobs([*context, *tokens[:t]])[tokens[t]] for t in range(len(tokens))]
    np.testing.assert_allclose(model.logprobs(tokens, context=context), by_hand, rtol=1e-6)
    assert model.logprob("abcab", context="c") == pytest.approx(sum(by_hand), rel=1e-6)
    assert model.logprob("cabcab") == pytest.approx(model.logprob("c") + model.logprob("abcab", context="c"), rel=1e-6)
    assert model.logprob("", context="ab") == 0
    np.testing.assert_allclose(model.logprob_each(["ab", "", "cba"], context="b"),
                               [model.logprob(t, context="b") for t in ("ab", "", "cba")], rtol=1e-6)


@every_kind
def test_what_comes_next_is_a_distribution(kind):
    model = model_of(kind)
    for context in ([], [ABC.end], ABC.encode("a"), ABC.encode("abcabcabcabc"), [ABC.pad, ABC.pad]):
        logp = model.next_logprobs(np.array(context, np.int64))
        assert logp.shape == (V,) and np.exp(logp).sum() == pytest.approx(1, abs=1e-9)


@every_kind
def test_perplexity_and_bits_a_byte(kind):
    model = model_of(kind)
    logp = model.logprobs(ABC.encode("abcab"))
    assert model.perplexity("abcab") == pytest.approx(exp(-np.mean(logp)), rel=1e-6)
    assert model.bits_per_byte("abcab") == pytest.approx(-sum(logp) / log(2) / 5, rel=1e-6)
    two = [*logp, *model.logprobs(ABC.encode("ca"))]                       # each text is read from its start
    assert model.perplexity(["abcab", "ca"]) == pytest.approx(exp(-np.mean(two)), rel=1e-6)
    assert model.bits_per_byte(["abcab", "ca"]) == pytest.approx(-sum(two) / log(2) / 7, rel=1e-6)
    assert model.sentence_logprob("ab") == pytest.approx(model.logprob([*ABC.encode("ab"), ABC.end]), rel=1e-6)


@every_kind
def test_sampling_follows_the_probabilities(kind):
    """The first token's frequencies; the seed fixes the draws; temperature 0 takes the likeliest."""
    model, rng = model_of(kind), np.random.default_rng(0)
    p = np.exp(model.next_logprobs(ABC.encode("a")))
    drawn = [model.sample(1, rng=rng, prompt="a") for _ in range(600)]
    seen = {"a" + c: p[ABC.encode(c)[0]] for c in "abc"} | {"a": p[ABC.end] + p[ABC.pad]}
    for text, wanted in seen.items():
        assert drawn.count(text) / len(drawn) == pytest.approx(wanted, abs=4.5 * (0.25 / len(drawn)) ** 0.5)
    first, again, other = (model.sample(40, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again and isinstance(other, str)
    best = model.next_logprobs(ABC.encode("a")).argmax()
    assert model.sample(1, rng=rng, prompt="a", temperature=0) == "a" + ABC.decode([best])


@pytest.mark.parametrize("kind", ["GPT", "FeedForward", "Kneser-Ney"])
def test_a_sample_stops_before_the_end_token(kind):
    """Also where that is an ordinary one, as the newline is for a GPT that has learned a text of lines."""
    model, free = model_of(kind), model_of(kind)
    model.end = ABC.encode("b")[0]
    free.end = -1
    for seed in range(20):
        stopped, on = (m.sample(12, rng=np.random.default_rng(seed), prompt="a") for m in (model, free))
        assert stopped == on.split("b")[0] and len(on) <= 13


def test_temperature_divides_the_scores():
    logp, rng = np.log([0.1, 0.2, 0.7]), np.random.default_rng(0)
    for temperature in (0.5, 1, 2):
        wanted = np.exp(logp / temperature) / np.exp(logp / temperature).sum()
        drawn = np.bincount([draw_token(logp, temperature, rng) for _ in range(4000)], minlength=3) / 4000
        np.testing.assert_allclose(drawn, wanted, atol=0.03)
    assert draw_token(np.array([-np.inf, 0.0]), 1, rng) == 1


@every_kind
def test_mistakes_are_named(kind):
    model = model_of(kind)
    with pytest.raises(ValueError, match="the text is empty"):
        model.perplexity("")
    with pytest.raises(ValueError, match="the character 'x' at position 1"):
        model.logprob("ax")
    with pytest.raises(IndexError, match="token id 9 at position .1.*the vocabulary has 5 entries"):
        model.logprob([2, 9])
    with pytest.raises(TypeError, match="integers"):
        model.logprob([0.5])
    with pytest.raises(ValueError, match=r"shape \(T,\), not \(1, 2\)"):
        model.logprob([[2, 3]])
    with pytest.raises(ValueError, match="temperature"):
        model.sample(1, rng=np.random.default_rng(0), temperature=-1)


def test_an_interface_is_no_model():
    with pytest.raises(NotImplementedError, match="LanguageModel does not say what comes next"):
        LanguageModel().next_logprobs([])
    with pytest.raises(NotImplementedError):
        LanguageModel().logprobs([])


def test_bits_a_byte_need_tokens_that_give_the_text_back():
    model = NGram(["one two", "two three"], WordTokenizer.from_text("one two three"), order=2)
    assert model.perplexity("three two one") > 1
    with pytest.raises(ValueError, match="give the text back, and 'one  two'… comes back as 'one two'"):
        model.bits_per_byte("one  two")


def test_rank():
    model = NGram(["abc"] * 9, ABC, order=3)
    assert [s for _, s in rank(model, ["cba", "abc", "aba"])] == ["abc", "aba", "cba"]
    assert rank(model, ["ab"])[0][0] == model.sentence_logprob("ab")


# ---- n-grams --------------------------------------------------------------------------------------------------------

@given(texts, st.integers(1, 5), smoothings, st.lists(st.integers(0, V - 1), max_size=7))
def test_a_distribution_after_every_context(documents, order, smoothing, context):
    """Seen or unseen, shorter or longer than the order, with tokens that never occur: it sums to 1, and only maximum
    likelihood calls anything impossible."""
    p = np.exp(NGram(documents, ABC, order=order, smoothing=smoothing).next_logprobs(context))
    assert p.sum() == pytest.approx(1, abs=1e-12) and (p >= 0).all()
    assert smoothing is maximum_likelihood or (p > 0).all()


def events(documents, order):
    """(context, token) of every token that is to be predicted, by a loop over single tokens."""
    for text in filter(None, documents):
        tokens = [ABC.end] * (order - 1) + ABC.encode(text).tolist() + [ABC.end]
        for t in range(order - 1, len(tokens)):
            yield tuple(tokens[t - order + 1:t]), tokens[t]


@given(texts, st.integers(1, 4))
def test_maximum_likelihood_is_a_quotient_of_counts(documents, order):
    model, seen = NGram(documents, ABC, order=order, smoothing=maximum_likelihood), list(events(documents, order))
    for h, w in set(seen):
        wanted = seen.count((h, w)) / sum(context == h for context, _ in seen)
        assert np.exp(model.next_logprobs(np.array(h, np.int64))[w]) == pytest.approx(wanted)
    for smoothing in SMOOTHINGS.values():                                  # nothing is likelier
        other = NGram(documents, ABC, order=order, smoothing=smoothing)
        assert sum(model.sentence_logprob(d) - other.sentence_logprob(d) for d in documents if d) >= -1e-9


@given(texts, st.integers(1, 4), st.floats(0.01, 3), st.lists(st.integers(0, V - 1), min_size=3, max_size=3))
def test_add_k_is_a_quotient_of_counts(documents, order, k, context):
    model, seen = NGram(documents, ABC, order=order, smoothing=partial(add_k, k=k)), list(events(documents, order))
    for h in {tuple(context[4 - order:])} | {h for h, _ in seen}:
        n = sum(c == h for c, _ in seen)
        wanted = [(seen.count((h, w)) + k) / (n + k * V) for w in range(V)]
        np.testing.assert_allclose(np.exp(model.next_logprobs(np.array(h, np.int64))), wanted, rtol=1e-9)


def kneser_ney_by_loop(documents, order):
    """The formula, recursively, from sets of n-grams."""
    seen = list(events(documents, order))
    counts = {order: {}}
    for h, w in seen:
        counts[order][*h, w] = counts[order].get((*h, w), 0) + 1
    for n in range(order - 1, 0, -1):                                      # after how many different tokens
        longer = {(*h, w)[order - n - 1:] for h, w in seen}
        counts[n] = {g: sum(other[1:] == g for other in longer) for g in {other[1:] for other in longer}}

    def p(h, w):
        n = len(h) + 1
        lower = p(h[1:], w) if h else 1 / V
        after = {g[-1]: c for g, c in counts[n].items() if g[:-1] == h}
        if not after:
            return lower
        D = discounts(np.array(list(counts[n].values())))
        taken = {w: D[min(c, 3)] for w, c in after.items()}
        return (after.get(w, 0) - taken.get(w, 0) + sum(taken.values()) * lower) / sum(after.values())

    return p


@settings(max_examples=30)
@given(texts, st.integers(1, 4), st.lists(st.integers(0, V - 1), min_size=3, max_size=3))
def test_kneser_ney_is_its_formula(documents, order, context):
    model, p = NGram(documents, ABC, order=order), kneser_ney_by_loop(documents, order)
    for h in {tuple(context[4 - order:])} | {h for h, _ in events(documents, order)}:
        ours = np.exp(model.next_logprobs(np.array(h, np.int64)))
        np.testing.assert_allclose(ours, [p(h, w) for w in range(V)], rtol=1e-9)


def test_what_follows_one_word_only_is_no_good_guess_elsewhere():
    """The example of the textbooks: Francisco is more frequent than glasses, but only after San."""
    words = WordTokenizer.from_text("San Francisco reading glasses old new my the")
    documents = ["San Francisco"] * 6 + ["reading glasses", "old glasses", "new glasses", "my old", "the new"]
    model = NGram(documents, words, order=2)
    p = dict(zip(words.words, np.exp(model.next_logprobs(words.encode("my")))))
    assert p["glasses"] > p["Francisco"]
    p = dict(zip(words.words, np.exp(NGram(documents, words, order=1).next_logprobs([]))))
    assert p["Francisco"] > p["glasses"]


def test_discounts():
    """n₁ … n₄ = 10, 5, 3, 2: Y = ½, D = 1 − 2·½·5/10, 2 − 3·½·3/5, 3 − 4·½·2/3; half a count where there is too little."""
    counts = np.repeat([1, 2, 3, 4, 9], [10, 5, 3, 2, 1])
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.1, 5 / 3])
    np.testing.assert_allclose(discounts(np.array([1, 1, 2])), [0, 0.5, 1, 1.5])
    np.testing.assert_allclose(discounts(np.repeat([1, 2, 3, 4], [1, 9, 9, 9])), [0, 1 - 18 / 19, 2 - 3 / 19, 3 - 4 / 19])
    np.testing.assert_allclose(discounts(np.repeat([1, 2, 3, 4], [9, 1, 9, 9]))[2], 1)    # the estimate would be negative


@given(texts, st.integers(1, 5))
def test_grams_know_their_parts(documents, order):
    """Each n-gram's number leads to the numbers of its beginning and of its end."""
    grams = Grams([ABC.encode(d) for d in documents], order, V, ABC.end)
    spelt = [[(int(key),) for key in grams.keys[0]]]
    for keys in grams.keys[1:]:
        spelt.append([(*spelt[-1][key // V], int(key % V)) for key in keys])
    for k in range(1, order):
        assert [spelt[k - 1][i] for i in grams.suffix[k]] == [g[1:] for g in spelt[k]]
        assert [spelt[k - 1][i] for i in grams.context[k]] == [g[:-1] for g in spelt[k]]
    assert grams.count[-1].sum() == sum(len(d) + 1 for d in documents if d)


def test_longer_contexts_than_the_order_are_cut():
    model = NGram(["abcabc", "cba"], ABC, order=3)
    np.testing.assert_array_equal(model.next_logprobs(ABC.encode("ccccab")), model.next_logprobs(ABC.encode("ab")))


def test_ngrams_refuse():
    with pytest.raises(ValueError, match="order=0"):
        NGram(["a"], ABC, order=0)
    with pytest.raises(ValueError, match="nothing to count"):
        NGram(["", ""], ABC)
    with pytest.raises(ValueError, match="adds a number above 0, not 0"):
        NGram(["a"], ABC, smoothing=partial(add_k, k=0))


# ---- networks: long texts by windows, and Bengio's ------------------------------------------------------------------

@given(st.integers(1, 50), st.integers(1, 12))
def test_windows_cover_every_place_and_leave_half_a_block_before_it(N, block):
    starts, T = windows(N, block)
    assert T == min(N, block) and starts[0] == 0 and starts[-1] + T == N
    for place in range(N):
        first = min(s for s in starts if s <= place < s + T)               # the window that has the last word
        assert first == 0 or place - first >= block // 2


@pytest.mark.parametrize("length", [5, 6, 7, 30])
def test_a_text_longer_than_the_block_is_read_by_windows(length):
    model, tokens = network("GPT"), np.random.default_rng(0).integers(0, V, length)
    text, block = np.append(model.start, tokens), 6
    starts, T = windows(length, block)
    by_hand = []
    for place in range(length):
        first = min(s for s in starts if s <= place < s + T)
        logits = model.network(text[None, first:place + 1]).data[0, -1]
        by_hand.append(logits[tokens[place]] - np.log(np.exp(logits).sum()))
    np.testing.assert_allclose(model.logprobs(tokens), by_hand, rtol=1e-9)
    assert len(model.sample(length, rng=np.random.default_rng(0))) <= length


SHAPES = {"gpt2": {}, "llama": dict(bias=False, norm="rms", activation="silu", gated=True, position="rotary", n_kv_head=1),
          "neox": dict(position="rotary", rotary_share=0.5, order="parallel", tied=False)}


@settings(max_examples=30)
@given(st.sampled_from(sorted(SHAPES)), st.sampled_from([1, 5, 512]), st.sampled_from([1, 12, 1 << 22]),
       st.lists(st.tuples(strings, st.lists(strings, min_size=1, max_size=4)), max_size=4))
def test_many_texts_at_once_are_each_of_them(shape, at_once, scores, asked):
    """Contexts and texts of any length, none, and longer than the block of 8; batches of any size."""
    rng = np.random.default_rng(0)
    net = GPT(GPTConfig(V, 8, 2, 2, 8, **SHAPES[shape]), rng=rng).to(np.float64)
    for p in net.parameters():
        p.data[...] += rng.normal(0, 0.5, p.shape)
    model = NetworkModel(net, ABC)
    one_by_one = [[model.logprobs(ABC.encode(t), context=ABC.encode(c)).sum() for t in ts] for c, ts in asked]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinygrad_lm.models.network.AT_ONCE", at_once)
        patch.setattr("tinygrad_lm.models.network.SCORES", scores)
        found = model.logprob_many(asked)
        assert [len(x) for x in found] == [len(ts) for _, ts in asked]
        for x, expected in zip(found, one_by_one):
            np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-12)


def test_a_context_is_read_once_and_texts_of_like_length_together(monkeypatch):
    model, read = network("GPT"), []
    hidden = model.network.hidden
    monkeypatch.setattr(model.network, "hidden", lambda idx, **more: read.append(idx.shape) or hidden(idx, **more))
    model.logprob_many([("abc", ["a", "b", "ca"]), ("a", ["c"])])
    assert read == [(2, 3), (4, 2)]
    read.clear()
    model.perplexity(["ab", "c", "abc"])
    assert read == [(3, 3)]


def test_a_feed_forward_network_reads_long_texts_as_if_at_once():
    model, tokens = network("FeedForward"), np.random.default_rng(0).integers(0, V, 700)
    logits = model.network(np.append(model.start, tokens)[None, :-1]).data[0]
    at_once = (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(700), tokens]
    np.testing.assert_allclose(model.logprobs(tokens), at_once, rtol=1e-9)


def test_feed_forward_is_its_formula():
    """y = b + U tanh(d + H x), x the embeddings of the last three tokens, padding before the first."""
    net, idx = network("FeedForward").network, np.array([[2, 4, 3, 1, 2]])
    C, H, d, U, b = (p.data for p in (net.wte.weight, net.hidden.weight, net.hidden.bias, net.head.weight, net.head.bias))
    for t in range(5):
        past = ([PAD, PAD] + idx[0].tolist())[t:t + 3]
        wanted = b + U @ np.tanh(d + H @ np.concatenate([C[i] for i in past]))
        np.testing.assert_allclose(net(idx).data[0, t], wanted, rtol=1e-12)


def test_a_feed_forward_drops_while_it_trains_alone():
    """Embeddings and hidden units are dropped: what is left of either is scaled up, so that scores agree on average."""
    net, plain = (FeedForward(FeedForwardConfig(V, 3, 4, 6, dropout=p), rng=np.random.default_rng(0)) for p in (0.5, 0.0))
    idx = np.array([[2, 4, 3]])
    with evaluating(net):
        np.testing.assert_array_equal(net(idx).data, plain(idx).data)
    dropped = np.array([net(idx).data[0, -1] for _ in range(4000)])
    np.testing.assert_allclose(dropped.mean(0), plain(idx).data[0, -1], atol=0.05)         # small embeddings: tanh is linear
    hidden = np.array([net.drop(net.hidden.bias).data == 0 for _ in range(200)])
    assert 0.4 < hidden.mean() < 0.6 and np.unique(dropped.round(6), axis=0).shape[0] > 2 ** 6     # not hidden units alone
    with pytest.raises(ValueError, match="dropout|probability"):
        FeedForward(FeedForwardConfig(V, dropout=1.5))


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_the_gradient_of_every_parameter(B, T, context, size, seed):
    rng = np.random.default_rng(seed)
    net = FeedForward(FeedForwardConfig(V, context, size, size + 1), rng=rng).to(np.float64)
    net.wte.weight.data += rng.normal(0, 1, net.wte.weight.shape)
    idx, targets = rng.integers(0, V, (2, B, T))
    if B * T > 1:
        targets[0, 0] = -100
    assert gradcheck(lambda *parameters: net.loss(idx, targets), *net.parameters())


def test_networks_refuse():
    with pytest.raises(ValueError, match="the tokenizer has 5 tokens, and the model's embedding 9: they do not belong"):
        NetworkModel(GPT(GPTConfig(9, 4, 1, 1, 4)), ABC)
    with pytest.raises(ValueError, match="context must be at least 1, not 0"):
        FeedForwardConfig(5, context=0)
    with pytest.raises(ValueError, match=r"\(batch, time\), not \(3,\)"):
        network("FeedForward").network(Tensor(np.zeros(3)))


def test_a_token_outside_the_vocabulary_of_a_feed_forward_network():
    """Its place is the one in what was given, not in the window that the network makes of it."""
    with pytest.raises(IndexError, match=r"token id 9 at position \(1, 2\): the vocabulary has 5 entries, 0 to 4"):
        network("FeedForward").network(np.array([[2, 3, 4], [2, 3, 9]]))


@pytest.mark.parametrize("T", [1, 2, 5, 30])
def test_a_feed_forward_network_writes_what_it_expects(T):
    """Greedy, beyond any block, and with padding on the left, which it does not see."""
    net, rng = network("FeedForward").network, np.random.default_rng(0)
    idx = rng.integers(2, V, (3, T))
    found = generate(net, idx, 12, rng=rng, temperature=0)
    tokens = idx
    for _ in range(12):
        tokens = np.append(tokens, net(tokens).data[:, -1].argmax(-1)[:, None], axis=1)
    np.testing.assert_array_equal(found.tokens, tokens)
    padded = np.pad(idx, ((0, 0), (4, 0)), constant_values=3)
    mask = np.arange(T + 4) >= 4
    again = generate(net, padded, 12, rng=rng, temperature=0, mask=np.tile(mask, (3, 1)))
    np.testing.assert_array_equal(again.tokens[:, 4:], tokens)


def test_a_feed_forward_network_samples_by_every_rule():
    net = network("FeedForward").network
    drawn = generate(net, np.tile(ABC.encode("ab"), (4000, 1)), 1, rng=np.random.default_rng(0), top_k=2)
    logits = net(ABC.encode("ab")[None]).data[0, -1]
    best = np.argsort(-logits)[:2]
    p = np.exp(logits[best]) / np.exp(logits[best]).sum()
    np.testing.assert_allclose([(drawn.tokens[:, -1] == b).mean() for b in best], p, atol=0.04)
    np.testing.assert_allclose(np.exp(drawn.logprobs[drawn.tokens[:, -1] == best[0]]), p[0], rtol=1e-9)


PADDED = CharTokenizer("".join(map(chr, range(0x4e00, 0x4e00 + 98))))                   # 100 tokens


@pytest.mark.parametrize("kind", [GPT, FeedForward])
def test_rows_of_the_embedding_beyond_the_vocabulary_have_no_probability(kind):
    """Publishers round embeddings up: what the tokenizer does not have is never written, and the rest sums to 1."""
    rng = np.random.default_rng(0)
    net = (GPT(GPTConfig(102, 6, 1, 2, 8, tied=False), rng=rng) if kind is GPT else
           FeedForward(FeedForwardConfig(102, 3, 4, 6), rng=rng)).to(np.float64)
    (net.ln_f if kind is GPT else net.head).bias.data[100 * (kind is FeedForward):] = 10
    net.head.weight.data[100:] = 1                                         # the network would write nothing but the two last
    model, tokens = NetworkModel(net, PADDED), rng.integers(2, 100, 5)
    logp = model.next_logprobs(tokens)
    assert logp.shape == (100,) and np.exp(logp).sum() == pytest.approx(1, abs=1e-9)
    for t in range(len(tokens)):
        assert model.logprobs(tokens)[t] == pytest.approx(model.next_logprobs(tokens[:t])[tokens[t]], rel=1e-9)
    assert len(model.sample(30, rng=rng)) <= 30                            # nothing that cannot be decoded


@pytest.mark.parametrize("kind", ["GPT", "FeedForward"])
def test_scores_that_are_no_numbers(kind):
    model = network(kind)
    model.network.wte.weight.data[ABC.encode("c")] = np.nan
    if kind == "FeedForward":                                              # of a GPT the head is the embedding
        assert np.isfinite(model.logprob("abab"))
        with pytest.raises(FloatingPointError, match="NaN or infinite after 3 tokens: its weights are damaged"):
            model.perplexity("abcab")
    for ask in (lambda: model.perplexity("abcab"), lambda: model.next_logprobs(ABC.encode("abc")),
                lambda: model.sentence_logprob("c"), lambda: model.sample(3, prompt="c", rng=np.random.default_rng(0))):
        with pytest.raises(FloatingPointError, match="NaN or infinite"):
            ask()


def test_neighbours_and_plane():
    vectors = np.array([[1, 0.1, 0], [2, 0.3, 0], [-1, 0, 0], [0, 1, 0]])
    order, cosines = neighbours(vectors, 0)
    assert order.tolist() == [1, 3, 2] and (np.diff(cosines) < 0).all() and cosines[0] == pytest.approx(1, abs=0.01)
    flat = plane(vectors)                                                  # they lie in a plane: no distance is lost
    np.testing.assert_allclose(np.linalg.norm(flat[0] - flat, axis=-1), np.linalg.norm(vectors[0] - vectors, axis=-1))


@pytest.mark.parametrize("kind", ["GPT", "FeedForward"])
def test_a_network_from_a_checkpoint(kind, tmp_path):
    """Of a text with lines a sentence stands between newlines; of names between ^ and the end token."""
    from tinygrad_lm.checkpoint import save
    from tinygrad_lm.models.saved import describe
    for chars, start, end in (("ab\n", "\n", "\n"), ("^ab\n", "^", None), ("ab", None, None)):
        tokenizer = CharTokenizer(chars)
        net = GPT(GPTConfig(len(tokenizer), 4, 1, 1, 4)) if kind == "GPT" else FeedForward(FeedForwardConfig(len(tokenizer)))
        save(tmp_path / "m.safetensors", {f"model/{n}": a for n, a in net.state_dict().items()}, describe(net, tokenizer))
        model = load_network(tmp_path / "m.safetensors")
        assert model.start == (tokenizer.end if start is None else tokenizer.encode(start)[0])
        assert model.end == (tokenizer.end if end is None else tokenizer.encode(end)[0])
        assert model.logprob("abab") == pytest.approx(NetworkModel(net, tokenizer, start=model.start).logprob("abab"))


def test_a_sentence_of_byte_pairs_stands_between_newlines():
    from tinygrad_lm.models.network import sentence_bounds
    from tinygrad_lm.text.tokenizer_json import train_bpe
    tokenizer = train_bpe("one fish\ntwo fish\n" * 9, 270)
    assert sentence_bounds(tokenizer) == (tokenizer.encode("\n")[0],) * 2
    assert sentence_bounds(WordTokenizer.from_text("one two")) == (WordTokenizer.end,) * 2
    tokenizer.cut = lambda text: text.split()                              # one that loses line ends
    with pytest.raises(ValueError, match="no token for the end of a line"):
        sentence_bounds(tokenizer)
