"""The same prompts again and again while a model learns: what it makes of them shows what a loss does not."""
import numpy as np

from ..generate import generate
from ..text.batches import Rows
from . import road

LONGEST = 600                           # characters of a text that are shown


def writer(tokenizer, prompts, *, n, end=None, seed=0):
    """f(model) -> [[prompt, text]]: what the model writes after each of the prompts, ids (T,), in up to n tokens and up to
    the token `end`. The draws are the same each time, and nobody else's."""
    def write(model):
        texts = []
        for i, ids in enumerate(prompts):
            written = generate(model, np.asarray(ids)[None], n, rng=np.random.default_rng([seed, i]), end=end)
            answer = written.tokens[0, len(ids):].tolist()
            answer = answer[:answer.index(end)] if written.ended[0] else answer
            texts.append([tokenizer.decode(ids), tokenizer.decode(answer)[:LONGEST]])
        return texts
    return write


def scorer(tokenizer, tokens):
    """f(reward model) -> [[answer, score]] of the answers int (N, T), each with its prompt."""
    mask = road.mask_of(tokens)
    kept = mask.copy()
    kept[:, :road.PROMPT_LENGTH] = True
    answers = [tokenizer.decode(row[m]) for row, m in zip(tokens, kept)]

    def score(model):
        return [[answer, f"{s:+.2f}"] for answer, s in zip(answers, road.learned_scores(model, tokens))]
    return score


def source_writer(source, *, seed):
    """The writer for what a text/source.py gives: names of its own, or what follows three places in the held-out text."""
    if isinstance(source.data, Rows):
        begin, end = source.tokenizer.encode("^"), source.tokenizer.end
        return writer(source.tokenizer, [begin] * 5, n=road.MAX_ANSWER, end=end, seed=seed)
    beginnings = next(source.held_out.chunks(3))[0][:, :12]
    return writer(source.tokenizer, beginnings, n=120, seed=seed)


def asked(examples):
    """The prompts of conversations (ids, learned, …): all that comes before the first answer."""
    return [ids[:learned.argmax()] for ids, learned, *_ in examples]
