"""How much better was this token than expected?

In PPO each token of an answer is an action. Token t brings a reward rₜ, and a value model has said, before it was written,
how much reward would still come: Vₜ. Each step may surprise it by

    δₜ = rₜ + γ Vₜ₊₁ − Vₜ

and the advantage of token t is that surprise and those that follow, each counting less by γλ (generalised advantage
estimation [GAE], eq. 16):

    Âₜ = δₜ + γλ δₜ₊₁ + (γλ)² δₜ₊₂ + …

The mask m is 1 on the tokens of the answer, which stand in one piece, and 0 before and after it. Beyond its last token
there is nothing: no reward and no value, whatever numbers stand there. Advantages outside of the mask are 0.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Write Âₜ with Âₜ₊₁ in it. Then one pass over the columns is enough; in which direction?",
    "Âₜ = δₜ + γλ Âₜ₊₁, so begin at the last column, where what follows is 0: for t in reversed(range(T)).",
    "Vₜ₊₁ is 0 where column t + 1 is beyond the answer: multiply it by m there, and Âₜ by m at t.",
    "delta = rewards[:, t] + gamma * next_value - values[:, t]; following = (delta + gamma * lam * following) * m[:, t]; "
    "advantages[:, t] = following; next_value = values[:, t] * m[:, t]",
)


def gae(rewards, values, m, gamma, lam):
    """The advantages of every token, float (B, T).

    rewards, values: float (B, T); m: float (B, T), 1 on the answer and 0 elsewhere; gamma, lam: numbers from 0 to 1
    """
    advantages = np.zeros_like(rewards)
    following = next_value = 0
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * m[:, t]
        advantages[:, t], next_value = following, values[:, t] * m[:, t]
    return advantages


ANSWER = gae


SHAPE = st.shared(st.tuples(st.integers(1, 2), st.integers(1, 4)), key="shape")


@st.composite
def masks(draw):
    """In each row one piece of ones; what the text has elsewhere is any number."""
    m = np.zeros(draw(SHAPE))
    for row in m:
        first, last = sorted(draw(st.tuples(*2 * [st.integers(0, len(row) - 1)])))
        row[first:last + 1] = 1
    return m


TEXT = dict(rewards=numbers(SHAPE), values=numbers(SHAPE), m=masks())
FACTOR = st.sampled_from((0.5, 1.0))


def later(x, k=1):
    """What stands k places further on, and 0 beyond the end."""
    return np.pad(x[:, k:], ((0, 0), (0, k)))


def by_definition(rewards, values, m, gamma, lam):
    """The sum of equation 16, written out."""
    V = values * m
    surprises = (rewards + gamma * later(V) - V) * m
    return m * sum((gamma * lam) ** k * later(surprises, k) for k in range(m.shape[1]))


@holds("With λ = 0 an advantage is the surprise of its own step", **TEXT, gamma=FACTOR, lam=st.just(0.0))
def one_step(answer, **inputs):
    return answer(**inputs), by_definition(**inputs)


@holds("With γ = λ = 1 it is the rewards to come less the value", **TEXT, gamma=st.just(1.0), lam=st.just(1.0))
def all_that_comes(answer, rewards, values, m, gamma, lam):
    to_come = (rewards * m)[:, ::-1].cumsum(-1)[:, ::-1]
    return answer(rewards, values, m, gamma, lam), (to_come - values) * m


@holds("In between, every later surprise counts γλ times the one before it", **TEXT, gamma=FACTOR, lam=st.just(0.5))
def discounted(answer, **inputs):
    return answer(**inputs), by_definition(**inputs)


PROPERTIES = (one_step, all_that_comes, discounted)


@mistake("λ is forgotten: what follows is discounted by γ alone", caught_by=one_step)
def without_lambda(rewards, values, m, gamma, lam):
    return gae(rewards, values, m, gamma, 1.0)


@mistake("after the answer's last token the value of the padding is counted: nothing comes there", caught_by=one_step)
def past_the_end(rewards, values, m, gamma, lam):
    return gae(rewards + gamma * later(values * (1 - m)), values, m, gamma, lam)


@mistake("Vₜ and Vₜ₊₁ are exchanged in the surprise", caught_by=one_step)
def exchanged(rewards, values, m, gamma, lam):
    V = values * m
    return gae(rewards + gamma * V - later(V), 0 * V, m, gamma, lam)


@mistake("the loop runs forwards: an advantage gathers surprises that came before its token", caught_by=all_that_comes)
def forwards(rewards, values, m, gamma, lam):
    surprises = gae(rewards, values, m, gamma, 0.0)
    return gae(surprises[:, ::-1], 0 * values, m[:, ::-1], gamma, lam)[:, ::-1]


@mistake("the mask is applied to the result alone: what stands beyond the end has already leaked in", caught_by=one_step)
def masked_last(rewards, values, m, gamma, lam):
    return gae(rewards, values, np.ones_like(m), gamma, lam) * m


MISTAKES = (without_lambda, past_the_end, exchanged, forwards, masked_last)
