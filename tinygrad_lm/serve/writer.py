"""What is served: a model that writes, and says of each token how probable it was and what else it might have been."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..generate import draw, log_normalise, next_logprobs
from ..models.named import NAMES, find, published_template
from ..models.network import load_network
from ..models.reader import Reader
from ..models.transformer import GPT
from ..text.chat import template_of
from ..text.streaming import pieces, until_stop


class Token(NamedTuple):
    """A token that was written: its bytes, log p under the model itself (nothing scaled, nothing ruled out), and the
    likeliest in its place, [(bytes, log p)]. `start` is the place in the answer of the first character it is part of."""
    text: bytes
    logprob: float
    others: list
    start: int


class Writer:
    """A GPT, its tokenizer, and what it takes to ask it. `template` is None where the model was not tuned to chat, and
    `why_no_chat` then says so. One answer at a time: the cache is one."""

    def __init__(self, name, network, tokenizer, *, template=None, why_no_chat=None, start, end, context=2048):
        self.name, self.tokenizer, self.template, self.why_no_chat = name, tokenizer, template, why_no_chat
        self.start, self.context, self.network = int(start), min(context, network.config.block_size), network
        self.ends = set() if tokenizer.decode([end]) else {int(end)}     # a line's end, which is visible, is not the text's
        self.reader = Reader(network, self.context)

    def chat_ids(self, messages):
        """The ids of a conversation, [(role, text)], up to where the assistant's answer begins."""
        if self.template is None:
            raise ValueError(self.why_no_chat)
        t = self.template
        if t.system and messages[0][0] != "system":
            messages = [("system", t.system), *messages]
        said = [i for role, text in messages for i in t.message(self.tokenizer, role, text)]
        return said + t.begin(self.tokenizer, "assistant")

    def prompt_ids(self, prompt):
        """The ids of a text; the token that starts a text, where it is empty."""
        return self.tokenizer.encode(prompt).tolist() or [self.start]

    def bytes_of(self, i):
        token = self.tokenizer.token(int(i))
        return token if isinstance(token, bytes) else token.encode()


class Answer:
    """One answer to a request (requests.py), while it is written. Iterating gives (text, tokens); `go_on()` is called before
    each token and each part of the prompt, and raises when the answer is wanted no more. Afterwards `reason` says
    why it ended: "stop", or "length"."""

    def __init__(self, writer, asked, rng, go_on):
        self.writer, self.asked, self.rng, self.go_on = writer, asked, rng, go_on
        self.ids, self.new, self.reason = [], [], "stop"

    def __iter__(self):
        length = 0                                                       # characters that were given out
        for text in until_stop(pieces(self.write(), self.writer.tokenizer), self.asked.stop):
            length += len(text)
            ready = [token for token in self.new if token.start < length]
            self.new = self.new[len(ready):]
            yield text, ready

    def write(self):
        """Yield the ids of the answer before its end."""
        w, asked = self.writer, self.asked
        ends = w.ends | ({w.tokenizer.id_of(w.template.end)} if asked.chat else set())
        V, before = len(w.tokenizer), 0                                  # the model's own vocabulary may be larger
        written = np.zeros(V)                                            # how often each token is in the answer
        for _ in range(min(asked.max_tokens, w.context - len(asked.ids))):
            scores = w.reader.scores_after([*asked.ids, *self.ids], self.go_on)[:, :V]         # (1, V)
            logp = next_logprobs(penalised(scores, written, asked), asked.temperature, top_p=asked.top_p)
            token = int(draw(logp, self.rng)[0] if asked.temperature else logp[0].argmax())
            if token in ends:
                return
            self.ids.append(token)
            written[token] += 1
            length = len(w.tokenizer.decode(self.ids))
            self.new.append(self.measured(token, scores[0], min(before, max(0, length - 1))))
            before = length
            yield token
        self.reason = "length"

    def measured(self, token, scores, start):
        """The token, and the likeliest in its place, as many as were asked for, with the model's own probabilities."""
        n, name = self.asked.alternatives, self.writer.bytes_of
        logp = log_normalise(scores.astype(np.float64))                                       # (V,)
        best = np.argsort(-logp, kind="stable")[:n] if n else []
        return Token(name(token), float(logp[token]), [(name(i), float(logp[i])) for i in best], start)


def penalised(scores, written, asked):
    """Scores (1, V) of which `presence_penalty` is taken once from each token that was written, and `frequency_penalty` as
    often as it was."""
    if not (asked.presence_penalty or asked.frequency_penalty):
        return scores
    less = asked.presence_penalty * (written > 0) + asked.frequency_penalty * written         # (V,)
    return (scores - less).astype(scores.dtype)


def load_writer(name, *, context=2048, device="cpu", change=lambda network: network):
    """A Writer of a checkpoint, run folder, folder in Hugging Face's layout, GGUF file, or name that models/named.py knows;
    `change(network)` is what becomes of its network before it is used."""
    path = find(str(name))
    model = load_network(path)
    if not isinstance(model.network, GPT):
        raise ValueError(f"{path} holds a {type(model.network).__name__}, and what is served is a GPT")
    try:
        template, why = template_of(model.tokenizer, published_template(path)), None
    except ValueError as error:
        template, why = None, f"{error}. It continues texts: ask /v1/completions"
    return Writer(short_name(name), change(model.network).to(device), model.tokenizer, template=template, why_no_chat=why,
                  start=model.start, end=model.end, context=context)


def short_name(name):
    """What clients call the model: a name of models/named.py, or the last part of a path that says something."""
    path = Path(name)
    if str(name) in NAMES:
        return str(name)
    path = path.resolve()
    return path.parent.name if path.name == "checkpoint.safetensors" else path.stem if path.is_file() else path.name
