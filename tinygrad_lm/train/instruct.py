"""A base model that knows what the instructions ask for; asking a model many things at once; how often it obeys."""
import re
from collections import defaultdict

import numpy as np

from ..generate import generate
from ..models import GPT, GPTConfig
from ..text import names
from ..text.batches import Packed, pack, pad_left
from ..text.instructions import LANGUAGES, facts, instructions, obeys
from ..text.letters import LetterTokenizer
from ..text.stories import paragraphs, stories
from .pretrain import pretrain

AT_ONCE = 128                           # prompts that are answered as one batch


# ---- the base model --------------------------------------------------------------------------------------------------

def base_texts(held_out, *, n_names=4000):
    """What the base model reads, in random order: stories in both languages, and lines about words (`instructions.facts`),
    names and the words of the Korean stories among them, but none of those that `held_out` asks about."""
    english = [name for name in names.load_names()[:n_names] if 3 <= len(name) <= 6]
    korean = dict.fromkeys(w for w in re.findall("[가-힣]+", stories("ko")) if 2 <= len(w) <= 3)
    texts = facts(held_out, others=[*(("en", w) for w in english), *(("ko", w) for w in korean)])
    texts += [p for language in LANGUAGES for p in paragraphs(stories(language))]
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def tokenizer_for(texts):
    """Letters, Hangul's too, that spell the texts and every instruction."""
    return LetterTokenizer.from_text("\n".join([*texts, *(i.text + i.answer for part in instructions() for i in part)]))


def base_model(texts, tokenizer, config, *, block_size, width, seed, run):
    """A GPT pretrained on the texts, each with an end token around it and at position 0 of its own, several in a row."""
    data = pack([piece for text in texts for piece in pieces(text, tokenizer, block_size)], block_size)
    some = Packed(data.idx[:64], data.targets[:64], data.documents[:64])                      # the log shows their loss
    model = GPT(GPTConfig(len(tokenizer), block_size, n_layer=3, n_head=4, n_embd=width), rng=np.random.default_rng(seed))
    pretrain(model, data, some, config, rng=np.random.default_rng(seed), run=run)
    return model


def pieces(text, tokenizer, block_size):
    """[(ids, learned)] of a text with an end token around it, cut into what a model can read: all of it is learned."""
    ids = np.array([tokenizer.end, *tokenizer.encode(text), tokenizer.end])
    parts = [ids[i:i + block_size + 1] for i in range(0, len(ids) - 1, block_size)]
    return [(part, np.ones(len(part), bool)) for part in parts]


# ---- asking it -------------------------------------------------------------------------------------------------------


def ask(model, tokenizer, template, texts, *, rng, max_new_tokens=32, temperature=0.0):
    """The answer to each text as a user's message; None where the model did not end it. Temperature 0 draws nothing."""
    begin = template.begin(tokenizer, "assistant")
    prompts = [[*template.message(tokenizer, "user", text), *begin] for text in texts]
    return complete(model, tokenizer, prompts, end=tokenizer.id_of(template.end), rng=rng, max_new_tokens=max_new_tokens,
                    temperature=temperature)


def complete(model, tokenizer, prompts, *, end, rng, max_new_tokens=32, temperature=0.0):
    """What follows each prompt, a list of ids, up to the token `end`: texts, None where it was not written."""
    out = []
    for start in range(0, len(prompts), AT_ONCE):
        idx, mask = pad_left(prompts[start:start + AT_ONCE], 0)
        written = generate(model, idx, max_new_tokens, rng=rng, temperature=temperature, end=end, mask=mask)
        answers = written.tokens[:, idx.shape[1]:].tolist()
        out += [tokenizer.decode(a[:a.index(end)]) if ended else None for a, ended in zip(answers, written.ended)]
    return out


def obedience(instructions, answers):
    """{(kind, language): share of right answers}, and of all of them under "all"."""
    right = defaultdict(list)
    for instruction, answer in zip(instructions, answers, strict=True):
        for key in ((instruction.kind, instruction.language), "all"):
            right[key].append(obeys(instruction, answer))
    return {key: float(np.mean(found)) for key, found in right.items()}
