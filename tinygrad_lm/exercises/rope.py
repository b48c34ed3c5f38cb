"""Positions as angles.

Attention compares a question with a key by their product, and does not know where in the text they stand. Rotary
positions [ROPE] turn both, by an angle that grows with the position p: the product of the two then depends on their
distance alone.

The D numbers of a question or key are D/2 points in a plane. In this library, as in LLaMA, number i is one coordinate of
point i and number i + D/2 the other one, for i from 0 to D/2 − 1. Point i at position p is turned by

    p · θᵢ    with    θᵢ = theta^(−2i/D)

so that point 0 turns by 1 radian from one position to the next, and the later ones ever more slowly. To turn the point
(a, b) by an angle φ is (a cos φ − b sin φ, b cos φ + a sin φ).
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "First make a table of angles, (T, D/2), with a row for each position: positions[:, None] is a column.",
    "half = D // 2; angles = positions[:, None] * theta ** (-np.arange(half) / half), since 2i/D is i/half.",
    "a = x[:, :half] and b = x[:, half:]. Both are needed for both results: write into a new array, not over a.",
    "np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)",
)


def rope(x, positions, theta):
    """Every row of x turned by the angles of its position, float (T, D).

    x: float (T, D), questions or keys, D even; positions: int (T,), not always 0 to T − 1; theta: a number above 1
    """
    half = x.shape[1] // 2
    angles = positions[:, None] * theta ** (-np.arange(half) / half)            # (T, D/2)
    cos, sin, a, b = np.cos(angles), np.sin(angles), x[:, :half], x[:, half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


ANSWER = rope

T, D = st.shared(st.integers(1, 2), key="T"), st.shared(st.sampled_from((2, 4, 6)), key="D")
X, THETA = numbers(st.tuples(T, D)), st.sampled_from((16.0, 10000.0))
places = lambda draw: T.flatmap(lambda n: st.lists(draw, min_size=n, max_size=n)).map(np.array)


@holds("At position 0 nothing turns", x=X, positions=places(st.just(0)), theta=THETA)
def zero_stays(answer, x, positions, theta):
    return answer(x, positions, theta), x


@holds("Of two numbers, (1, 0) at position p becomes (cos p, sin p)", positions=places(st.integers(0, 3)))
def one_point(answer, positions):
    return answer(np.eye(2)[0 * positions], positions, 16.0), np.stack([np.cos(positions), np.sin(positions)], -1)


@holds("Number i turns with number i + D/2, as the real and imaginary part of a number that is multiplied by exp(i p θᵢ)",
       x=X, positions=places(st.integers(0, 3)), theta=THETA)
def complex_numbers(answer, x, positions, theta):
    half = x.shape[1] // 2
    points = x[:, :half] + 1j * x[:, half:]
    for i in range(half):
        points[:, i] *= np.exp(1j * positions * theta ** (-2 * i / x.shape[1]))
    return answer(x, positions, theta), np.concatenate([points.real, points.imag], -1)


@holds("The product of a question and a key that stand 3 apart is the same wherever they stand",
       q=numbers((1, 4)), k=numbers((1, 4)), position=st.integers(0, 9))
def distance_alone(answer, q, k, position):
    at = lambda p: (answer(q, np.array([p + 3]), 16.0) * answer(k, np.array([p]), 16.0)).sum()
    return at(position), at(0)


PROPERTIES = (zero_stays, one_point, complex_numbers, distance_alone)


def slip(*, first=0, angle=lambda i, half: -i / half, sign=1, given=True, written_over=False, interleaved=False):
    """rope with slips: other positions, other angles, a sign, a taken too late, other pairs."""
    def answer(x, positions, theta):
        half = x.shape[1] // 2
        p = positions if given else np.arange(len(x))
        angles = (p[:, None] + first) * theta ** angle(np.arange(half), half)
        cos, sin = np.cos(angles), sign * np.sin(angles)
        a, b = (x[:, ::2], x[:, 1::2]) if interleaved else (x[:, :half], x[:, half:])
        turned = a * cos - b * sin
        pair = turned, b * cos + (turned if written_over else a) * sin
        return np.stack(pair, -1).reshape(x.shape) if interleaved else np.concatenate(pair, -1)
    return answer


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("positions are counted from 1: the first is 0", zero_stays, slip(first=1)),
    ("the positions that are given are not used: a text that is read on does not begin at 0", zero_stays, slip(given=False)),
    ("the sign: it turns backwards", one_point, slip(sign=-1)),
    ("a is written over before b is turned: the second formula needs the old a", one_point, slip(written_over=True)),
    ("numbers 2i and 2i + 1 are turned together; here it is i and i + D/2", complex_numbers, slip(interleaved=True)),
    ("all points turn at the same speed: θᵢ depends on i", complex_numbers, slip(angle=lambda i, half: 0.0 * i)),
    ("the exponent is −i/D: point i has θᵢ = theta^(−2i/D)", complex_numbers, slip(angle=lambda i, half: -i / (2 * half))),
    ("the exponent's sign: later points turn more slowly, not faster", complex_numbers,
     slip(angle=lambda i, half: i / half)),
))
