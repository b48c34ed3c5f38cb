"""Self-Instruct (Wang et al. 2023 [SELFINSTRUCT]): from a few instructions a model makes more, and learns from them.

A round: the model proposes instructions and answers them; what is new enough and well formed joins the pool, from which the
next round begins. Nobody looks at the answers. Ours can be judged afterwards (text/instructions.py), so what share of it
is wrong is a number here.
"""
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..text.batches import pack
from ..text.conversations import Example, conversation, render
from ..text.instructions import obeys, understood
from ..text.rouge import rouge_l
from .instruct import ask, complete
from .run import Run
from .sft import sft

SIMILAR = 0.7                           # ROUGE-L to anything in the pool from which on an instruction is no new one


@dataclass(frozen=True)
class Kept:
    """An instruction of the pool with its answer, and how near the nearest was when it came (1: it was given)."""
    text: str
    answer: str
    similarity: float = 1.0


# ---- the loop --------------------------------------------------------------------------------------------------------

def self_instruct(seeds, propose, answer, *, rounds, proposals):
    """(what was kept of all rounds, [the counts of a round]): `seeds` is a list of (instruction, answer).

    propose(pool, n) gives n texts, None where one was not ended; answer(texts) an answer to each, or None. The pool is a
    list of Kept, the seeds first.
    """
    pool, history = [Kept(text, answer) for text, answer in seeds], []
    for _ in range(rounds):
        texts = propose(pool, proposals)
        kept, counts = keep(texts, [k.text for k in pool], answer)
        pool += kept
        history.append(counts | judged(kept))
    return pool[len(seeds):], history


def keep(texts, known, answer, *, similar=SIMILAR):
    """([Kept], {"proposed", "unfinished", "empty", "similar", "unanswered", "kept"}: how many): the filter of a round.

    A text is compared with all that are `known` and with those kept before it ([SELFINSTRUCT] section 2.2).
    """
    known, new, counts = list(known), [], Counter()
    for text in texts:
        why = "unfinished" if text is None else "empty" if not text.strip() else None
        if why is None:
            nearest = max((rouge_l(text, other) for other in known), default=0.0)
            why = "similar" if nearest >= similar else None
        if why is None:
            new.append((text, nearest))
            known.append(text)
        counts[why] += 1
    answers = answer([text for text, _ in new]) if new else []
    kept = [Kept(text, a, nearest) for (text, nearest), a in zip(new, answers, strict=True) if a and a.strip()]
    whys = ("unfinished", "empty", "similar")
    return kept, {"proposed": len(texts)} | {why: counts[why] for why in whys} | {"unanswered": len(new) - len(kept),
                                                                                  "kept": len(kept)}


def judged(kept):
    """{"known": those that a checker understands, "wrong": those of them whose answer it refuses}"""
    found = [(understood(k.text), k.answer) for k in kept]
    known = [(instruction, a) for instruction, a in found if instruction]
    return {"known": len(known), "wrong": sum(not obeys(instruction, a) for instruction, a in known)}


# ---- with a model ----------------------------------------------------------------------------------------------------

def learn(model, tokenizer, template, pairs, config, *, rng, also_asking=False):
    """Fine-tune on (instruction, answer) pairs; `also_asking`: on what the user says, too, which makes a model that asks."""
    T = model.config.block_size
    examples = [render(conversation(*pair), tokenizer, template, room=T + 1) for pair in pairs]
    if also_asking:
        examples = [Example(e.ids, np.ones(len(e.ids), bool), e.whole) for e in examples if e]
    data = pack([e for e in examples if e], T)
    sft(model, data, data, config, rng=rng, run=Run())


def proposer(model, tokenizer, template, *, rng, temperature=1.0):
    """propose(pool, n) by a model that `learn`ed to ask: it writes on behind a user's role token. (GPT-3 was shown eight of
    the pool and went on with the list; a model as small as ours does not learn from its context.)"""
    start, end = template.begin(tokenizer, "user"), tokenizer.id_of(template.end)

    def propose(pool, n):
        return complete(model, tokenizer, [start] * n, end=end, rng=rng, max_new_tokens=48, temperature=temperature)
    return propose


def answerer(model, tokenizer, template, *, rng):
    """answer(texts), the likeliest to each."""
    return lambda texts: ask(model, tokenizer, template, texts, rng=rng)
