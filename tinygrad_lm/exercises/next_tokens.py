"""A text is its own teacher.

To learn to predict, a model needs questions and answers, and a text has both: the answer to each token is the token
after it. A long text of L tokens is cut into examples of T tokens, one behind the other. With T = 3:

    text     7 2 5 9 4 1 8 6
    inputs   7 2 5    9 4 1
    targets  2 5 9    4 1 8

Inputs lie edge to edge, with no token left out and none read twice; targets are the same stretches one token later. As
many examples are cut as have all their targets: N = (L − 1) // T. What is left at the end of the text, here the 6, is
not used.
"""
import numpy as np
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "How many examples have all their targets? The last target needs one token more than the inputs.",
    "N = (len(ids) - 1) // T. The first N·T tokens are the inputs; which N·T tokens are the targets?",
    "ids[1:N * T + 1], for the targets begin one token later. reshape(N, T) makes rows of a stretch.",
    "return ids[:N * T].reshape(N, T), ids[1:N * T + 1].reshape(N, T)",
)


def next_tokens(ids, T):
    """(inputs, targets), both int (N, T).

    ids: int (L,), a text of T + 1 tokens at least; T: tokens of an example
    """
    N = (len(ids) - 1) // T
    return ids[:N * T].reshape(N, T), ids[1:N * T + 1].reshape(N, T)


ANSWER = next_tokens


@st.composite
def texts(draw, least=1, most=3):
    """T, and a text that is enough for `least` to `most` examples. Its tokens count up from 10, and tell their places."""
    T = draw(st.integers(1, 3))
    return T, 10 + np.arange(draw(st.integers(least * T + 1, most * T + T)))


@holds("A text of T + 1 tokens is one example: all but its last token, and all but its first", T=st.integers(1, 3))
def one_example(answer, T):
    ids = 10 + np.arange(T + 1)
    return answer(ids, T), (ids[None, :-1], ids[None, 1:])


@holds("Inputs lie edge to edge from the beginning of the text", text=texts())
def edge_to_edge(answer, text):
    T, ids = text
    rows = [ids[start:start + T] for start in range(0, len(ids) - T, T)]
    return answer(ids, T)[0], np.array(rows)


@holds("A target is the token that comes after its input", text=texts())
def one_later(answer, text):
    T, ids = text
    inputs, targets = answer(ids, T)
    after = dict(zip(ids.tolist(), ids[1:].tolist()))
    return targets, np.array([[after[token] for token in row] for row in np.asarray(inputs).tolist()])


@holds("A text may have a token several times, and what comes after it is another one each time",
       ids=st.lists(st.integers(0, 2), min_size=3, max_size=7).map(np.array))
def any_text(answer, ids):
    n = (len(ids) - 1) // 2
    return answer(ids, 2), tuple(np.array([ids[2 * i + first:2 * i + first + 2] for i in range(n)]) for first in (0, 1))


PROPERTIES = (one_example, edge_to_edge, one_later, any_text)


def windows(starts, later=1):
    """An answer with examples from starts(L, T) on, and targets so many tokens later; its text is a ring."""
    def answer(ids, T):
        at = np.array(starts(len(ids), T), int)[:, None] + np.arange(T)
        return ids[at % len(ids)], ids[(at + later) % len(ids)]
    return answer


every = lambda L, T: range(0, L - T, T)

MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("the targets are the inputs: a model would learn to repeat the token it sees", one_example, windows(every, 0)),
    ("the targets are the tokens *before* the inputs", one_example, windows(every, -1)),
    ("the targets are two tokens later", one_example, windows(every, 2)),
    ("the last example's last target is the first token of the text: without a token after it, an example is not used",
     one_example, windows(lambda L, T: range(0, L - T + 1, T))),
    ("N is L // T, and where T divides L the last example lacks its last target", one_example,
     lambda ids, T: tuple(ids[first:len(ids) // T * T + first].reshape(-1, T) for first in (0, 1))),
    ("examples begin T + 1 tokens apart: the token at each border is never read, and that after it never predicted",
     edge_to_edge, windows(lambda L, T: range(0, L - T, T + 1))),
    ("examples begin at every token, and overlap", edge_to_edge, windows(lambda L, T: range(L - T))),
    ("the last example is lost where the text ends right with its last target", one_example,
     windows(lambda L, T: range(0, L - T - 1, T))),
))
