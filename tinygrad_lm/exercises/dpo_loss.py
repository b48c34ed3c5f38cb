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
LOG = st.integers(-4, 0).map(float)
pairs = lambda n, **size: st.tuples(*(st.integers(1, most) for most in (size.get("N", 2), size.get("T", 2)))).flatmap(
    lambda shape: st.tuples(*(numbers(shape, LOG) for _ in range(n))))


def rewards(model, reference, beta):
    """r of each answer: (N, T) -> (N,)"""
    return beta * (model.sum(-1) - reference.sum(-1))


@holds("A policy that is the reference throws a coin, which costs log 2", references=pairs(2), beta=BETA)
def a_coin(answer, references, beta):
    return answer(*references, *references, beta), np.log(2)


@holds("Of answers of one token it is the mean of −log σ(r⁺ − r⁻)", logs=pairs(4, T=1), beta=BETA)
def mean_of_surprises(answer, logs, beta):
    better, worse, ref_better, ref_worse = logs
    d = rewards(better, ref_better, beta) - rewards(worse, ref_worse, beta)
    return answer(*logs, beta), -np.log(1 / (1 + np.exp(-d))).mean()


@holds("An answer counts as a whole: its tokens are summed first", logs=pairs(4, N=1, T=3), beta=BETA)
def whole_answers(answer, logs, beta):
    d = rewards(logs[0], logs[2], beta) - rewards(logs[1], logs[3], beta)
    return answer(*logs, beta), -np.log(1 / (1 + np.exp(-d))).mean()


@holds("A pair that π finds much worse than π_ref does costs much, not infinity", tokens=st.sampled_from((1000, 2000)))
def large_differences(answer, tokens):
    zeros = np.zeros((1, tokens))
    return answer(zeros - 1, zeros, zeros, zeros, 1.0), float(tokens)


PROPERTIES = (a_coin, mean_of_surprises, whole_answers, large_differences)


@mistake("the reference is ignored: nothing holds the policy near it, then", caught_by=a_coin)
def without_reference(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(better, worse, 0 * better, 0 * worse, beta)


@mistake("the two answers are exchanged: this makes the worse one more probable", caught_by=mean_of_surprises)
def exchanged(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(worse, better, ref_worse, ref_better, beta)


@mistake("β stands outside of the logarithm: it must scale the difference of rewards", caught_by=a_coin)
def beta_outside(better, worse, ref_better, ref_worse, beta):
    return beta * dpo_loss(better, worse, ref_better, ref_worse, 1.0)


@mistake("the mean of an answer's tokens is taken, not their sum", caught_by=whole_answers)
def mean_of_tokens(better, worse, ref_better, ref_worse, beta):
    return dpo_loss(better, worse, ref_better, ref_worse, beta / better.shape[-1])


@mistake("−log σ is taken of each pair of tokens: sum over an answer's tokens first", caught_by=whole_answers)
def token_by_token(better, worse, ref_better, ref_worse, beta):
    return np.logaddexp(0, -beta * (better - ref_better - (worse - ref_worse))).mean()


@mistake("exp overflows where the difference is large", caught_by=large_differences)
def overflowing(better, worse, ref_better, ref_worse, beta):
    d = rewards(better, ref_better, beta) - rewards(worse, ref_worse, beta)
    with np.errstate(over="ignore", divide="ignore"):
        return -np.log(1 / (1 + np.exp(-d))).mean()


MISTAKES = (without_reference, exchanged, beta_outside, mean_of_tokens, token_by_token, overflowing)
