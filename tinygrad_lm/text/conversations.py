"""Conversations to learn from: read from a file, and written as ids with a mask that says which of them are learned."""
from typing import NamedTuple

import numpy as np

from .chat import ROLES
from .jsonl import read_jsonl, text_of


class Message(NamedTuple):
    role: str
    content: str


# ---- files -----------------------------------------------------------------------------------------------------------

def read_conversations(path):
    """The conversations, lists of Message, of a JSONL file, an item a line in either form of `conversation_of`; a ValueError
    names file, line and field."""
    return read_jsonl(path, conversation_of, like='{"messages": …} or {"instruction": …}')


def conversation_of(item):
    """The messages of an item, a dict: of a chat, {"messages": [{"role", "content"}, …]}, or Alpaca's {"instruction",
    "input", "output"} [ALPACA], of which the input may be empty or left out."""
    if "messages" not in item:
        return conversation(text_of(item, "instruction"), text_of(item, "output"), more=item.get("input", ""))
    messages = item["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise ValueError(f'"messages" is a list of {{"role": …, "content": …}}, not {str(messages)[:40]}')
    return [message_of(m, f"messages[{i}].") for i, m in enumerate(messages)]


def message_of(item, where):
    role, content = (text_of(item, field, where=where) for field in ("role", "content"))
    if role not in ROLES:
        raise ValueError(f'"{where}role" is one of {", ".join(ROLES)}, not {role!r}')
    return Message(role, content)


def conversation(instruction, answer, *, more=""):
    """One instruction and its answer; `more` is what the instruction is about, on a line of its own."""
    if not isinstance(more, str):
        raise ValueError(f'"input" is a text, not {more!r}')
    return [Message("user", f"{instruction}\n{more}" if more else instruction), Message("assistant", answer)]


# ---- ids and masks ---------------------------------------------------------------------------------------------------

class Example(NamedTuple):
    """A conversation as tokens: ids int (T,); learned bool (T,), whether a token is to be predicted; whether all of the
    answers are in it."""
    ids: np.ndarray
    learned: np.ndarray
    whole: bool


def render(messages, tokenizer, template, *, room=None):
    """The Example of a conversation, of at most `room` tokens; None where nothing of it would be learned.

    Learned are the tokens of every answer and the mark that ends it (as Vicuna does [VICUNA]): what a user says, the role
    tokens and what the template writes are only read. A conversation that is too long loses whole turns from its end. Where
    not even its first answer fits, that one is cut, within its text, and without the mark, which would teach to stop there.
    """
    ids, learned, end = [], [], 0                                        # end: of the last whole answer that fits
    for role, content in messages:
        if role != "assistant":
            ids += template.message(tokenizer, role, content)
            learned += [False] * (len(ids) - len(learned))
            continue
        head, answer = template.begin(tokenizer, role), tokenizer.encode(content).tolist()
        mark, *tail = template.close(tokenizer)
        ids += [*head, *answer, mark]
        learned += [False] * len(head) + [True] * (len(answer) + 1)
        if room is None or len(ids) <= room:
            end = len(ids)
        ids += tail
        learned += [False] * len(tail)
    if not end:
        end = room if any(learned[:room]) else 0
    return Example(np.array(ids[:end]), np.array(learned[:end]), not any(learned[end:])) if end else None


def render_all(conversations, tokenizer, template, *, room=None):
    """([Example], what became of the conversations: {"whole": how many, "shortened": …, "dropped": …})"""
    rendered = []
    for number, messages in enumerate(conversations, 1):
        try:
            rendered.append(render(messages, tokenizer, template, room=room))
        except ValueError as error:
            raise ValueError(f"conversation {number} cannot be written in this model's tokens: {error}. Byte pairs write "
                             "everything: pretrain --text with --tokenizer, which `tinygrad-lm tokenizer train` "
                             "makes") from None
    examples = [e for e in rendered if e is not None]
    whole = sum(e.whole for e in examples)
    return examples, {"whole": whole, "shortened": len(examples) - whole, "dropped": len(rendered) - len(examples)}
