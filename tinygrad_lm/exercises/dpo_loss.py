"""Preferences without a reward model.

Direct preference optimization [DPO] trains the policy π on ranked pairs of answers themselves. How much more probable than
under the reference π_ref has an answer become? That logarithm, times β, is taken as its reward:

    r(answer) = β (log π(answer) − log π_ref(answer))

and the loss is that of a reward model, over pairs of a better answer (⁺) and a worse one (⁻):

    loss = mean of −log σ(r⁺ − r⁻)        σ(d) = 1 / (1 + exp(−d))

The logarithm of a whole answer's probability is the sum of those of its tokens. Of large differences exp overflows; the loss
need not: −log σ(d) = log(exp(0) + exp(−d)), which is np.logaddexp(0, −d).
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Make four numbers of each pair first: sum the tokens of each answer, under each model.",
    "How much more probable has the better answer become, (better - ref_better).sum(-1)? And the worse one?",
    "The difference of both, times β, is the d of −log σ(d). β is inside of the σ.",
    "np.logaddexp(0, -beta * ((better - ref_better).sum(-1) - (worse - ref_worse).sum(-1))).mean()",
)


def dpo_loss(better, worse, ref_better, ref_worse, beta):
    """The mean over pairs of −log σ(β ((log π⁺ − log π_ref⁺) − (log π⁻ − log π_ref⁻))), a number.

    better, worse: float (N, T), log probabilities of the tokens of the two answers under π, 0 beyond an answer's end;
    ref_better, ref_worse: the same under π_ref; beta: a number
    """
    gain = (better - ref_better).sum(-1) - (worse - ref_worse).sum(-1)              # (N,)
    return np.logaddexp(0, -beta * gain).mean()


ANSWER = dpo_loss

BETA = st.sampled_from((0.5, 2.0))
SHAPE = st.shared(st.tuples(st.integers(1, 2), st.integers(1, 3)), key="shape")
LOG = numbers(SHAPE, st.integers(-4, 0).map(float))
FOUR = dict(better=LOG, worse=LOG, ref_better=LOG, ref_worse=LOG, beta=BETA)


def surprise(better, worse, ref_better, ref_worse, beta):
    """The loss as it is written, of rewards that belong to whole answers."""
    r = lambda model, reference: beta * (model.sum(-1) - reference.sum(-1))
    return -np.log(1 / (1 + np.exp(r(worse, ref_worse) - r(better, ref_better)))).mean()


@holds("A policy that is the reference throws a coin, which costs log 2", better=LOG, worse=LOG, beta=BETA)
def a_coin(answer, better, worse, beta):
    return answer(better, worse, better, worse, beta), np.log(2)


@holds("It is the mean of −log σ(r⁺ − r⁻) over the pairs, each of two whole answers", **FOUR)
def mean_of_surprises(answer, **inputs):
    return answer(**inputs), surprise(**inputs)


@holds("A pair that π finds much worse than π_ref does costs much, not infinity", tokens=st.sampled_from((1000, 2000)))
def large_differences(answer, tokens):
    zeros = np.zeros((1, tokens))
    return answer(zeros - 1, zeros, zeros, zeros, 1.0), float(tokens)


PROPERTIES = (a_coin, mean_of_surprises, large_differences)


@mistake("the reference is ignored: nothing holds the policy near it, then", caught_by=a_coin)
def without_reference(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(better, worse, 0 * better, 0 * worse, beta)


@mistake("the two answers are exchanged: this makes the worse one more probable", caught_by=mean_of_surprises)
def exchanged(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(worse, better, ref_worse, ref_better, beta)


@mistake("β stands outside of the logarithm: it must scale the difference of rewards", caught_by=a_coin)
def beta_outside(better, worse, ref_better, ref_worse, beta):
    return beta * dpo_loss(better, worse, ref_better, ref_worse, 1.0)


@mistake("the mean of an answer's tokens is taken, not their sum", caught_by=mean_of_surprises)
def mean_of_tokens(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(better, worse, ref_better, ref_worse, beta / better.shape[-1])


def token_losses(better, worse, ref_better, ref_worse, beta):
    return np.logaddexp(0, -beta * (better - ref_better - (worse - ref_worse)))


@mistake("−log σ is taken of each pair of tokens: sum over an answer's tokens first", caught_by=mean_of_surprises)
def token_by_token(better, worse, ref_better, ref_worse, beta):
    return token_losses(better, worse, ref_better, ref_worse, beta).mean()


@mistake("−log σ is taken of each token and then summed: sum over an answer's tokens first", caught_by=a_coin)
def sum_of_tokens(better, worse, ref_better, ref_worse, beta):
    return token_losses(better, worse, ref_better, ref_worse, beta).sum(-1).mean()


@mistake("exp overflows where the difference is large", caught_by=large_differences)
def overflowing(better, worse, ref_better, ref_worse, beta):
    with np.errstate(over="ignore", divide="ignore"):
        return surprise(better, worse, ref_better, ref_worse, beta)


MISTAKES = (without_reference, exchanged, beta_outside, mean_of_tokens, token_by_token, sum_of_tokens, overflowing)
