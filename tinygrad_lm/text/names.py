"""The task of the road: a model that names. `^k5>` asks for a name of five letters that begins with k."""
from importlib.resources import files
from string import ascii_lowercase

import numpy as np

from .batches import Rows, answer_mask, next_tokens, pad_right
from .char import CharTokenizer

SHORTEST, LONGEST = 3, 8                        # lengths that a prompt may ask for
PROMPT_LENGTH = 4                               # ^ letter digit >
MAX_ANSWER = 12                                 # tokens that an answer may have, its end token included
tokenizer = CharTokenizer("^>" + ascii_lowercase + "345678")


def load_names():
    """32,000 given names, most frequent first (US Social Security Administration; see data/README.md)."""
    lines = (files("tinygrad_lm") / "data" / "names.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0] for line in lines]


def split_names(names, *, held_out=0.1, seed=0):
    """(names to train on, names kept apart for validation), shuffled."""
    order = np.random.default_rng(seed).permutation(len(names))
    n = int(len(names) * held_out)
    return [names[i] for i in order[n:]], [names[i] for i in order[:n]]


def prompt_for(name):
    """The prompt that this name answers."""
    return f"^{name[0]}{len(name)}>"


def can_ask_for(name):
    return SHORTEST <= len(name) <= LONGEST


def prompts_from(names):
    """The prompts of those names that one can ask for, as tokens int (N, PROMPT_LENGTH)."""
    return np.array([tokenizer.encode(prompt_for(n)) for n in names if can_ask_for(n)])


def plain_rows(names):
    """Names as they are, `^kevin` and the end token, every token to be predicted: for pretraining."""
    tokens = pad_right([[*tokenizer.encode("^" + n), tokenizer.end] for n in names], tokenizer.pad)
    return Rows(*next_tokens(tokens, answer_mask(tokens, 1, tokenizer.end)))


def instruction_rows(names):
    """`^k5>kevin` and the end token, only the answer to be predicted: for instruction fine-tuning."""
    tokens = pad_right([[*tokenizer.encode(prompt_for(n) + n), tokenizer.end] for n in names if can_ask_for(n)],
                       tokenizer.pad)
    return Rows(*next_tokens(tokens, answer_mask(tokens, PROMPT_LENGTH, tokenizer.end)))


def read_answers(tokens):
    """(prompts, answers) as text from (B, T) tokens; an answer without its end token is None."""
    prompts = [tokenizer.decode(row) for row in tokens[:, :PROMPT_LENGTH]]
    mask = answer_mask(tokens, PROMPT_LENGTH, tokenizer.end)
    ended = ((tokens == tokenizer.end) & mask).any(-1)
    return prompts, [tokenizer.decode(row[m]) if e else None for row, m, e in zip(tokens, mask, ended)]


def obeys(prompt, answer):
    """Did the answer begin with the letter and have the length that the prompt asked for?"""
    return answer is not None and answer.isalpha() and answer[:1] == prompt[1] and len(answer) == int(prompt[2])
