"""Talking with a model: it reads what is new, answers token by token, and keeps what it has read for the next question."""
import numpy as np

from ..generate import draw, next_logprobs, penalise, seen_tokens
from ..text.streaming import pieces
from .reader import Reader


LAST = 64                               # tokens of the answer that are not readily said again


class Conversation:
    """Questions and answers under a ChatTemplate, over a KV cache with room for `context` tokens.

    system: what the model is told first; where it is None, what the template says. An answer has at most `max_new_tokens`.
    Where a question and its answer might not fit behind what was said, the oldest questions and answers are forgotten, until
    what stays fills half of the room at most; the system message always stays. The draws come from `rng`; see
    `generate.stream` for temperature, top_k and top_p, and `repeated_less` for repetition: small models go in circles.
    """

    def __init__(self, model, tokenizer, template, *, rng, system=None, context=2048, max_new_tokens=512, temperature=0.7,
                 top_k=None, top_p=None, repetition=1.0):
        self.tokenizer, self.template, self.rng = tokenizer, template, rng
        self.room, self.max_new_tokens = min(context, model.config.block_size), max_new_tokens
        self.choice, self.repetition = (temperature, top_k, top_p), repetition
        system = template.system if system is None else system
        self.system = template.message(tokenizer, "system", system) if system else []
        self.turns = []                                  # ids of each question with its answer, a list
        self.reader = Reader(model, self.room)

    def ask(self, question):
        """Yield the answer in pieces of text, as it is written. To stop early, close the generator: the answer so far is
        what the model has said."""
        t = self.template
        turn = [*t.message(self.tokenizer, "user", question), *t.begin(self.tokenizer, "assistant")]
        close = t.close(self.tokenizer)
        self.make_room(len(turn) + self.max_new_tokens + len(close), question=len(turn))
        self.turns.append(turn)
        try:
            yield from pieces(self.answer(turn, end=close[0]), self.tokenizer)
        finally:
            turn += close

    def answer(self, turn, *, end):
        """Yield the tokens of an answer before the token `end`; each joins the turn."""
        start = len(turn)
        for _ in range(self.max_new_tokens):
            token = self.next_token(turn[start:])
            if token == end:
                return
            turn.append(token)
            yield token

    def make_room(self, needed, *, question):
        """Forget the oldest turns, if what is to come would not fit."""
        if len(self.system) + needed > self.room:
            raise ValueError(f"the question takes {question:,} tokens, the system message {len(self.system):,} and the "
                             f"answer up to {self.max_new_tokens:,}, and the context has {self.room:,}: shorten the "
                             "question, or allow a longer context or shorter answers")
        if len(self.ids()) + needed <= self.room:
            return
        while self.turns and (len(self.ids()) > self.room // 2 or len(self.ids()) + needed > self.room):
            del self.turns[0]

    def ids(self):
        """All that was said, a list of ids."""
        return sum(self.turns, self.system)

    def next_token(self, said):
        """Read what the cache does not hold yet, and draw what comes next in the answer, of which `said` are the ids so
        far."""
        scores = self.reader.scores_after(self.ids())                              # (1, V)
        logp = next_logprobs(repeated_less(scores, said[-LAST:], self.repetition), *self.choice)
        return int(draw(logp, self.rng)[0] if self.choice[0] else logp[0].argmax())


def repeated_less(scores, said, penalty):
    """Scores (1, V) in which tokens that were `said` are less likely. 1 changes nothing."""
    if penalty == 1 or not said:
        return scores
    return penalise(scores, seen_tokens(np.array([said]), None, scores.shape[-1]), penalty)
