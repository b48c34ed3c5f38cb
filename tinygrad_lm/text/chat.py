"""A conversation as one text, the way chat models have learned to read it: special tokens mark every message.

ChatML, which SmolLM2 and many others read, writes the role behind the mark; a model trained here has a mark for each role:

    <|im_start|>user
    What is the capital of France?<|im_end|>                  <|user|>What is the capital of France?<|end|>

The marks are tokens of their own, which no text can spell: what a user types stays inside their message.
"""
import re
from typing import NamedTuple

ROLES = ("system", "user", "assistant")


class ChatTemplate(NamedTuple):
    """What stands around a message: the tokens `start`, in which {role} is the message's, and `end`, and what is written
    behind each of them. `system` is what the model is told first where the user tells it nothing (None: no such message)."""
    start: str = "<|im_start|>"
    head: str = "{role}\n"
    end: str = "<|im_end|>"
    tail: str = "\n"
    system: str | None = None

    @property
    def marks(self):
        """The special tokens that a tokenizer must have."""
        return [*dict.fromkeys(self.start.format(role=role) for role in ROLES), self.end]

    def message(self, tokenizer, role, text):
        """The ids of one whole message, a list."""
        return [*self.begin(tokenizer, role, text), *self.close(tokenizer)]

    def begin(self, tokenizer, role, text=""):
        """The ids of a message that goes on: what the assistant continues, if `text` is empty."""
        if role not in ROLES:
            raise ValueError(f"a message is of one of {', '.join(ROLES)}, not of {role!r}")
        written = self.head.format(role=role) + text
        return [tokenizer.id_of(self.start.format(role=role)), *tokenizer.encode(written).tolist()]

    def close(self, tokenizer):
        """The ids that end a message."""
        return [tokenizer.id_of(self.end), *tokenizer.encode(self.tail).tolist()]


CHATML = ChatTemplate()
ROLE_TOKENS = ChatTemplate(start="<|{role}|>", head="", end="<|end|>", tail="")


def template_of(tokenizer, source=None):
    """The template whose marks a tokenizer has. Of ChatML, with the first message that the model's own template, `source`,
    gives where there is none (the Jinja text of its chat_template; only that message is taken from it)."""
    has = {token.text for token in getattr(tokenizer, "added", {}).values()}
    if has.issuperset(ROLE_TOKENS.marks):
        return ROLE_TOKENS
    if not has.issuperset(CHATML.marks):
        raise ValueError(f"this model's tokenizer has no tokens {CHATML.start} and {CHATML.end} (ChatML), nor one for each "
                         "role: it was not tuned to chat in a way that is known here (tinygrad-lm sft --data does it)")
    found = re.search(re.escape(CHATML.start) + r"system(?:\n|\\n)([^{}'\"]+?)" + re.escape(CHATML.end), source or "")
    return CHATML._replace(system=found and found[1])
