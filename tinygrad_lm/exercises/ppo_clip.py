"""A step of PPO that is never too long.

A policy π_old has written answers, and each of their tokens has an advantage A: was it better than expected (A > 0) or worse
(A < 0)? The policy π that learns from them should make the better ones more probable, but stay near π_old, for it is π_old's
tokens that were judged. With ρ = π / π_old, the ratio of a token's probabilities, PPO maximises ([PPO] eq. 7)

    the smaller of  ρ A  and  clip(ρ, 1 − ε, 1 + ε) A

so that nothing more can be gained by moving ρ beyond 1 ± ε. What has moved there the *wrong* way is still pulled back: that
is why it is the smaller of the two. A loss is minimised, so it is minus that gain. Its mean is over the tokens of answers:
the mask m is 1 on those, and 0 on prompts and padding.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "You are given logarithms. The ratio of two probabilities is exp of a difference of logarithms; of which to which?",
    "ρ = np.exp(new - old). The gain of a token: np.minimum(ratio * A, np.clip(ratio, 1 - clip, 1 + clip) * A).",
    "Sum the gain over what the mask lets through, divide by how many tokens that is, and turn the sign: "
    "-(gain * m).sum() / m.sum()",
)


def policy_loss(new, old, advantages, m, clip):
    """Minus the mean over answer tokens of min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), a number.

    new, old: float (B, T), log probabilities of the tokens under π and π_old; advantages: float (B, T);
    m: float (B, T), 1 on answers and 0 elsewhere, not all 0; clip: ε, a number
    """
    ratio = np.exp(new - old)
    gain = np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages)
    return -(gain * m).sum() / m.sum()


ANSWER = policy_loss

LOG = st.integers(-3, 0).map(float)
RHO = st.shared(st.sampled_from((2.0, 4.0, 0.5, 0.25)), key="rho")
UPWARDS = RHO.map(lambda rho: float(np.sign(rho - 1)))               # 1 where ρ has risen, −1 where it has fallen
one = lambda number: np.array([[number]])
SHAPE = st.shared(st.tuples(st.integers(1, 2), st.integers(2, 3)), key="shape")


@st.composite
def masks(draw):
    """Of one or two answers the first may be a token shorter."""
    m = np.ones(draw(SHAPE))
    m[0, -1] = draw(st.sampled_from((0.0, 1.0)))
    return m


@holds("The policy that wrote the answers has minus the mean advantage as its loss", old=numbers(SHAPE, LOG),
       advantages=numbers(SHAPE))
def no_step_yet(answer, old, advantages):
    return answer(old, old, advantages, np.ones_like(old), 0.25), 0 - advantages.mean()


@holds("Whoever goes the right way gains A for each unit of ρ, up to 1 ± ε and no further", rho=RHO, A=UPWARDS)
def enough_is_enough(answer, rho, A):
    return answer(one(np.log(rho)), one(0.0), one(A), one(1.0), 0.25), -(1 + A * 0.25) * A


@holds("Whoever has gone the wrong way is still pulled back", rho=RHO, A=UPWARDS.map(lambda sign: -sign))
def pulled_back(answer, rho, A):
    return answer(one(np.log(rho)), one(0.0), one(A), one(1.0), 0.25), -rho * A


@holds("It is the mean over the tokens of answers, of what each costs alone", new=numbers(SHAPE, LOG),
       old=numbers(SHAPE, LOG), advantages=numbers(SHAPE), m=masks(), clip=st.just(0.25))
def mean_over_answers(answer, new, old, advantages, m, clip):
    tokens = zip(*map(np.ravel, (new, old, advantages, m)))
    return answer(new, old, advantages, m, clip), np.mean([answer(*map(one, token), clip) for token in tokens if token[-1]])


PROPERTIES = (no_step_yet, enough_is_enough, pulled_back, mean_over_answers)


@mistake("the ratio is upside down: it is π / π_old", caught_by=enough_is_enough)
def upside_down(new, old, advantages, m, clip):
    return policy_loss(old, new, advantages, m, clip)


@mistake("the sign: a loss is minimised, so it is minus the gain", caught_by=no_step_yet)
def sign(new, old, advantages, m, clip):
    return -policy_loss(new, old, advantages, m, clip)


@mistake("the larger of the two gains is taken: then nothing stops the step", caught_by=enough_is_enough)
def larger(new, old, advantages, m, clip):
    return -policy_loss(new, old, -advantages, m, clip)


@mistake("only the clipped ratio is used: beyond 1 ± ε the gradient is 0 on the wrong side, too, and nothing pulls back",
         caught_by=pulled_back)
def clipped_alone(new, old, advantages, m, clip):
    return -(np.clip(np.exp(new - old), 1 - clip, 1 + clip) * advantages * m).sum() / m.sum()


@mistake("the smaller ratio is taken, not the smaller gain: with A < 0 it gains more", caught_by=enough_is_enough)
def smaller_ratio(new, old, advantages, m, clip):
    ratio = np.exp(new - old)
    return -(np.minimum(ratio, np.clip(ratio, 1 - clip, 1 + clip)) * advantages * m).sum() / m.sum()


@mistake("nothing is clipped", caught_by=enough_is_enough)
def unclipped(new, old, advantages, m, clip):
    return -(np.exp(new - old) * advantages * m).sum() / m.sum()


@mistake("the mean is over all places, with padding counted as tokens", caught_by=mean_over_answers)
def over_padding(new, old, advantages, m, clip):
    return policy_loss(new, old, advantages, m, clip) * m.sum() / m.size


MISTAKES = (upside_down, sign, larger, clipped_alone, smaller_ratio, unclipped, over_padding)
