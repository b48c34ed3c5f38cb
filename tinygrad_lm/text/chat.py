"""A conversation as one text, the way chat models have learned to read it: ChatML, where special tokens mark every message.

    <|im_start|>user
    What is the capital of France?<|im_end|>

The marks are tokens of their own, which no text can spell: what a user types stays inside their message.
"""
import re
from typing import NamedTuple

START, END = "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")


class ChatTemplate(NamedTuple):
    """What the marks are, and what the model is told first where the user tells it nothing (None: no such message)."""
    start: str = START
    end: str = END
    system: str | None = None

    def message(self, tokenizer, role, text):
        """The ids of one whole message, a list."""
        return [*self.begin(tokenizer, role, text), *self.close(tokenizer)]

    def begin(self, tokenizer, role, text=""):
        """The ids of a message that goes on: what the assistant continues, if `text` is empty."""
        if role not in ROLES:
            raise ValueError(f"a message is of one of {', '.join(ROLES)}, not of {role!r}")
        return [tokenizer.id_of(self.start), *tokenizer.encode(f"{role}\n{text}").tolist()]

    def close(self, tokenizer):
        """The ids that end a message."""
        return [tokenizer.id_of(self.end), *tokenizer.encode("\n").tolist()]


def template_of(tokenizer, source=None):
    """The template for a tokenizer that has ChatML's marks, with the first message that the model's own template, `source`,
    gives where there is none (the Jinja text of its chat_template; only that message is taken from it)."""
    marks = {token.text for token in tokenizer.added.values()} if hasattr(tokenizer, "added") else set()
    if not {START, END} <= marks:
        raise ValueError(f"this model's tokenizer has no tokens {START} and {END}: it was not tuned to chat in a way that "
                         "is known here (ChatML)")
    found = re.search(re.escape(START) + r"system(?:\n|\\n)([^{}'\"]+?)" + re.escape(END), source or "")
    return ChatTemplate(system=found and found[1])
