"""From sequences of tokens to rectangles that a model reads: padding, masks, targets shifted by one, random batches."""
import numpy as np

IGNORE = -100                                   # a target that counts for nothing


def pad_right(sequences, pad):
    """Sequences of different length as one array int (B, T), T the longest."""
    out = np.full((len(sequences), max(map(len, sequences))), pad, np.int64)
    for row, s in zip(out, sequences):
        row[:len(s)] = s
    return out


def pad_left(sequences, pad):
    """(tokens int (B, T), mask bool (B, T) of what is no padding): each sequence ends in the last column, for writing on."""
    T = max(map(len, sequences))
    lengths = np.array([len(s) for s in sequences])
    mask = np.arange(T) >= T - lengths[:, None]
    tokens = np.full(mask.shape, pad, np.int64)
    tokens[mask] = np.concatenate(sequences)
    return tokens, mask


def answer_mask(tokens, prompt_length, end):
    """True on the answer: after the prompt, up to and including the first end token. (B, T) -> bool (B, T)

    Without an end token every sequence is answer to its last column.
    """
    answer = np.arange(tokens.shape[1]) >= prompt_length
    ends = (tokens == end) & answer
    return answer & (ends.cumsum(-1) - ends == 0)              # no end token strictly before this one


def last_token(mask):
    """The index of the last True of each row: bool (B, T) -> int (B,)"""
    return mask.shape[1] - 1 - mask[:, ::-1].argmax(-1)


def next_tokens(tokens, mask):
    """(inputs, targets), both (B, T − 1): each token is to predict the next one, where that one is in the mask."""
    return tokens[:, :-1], np.where(mask[:, 1:], tokens[:, 1:], IGNORE)


class Rows:
    """Examples of their own, one a row: inputs and targets int (N, T)."""

    def __init__(self, idx, targets):
        self.idx, self.targets = idx, targets

    def sample(self, rng, batch_size):
        """A random batch (inputs, targets), both (batch_size, T)."""
        return self._at(rng.integers(len(self.idx), size=batch_size))

    def chunks(self, batch_size):
        """Everything once, in order."""
        for i in range(0, len(self.idx), batch_size):
            yield self._at(slice(i, i + batch_size))

    def _at(self, rows):
        return self.idx[rows], self.targets[rows]


class Packed(Rows):
    """Rows of several examples each; documents int (N, T) says which of a row's examples a token belongs to, from 1 on, and
    0 that it is padding. `sample` and `chunks` give (inputs, targets, documents)."""

    def __init__(self, idx, targets, documents):
        super().__init__(idx, targets)
        self.documents = documents

    def _at(self, rows):
        return *super()._at(rows), self.documents[rows]

    @property
    def filled(self):
        """The share of places that are no padding."""
        return float((self.documents > 0).mean())


OPEN = 64                                       # rows with room that an example looks at before it begins one of its own


def pack(examples, T, *, pad=0):
    """Examples (ids, learned, …), of at most T + 1 tokens, in as few rows of T places as first fit finds: Packed.

    Each example is shifted before it is laid down, so that none predicts the next one's beginning.
    """
    rows, room = [], []                                        # examples of each row; places that it has left
    for ids, learned, *_ in examples:
        if len(ids) > T + 1:
            raise ValueError(f"an example of {len(ids)} tokens does not fit a row of {T} places and the token after it")
        n = len(ids) - 1
        fits = (r for r in range(max(0, len(rows) - OPEN), len(rows)) if room[r] >= n)
        r = next(fits, len(rows))
        if r == len(rows):
            rows.append([])
            room.append(T)
        rows[r].append(next_tokens(np.array([ids]), np.array([learned])))
        room[r] -= n
    idx, targets, documents = (np.full((len(rows), T), fill, np.int64) for fill in (pad, IGNORE, 0))
    for r, row in enumerate(rows):
        end = 0
        for number, (i, t) in enumerate(row, 1):
            at = slice(end, end := end + i.shape[1])
            idx[r, at], targets[r, at], documents[r, at] = i[0], t[0], number
    return Packed(idx, targets, documents)


class Windows:
    """One long text: an example is any stretch of T tokens, and the same stretch one token later."""

    def __init__(self, ids, T):
        if len(ids) < T + 1:
            raise ValueError(f"the text has {len(ids)} tokens and an example takes {T + 1}: give more text or a smaller "
                             "block")
        self.ids, self.T = ids, T

    def sample(self, rng, batch_size):
        return self._at(rng.integers(len(self.ids) - self.T, size=batch_size))

    def chunks(self, batch_size):
        starts = np.arange(0, len(self.ids) - self.T, self.T)
        for i in range(0, len(starts), batch_size):
            yield self._at(starts[i:i + batch_size])

    def _at(self, starts):
        window = self.ids[starts[:, None] + np.arange(self.T + 1)]
        return window[:, :-1], window[:, 1:]
