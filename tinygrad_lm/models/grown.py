"""A trained model with more tokens than it was trained with: role tokens, for a base model that is to learn to chat."""
from dataclasses import replace

from ..text.chat import ROLE_TOKENS, template_of
from ..text.tokenizer_json import with_added
from .transformer import GPT


def ready_to_chat(model, tokenizer, *, rng):
    """(model, tokenizer, ChatTemplate): as they are, where the tokenizer has a template's marks; else with role tokens."""
    try:
        return model, tokenizer, template_of(tokenizer)
    except ValueError:
        tokenizer = with_added(tokenizer, ROLE_TOKENS.marks)
        return grown(model, len(tokenizer), rng=rng), tokenizer, ROLE_TOKENS


def grown(model, vocab_size, *, rng):
    """A GPT on the CPU with the same weights, and rows for tokens up to `vocab_size` in its embedding and head; the model
    itself where it has as many.

    A new row is the mean of the old ones (Hewitt 2021 [HEWITT]), with a little of N(0, 0.02²) to tell the new tokens apart:
    so a new token's score is about the mean of the old scores, and takes next to nothing from tokens that the model expects.
    A row drawn as in a new model would score about 0, more than most tokens that a trained model rules out.
    """
    more = vocab_size - model.config.vocab_size
    if more <= 0:
        return model
    larger = GPT(replace(model.config, vocab_size=vocab_size), rng=rng).to(model.wte.weight.dtype)
    new = larger.state_dict()                                        # its own arrays, to be written into
    for name, old in model.state_dict().items():
        new[name][:len(old)] = old
        if len(new[name]) > len(old):                                # (V, C)
            new[name][len(old):] = old.mean(0) + rng.normal(0, 0.02, (more, old.shape[1]))
    return larger
