"""A few hundred instructions in English and Korean, each with a checker, so that obedience is a number.

What is asked, of which words, and how, was written by hand (data/instructions.txt); the answers are computed here. A word is
either learned or held out, in all that is asked about it.
"""
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from .conversations import conversation
from .jamo import FIRST, LAST, decompose

LANGUAGES = ("en", "ko")
NAMES = {"en": "Gram", "ko": "그램"}
ANSWERS = {                                     # of what can be computed from the word
    "repeat": lambda word: word,
    "backwards": lambda word: word[::-1],
    "count": lambda word: str(len(word)),
    "first": lambda word: word[0],
    "capitals": str.upper}
KINDS = (*ANSWERS, "opposite", "name")


class Instruction(NamedTuple):
    kind: str
    language: str
    word: str                                   # that it is about; "" where it asks for the name
    text: str
    answer: str
    right: tuple                                # all answers that are right

    def conversation(self):
        """As messages to learn from, or to ask."""
        return conversation(self.text, self.answer)

    def to_dict(self):
        """As a line of Alpaca's JSONL, and what kind it is."""
        return {"instruction": self.text, "input": "", "output": self.answer, "kind": self.kind, "language": self.language}


def obeys(instruction, answer):
    """Is it what was asked for? White space around it and a full stop behind do not count; an answer without its end (None)
    is none. To be asked for the name, any sentence will do that says it."""
    if answer is None:
        return False
    if instruction.kind == "name":
        return any(re.search(rf"\b{name}(?![a-z])", answer) for name in instruction.right)
    return answer.strip().removesuffix(".") in instruction.right


# ---- the set ---------------------------------------------------------------------------------------------------------

def instructions(*, words=50, held_out=0.2, seed=0):
    """(to learn from, held out): lists of Instruction; each kind that asks about any word is asked about so many `words`.

    Held out are words, pairs of opposites and ways to ask for the name that no instruction to learn from has.
    """
    rng = np.random.default_rng(seed)
    learned, kept = [], []
    for language in LANGUAGES:
        for out, group in zip((learned, kept), zip(*(split(items, held_out, rng) for items in material(language)))):
            share = held_out if out is kept else 1 - held_out
            known, pairs, names = group
            for kind in ANSWERS:
                if f"ask.{kind}.{language}" in source():
                    chosen = rng.permutation(known)[:round(words * share)].tolist()
                    out += [ask(kind, language, word, ANSWERS[kind](word), rng) for word in chosen]
            out += [ask("opposite", language, a, b, rng) for pair in pairs for a, b in (pair, pair[::-1])]
            out += [ask_for_name(language, text) for text in names]
    return learned, kept


def material(language):
    """(words, pairs of opposites, ways to ask for the name), lists, as they were written."""
    return (source()[f"words.{language}"].split(), [tuple(p.split("-")) for p in source()[f"opposites.{language}"].split()],
            source()[f"ask.name.{language}"].split("|"))


def split(items, share, rng):
    """(the others, a random `share` of the items)"""
    items = [items[i] for i in rng.permutation(len(items))]
    n = round(len(items) * share)
    return items[n:], items[:n]


def ask(kind, language, word, answer, rng):
    """The Instruction, in one of the ways to put it."""
    text = with_particles(rng.choice(source()[f"ask.{kind}.{language}"].split("|")), word)
    return Instruction(kind, language, word, text, answer, (answer,))


def ask_for_name(language, text):
    answer = source()[f"answer.name.{language}"]
    return Instruction("name", language, "", text, answer, (NAMES[language],))


def understood(text):
    """The Instruction that a text, which anyone may have written, is; None where it is none of those that can be judged."""
    for language in LANGUAGES:
        if text in source()[f"ask.name.{language}"].split("|"):
            return ask_for_name(language, text)
        opposites = {a: b for pair in material(language)[1] for a, b in (pair, pair[::-1])}
        for kind in (*ANSWERS, "opposite"):
            for template in filter(None, source().get(f"ask.{kind}.{language}", "").split("|")):
                word = word_in(template, text)
                answer = word and (opposites.get(word) if kind == "opposite" else ANSWERS[kind](word))
                if answer:
                    return Instruction(kind, language, word, text, answer, (answer,))
    return None


def word_in(template, text):
    """The word that a template was filled with to become the text, or None."""
    pattern = re.escape(template).replace(r"\{word\}", r"(\w+)", 1).replace(r"\{을\}", "[을를]").replace(r"\{은\}", "[은는]")
    found = re.fullmatch(pattern, text)
    return found and found[1]


def with_particles(template, word):
    """The template with the word in it, and behind a Korean one the particle that its last letter asks for: 물을, 나무를."""
    closed = FIRST <= word[-1] <= LAST and decompose(word[-1])[2] != ""
    return template.format(word=word, 을="을" if closed else "를", 은="은" if closed else "는")


# ---- what a base model may read beforehand ---------------------------------------------------------------------------

def facts(held_out, *, others=(), often=5, seed=0):
    """Lines such as `cat: backwards tac.` and `cat: letters 3.`, in random order: what the instructions ask for, not how.

    There is one of every kind about every word but those of the instructions `held_out`, of the list and of `others`
    (language, word); and about all opposites, each `often` times: that no instruction mentions a pair does not mean that no
    text does.
    """
    rng, apart = np.random.default_rng(seed), {i.word for i in held_out}
    lines = []
    for language in LANGUAGES:
        words, pairs, _ = material(language)
        known = dict.fromkeys(w for w in [*words, *(w for lang, w in others if lang == language)] if w not in apart)
        lines += [fact(kind, language, word) + f"{answer(word)}." for word in known for kind, answer in ANSWERS.items()
                  if f"fact.{kind}.{language}" in source()]
        lines += [fact("opposite", language, a) + f"{b}." for pair in pairs for a, b in (pair, pair[::-1])] * often
    return [lines[i] for i in rng.permutation(len(lines))]


def fact(kind, language, word):
    """The beginning of such a line, which asks for the rest."""
    return f"{word}: {source()[f'fact.{kind}.{language}']} "


@cache
def source():
    """{name: the rest of the line} of data/instructions.txt"""
    lines = (files("tinygrad_lm") / "data" / "instructions.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)
