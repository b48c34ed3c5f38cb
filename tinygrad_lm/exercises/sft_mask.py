"""What a chat teaches.

A conversation is one row of tokens. A mark opens each message and says who speaks; another one ends it:

    <|user|> 7 8 <|end|> <|assistant|> 5 6 <|end|> <|user|> 9 <|end|> <|assistant|> 4 <|end|>

In this exercise <|end|> is 0, <|user|> 1 and <|assistant|> 2; all other tokens are text. Token t is to predict token
t + 1, so that a conversation of T tokens has T − 1 targets. A target counts only where the assistant writes the predicted
token itself: the text of *every* answer, and the <|end|> after it, for a model must learn to stop. The user's messages and
both opening marks are only read. There the target is −100, which the loss leaves out.
"""
import numpy as np
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "First forget the shift: for each token of the row, did the assistant write it?",
    "That depends on the latest opening mark, at or before the token. The opening marks themselves nobody learns.",
    "With learned, a list of T booleans, the shift comes last: np.where(learned[1:], ids[1:], ignore).",
    "A loop that remembers who speaks: for token in ids: if token is user or assistant, the speaker is that token and it is "
    "not learned; otherwise it is learned if the speaker is the assistant.",
)


def chat_targets(ids, *, user=1, assistant=2, ignore=-100):
    """The target of each token but the last: the next token where it is learned, and `ignore` where not.

    ids: int (T,), a conversation, T ≥ 2; returns int (T − 1,)
    """
    opens = (ids == user) | (ids == assistant)
    began = np.maximum.accumulate(np.where(opens, np.arange(len(ids)), 0))          # where the message of each token opens
    learned = (ids[began] == assistant) & ~opens
    return np.where(learned[1:], ids[1:], ignore)


ANSWER = chat_targets

TEXT = st.lists(st.integers(3, 9), min_size=1, max_size=2)
TURN = st.tuples(TEXT, TEXT).map(lambda turn: [1, *turn[0], 0, 2, *turn[1], 0])      # a question and its answer
turns = lambda least, most: st.lists(TURN, min_size=least, max_size=most).map(lambda turns: np.array(sum(turns, [])))


def token_by_token(ids):
    """The same by hand: an answer begins after its mark and goes on to its end."""
    targets, answering = [], False
    for now, following in zip(ids.tolist(), ids.tolist()[1:]):
        answering = now == 2 or answering and now != 0
        targets.append(following if answering else -100)
    return np.array(targets)


@holds("Of one question and its answer, the answer and its end are learned", ids=turns(1, 1))
def one_turn(answer, ids):
    return answer(ids), token_by_token(ids)


@holds("Of a longer conversation, every answer is learned", ids=turns(2, 3))
def every_turn(answer, ids):
    return answer(ids), token_by_token(ids)


@holds("A message of the user alone teaches nothing", ids=TEXT.map(lambda text: np.array([1, *text, 0])))
def question_alone(answer, ids):
    return answer(ids), np.full(len(ids) - 1, -100)


PROPERTIES = (one_turn, every_turn, question_alone)


@mistake("the user's messages are learned as well: the model learns to ask", caught_by=one_turn)
def all_of_it(ids):
    return ids[1:]


@mistake("the end of an answer is not learned: the model will not stop", caught_by=one_turn)
def endless(ids):
    targets = chat_targets(ids)
    return np.where(targets == 0, -100, targets)


@mistake("the mask is that of the tokens read, not of the tokens predicted: it has to be shifted with the targets",
         caught_by=one_turn)
def unshifted(ids):
    learned = np.append(-100, chat_targets(ids)) != -100
    return np.where(learned[:-1], ids[1:], -100)


@mistake("the mark that opens an answer is learned: the program writes that one, not the model", caught_by=one_turn)
def opening(ids):
    return np.where(ids[1:] == 2, 2, chat_targets(ids))


@mistake("all that follows the first opening mark of an answer is learned, the later questions, too", caught_by=every_turn)
def from_the_first_on(ids):
    return np.where(np.arange(len(ids) - 1) >= np.argmax(ids == 2), ids[1:], -100)


@mistake("only the first answer is learned", caught_by=every_turn)
def first_turn(ids):
    targets = chat_targets(ids)
    return np.where(np.arange(len(targets)) <= np.flatnonzero(targets == 0)[:1], targets, -100)


MISTAKES = (all_of_it, endless, unshifted, opening, from_the_first_on, first_turn)
