"""Tokens to text while they are written: whole characters only, up to a stop string."""

REPLACEMENT = "\ufffd"                  # what stands for bytes that are no character (yet)


def pieces(tokens, tokenizer):
    """Yield the text of token ids as they come, one piece a token at most; joined it is the text of all of them.

    Bytes at the end that may be the beginning of a character wait for the rest of it, and so does whatever else a tokenizer
    says the next token may change: where a letter is a token, the last syllable. All tokens so far are decoded at each step,
    since what a token is may depend on those before it: little work beside a network.
    """
    settled = getattr(tokenizer, "settled", whole_characters)
    ids, given = [], 0                                       # given: characters that were yielded
    for token in tokens:
        ids.append(token)
        whole = settled(tokenizer.decode(ids))
        if len(whole) > given:
            yield whole[given:]
            given = len(whole)
    rest = tokenizer.decode(ids)[given:] if ids else ""
    if rest:
        yield rest


def whole_characters(text):
    return text.rstrip(REPLACEMENT)


def until_stop(pieces, stop):
    """Yield the text of the pieces up to the first of the strings `stop`; what may be the beginning of one waits."""
    if "" in stop:
        raise ValueError("a stop string is empty: it would stop everything before it begins")
    held = ""
    for piece in pieces:
        held += piece
        places = [held.find(s) for s in stop if s in held]
        if places:
            held = held[:min(places)]
            break
        waits = max((n for s in stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
        if len(held) > waits:
            yield held[:len(held) - waits]
            held = held[len(held) - waits:]
    if held:
        yield held
