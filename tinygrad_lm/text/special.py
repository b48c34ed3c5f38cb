"""Special tokens: what stands in a text and no text can spell, such as the mark that ends a message."""
from dataclasses import dataclass


@dataclass(frozen=True)
class AddedToken:
    """A token that stands outside the model: found in the text before anything else looks at it."""
    id: int
    text: str
    special: bool = True                        # text spells it only where that is asked for; decoding leaves it out
    normalized: bool = False                    # it is looked for after the text was normalised
    lstrip: bool = False                        # it swallows the white space to its left, or right
    rstrip: bool = False


def id_of(token, added):
    """The id of a token by its text, among `added` {id: AddedToken}."""
    for i, known in added.items():
        if known.text == token:
            return i
    raise ValueError(f"{token!r} is not among the tokenizer's added tokens: "
                     f"{', '.join(repr(t.text) for t in added.values()) or 'none'}")
