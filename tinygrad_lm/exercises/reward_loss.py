"""The loss of a reward model.

A person has read two answers to the same prompt and chosen one. A reward model gives each a number, r⁺ to the chosen one
and r⁻ to the other. By Bradley and Terry [BT] it thereby says how probable that choice was:

    p = σ(r⁺ − r⁻)        σ(d) = 1 / (1 + exp(−d))

It is trained to find the choices of people probable. Its loss is the mean of −log p over all pairs. A margin m ≥ 0 asks for
more where the better answer is plainly better [LLAMA2]:

    loss = mean of −log σ(r⁺ − r⁻ − m)

Differences of thousands happen. exp(1000) is infinite, but the loss at a difference of −1000 is 1000: find a way to
compute it that stays finite.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Let d = r⁺ − r⁻ − m. Write −log(1 / (1 + exp(−d))) without the fraction.",
    "It is log(1 + exp(−d)). For a d far below 0 that is −d plus almost nothing; the detour through exp must be avoided.",
    "NumPy can compute log(exp(a) + exp(b)) safely: np.logaddexp(a, b). Which a makes exp(a) = 1?",
    "np.logaddexp(0, -(chosen - rejected - margin)).mean()",
)


def reward_loss(chosen, rejected, margin=0.0):
    """The mean over pairs of −log σ(chosen − rejected − margin), a number.

    chosen, rejected: float (N,), the rewards of both answers of each pair; margin: a number, or float (N,)
    """
    return np.logaddexp(0, -(chosen - rejected - margin)).mean()


ANSWER = reward_loss

sigmoid = lambda d: 1 / (1 + np.exp(-d))
REWARDS = numbers(st.shared(st.integers(1, 3), key="pairs"))


@holds("Two equal rewards are a coin's throw, which costs log 2", chosen=REWARDS)
def a_coin(answer, chosen):
    return answer(chosen, chosen), np.log(2)


@holds("It is the mean of −log p over the pairs", chosen=REWARDS, rejected=REWARDS)
def mean_of_surprises(answer, chosen, rejected):
    return answer(chosen, rejected), -np.log(sigmoid(chosen - rejected)).mean()


@holds("A margin is the same as so much less for the chosen answer", chosen=REWARDS, rejected=REWARDS,
       margin=st.sampled_from((0.5, 1.0, 2.0)))
def margin_is_asked_for(answer, chosen, rejected, margin):
    return answer(chosen, rejected, margin), -np.log(sigmoid(chosen - margin - rejected)).mean()


@holds("Large differences cost 0 where they are right and their size where they are wrong",
       chosen=st.sampled_from((-1000.0, 1000.0)).map(lambda r: np.array([r])), rejected=st.just(np.array([0.0])))
def large_differences(answer, chosen, rejected):
    return answer(chosen, rejected), max(0.0, -chosen[0])


PROPERTIES = (a_coin, mean_of_surprises, margin_is_asked_for, large_differences)


@mistake("the two answers are exchanged: this loss is small where the rejected answer has the higher reward",
         caught_by=mean_of_surprises)
def exchanged(chosen, rejected, margin=0.0):
    return reward_loss(rejected, chosen, margin)


@mistake("the losses of the pairs are summed: it is their mean", caught_by=a_coin)
def summed(chosen, rejected, margin=0.0):
    return reward_loss(chosen, rejected, margin) * len(chosen)


@mistake("the margin is added: that asks for less, not for more", caught_by=margin_is_asked_for)
def margin_added(chosen, rejected, margin=0.0):
    return reward_loss(chosen, rejected, -margin)


@mistake("exp overflows where the difference is large", caught_by=large_differences)
def overflowing(chosen, rejected, margin=0.0):
    with np.errstate(over="ignore", divide="ignore"):
        return -np.log(sigmoid(chosen - rejected - margin)).mean()


@mistake("the log is missing: this is 1 − p, which hardly punishes a model that is surely wrong", caught_by=a_coin)
def without_log(chosen, rejected, margin=0.0):
    return (1 - np.exp(-np.logaddexp(0, -(chosen - rejected - margin)))).mean()


MISTAKES = (exchanged, summed, margin_added, overflowing, without_log)
