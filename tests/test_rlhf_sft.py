"""Fine-tuning learns from the answer alone: the loss is a loop over its tokens, and padding has no say."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, functional as F
from tinygrad_lm.text.batches import Rows, answer_mask, next_tokens, pad_right
from tinygrad_lm.train.pretrain import bits, evaluate
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.sft import SFTConfig, sft

from .test_gpt import V, grads, logits, tiny

P, END = 2, 1


def answers(seed, n=3):
    """Prompt, answer and end token, of different length."""
    rng = np.random.default_rng(seed)
    return [[*rng.integers(2, V, P + rng.integers(0, 4)), END] for _ in range(n)]


def batch(sequences, pad=0, surplus=0):
    tokens = np.pad(pad_right(sequences, pad), [(0, 0), (0, surplus)], constant_values=pad)
    return next_tokens(tokens, answer_mask(tokens, P, END))


@given(st.integers(0, 99))
def test_the_loss_is_a_loop_over_the_answers_tokens(seed):
    model, total, count = tiny(seed=seed), 0.0, 0
    for s in answers(seed):
        z = logits(model, np.array([s]))[0]
        for t in range(P, len(s)):                                     # token t is predicted at t − 1
            total -= z[t - 1, s[t]] - np.log(np.exp(z[t - 1]).sum())
            count += 1
    assert model.loss(*batch(answers(seed))).item() == pytest.approx(total / count, rel=1e-12)


def test_a_prompts_tokens_get_no_gradient_through_the_loss():
    idx, targets = batch(answers(0))
    z = Tensor(logits(tiny(), idx), True)
    F.cross_entropy(z, targets).backward()
    counted = targets != -100
    assert not z.grad[~counted].any() and z.grad[counted].any(axis=-1).all() and not counted[:, :P - 1].any()


@given(st.integers(0, 99), st.integers(0, V - 1), st.integers(0, 2))
def test_padding_changes_nothing(seed, pad, surplus):
    """Its ids, its amount: not the loss, not a gradient, not the measured loss. (The end token as padding, too.)"""
    model, plain, padded = tiny(seed=seed), batch(answers(seed)), batch(answers(seed), pad, surplus)
    g, h = (grads(model, model.loss(*b)) for b in (plain, padded))
    for name in g:
        np.testing.assert_allclose(g[name], h[name], atol=1e-12, err_msg=name)
    a, b = (evaluate(model, Rows(*x)) for x in (plain, padded))
    assert a == pytest.approx(b, rel=1e-12) and a == pytest.approx(model.loss(*plain).item(), rel=1e-12)


def test_the_held_out_loss_counts_tokens_not_batches_and_has_no_dropout():
    model, data = tiny(dropout=0.5), Rows(*batch(answers(0, 7)))
    assert evaluate(model, data, batch_size=2) == pytest.approx(evaluate(model, data), rel=1e-12)
    assert all(m.training for m in model.modules())
    model.eval()
    evaluate(model, data)
    assert not any(m.training for m in model.modules())
    with pytest.raises(ValueError, match="held-out data is empty"):
        evaluate(model, Rows(np.zeros((0, 3), int), np.zeros((0, 3), int)))


def test_bits():
    assert bits(np.log(2)) == pytest.approx(1) and bits(np.log(27)) == pytest.approx(np.log2(27))


def test_an_answer_is_learned_and_its_end():
    model, run = tiny(np.float32), Run()
    sequences = [[k, 2, (k + 1) % V, (k + 2) % V, END] for k in (3, 4, 5)]
    data = Rows(*batch(sequences))
    loss = sft(model, data, data, SFTConfig(steps=150, batch_size=8, lr=1e-2, warmup=5), rng=np.random.default_rng(0), run=run)
    assert loss < 0.05 and loss == evaluate(model, data) == run.history[-1]["held_out"]
    from tinygrad_lm.generate import generate
    written = generate(model, np.array([s[:P] for s in sequences]), 5, rng=np.random.default_rng(0), temperature=0, end=END)
    assert written.tokens.tolist() == sequences


def test_a_loss_that_is_not_finite_moves_nothing():
    model = tiny(np.float32)
    data = Rows(*batch(answers(0)))
    model.ln_f.weight.data[0] = np.nan
    before = {name: a.copy() for name, a in model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        sft(model, data, data, SFTConfig(steps=2, batch_size=2), rng=np.random.default_rng(0), run=Run())
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])
